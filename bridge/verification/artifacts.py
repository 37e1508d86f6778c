"""Artifacts that were made before, compared with their checkpoint again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bridge.artifact.runtimes import TorchRuntime
from bridge.quantization.schemes import FLOAT
from bridge.verification import MIN_SAMPLES
from bridge.verification.clips import JudgedClips, clips_to_judge, compare_on_clips, refuse_guessed
from bridge.verification.compare import compare_artifact, diagnose
from bridge.verification.limits import load_limits
from bridge.verification.raw import RawReference, compare_raw, make_raw_samples
from bridge.verification.samples import (
    Sample,
    describe_samples,
    make_samples,
    open_samples,
    read_sample,
)
from bridge.verification.verdict import FAILED, Verdict
from bridge.verification.weights import judge_weights
from bridge.weights.source import Source
from signbart.artifacts.lengths import carried_lengths, config_at, signature_at
from signbart.artifacts.metadata import carried_raw, read_metadata
from signbart.checksums import ChecksumError, require_checksum
from signbart.configuration.schema import RunConfig
from signbart.errors import ArtifactError, NoMetadataError
from signbart.models.io_spec import KEYPOINTS, LANDMARKS, RAW_SIGNATURE, SIGNATURE
from signbart.models.raw_spec import RawSignature
from signbart.recordings.data_source import DataSource, read_recordings
from signbart.training.calibration import calibrated_among


@dataclass(frozen=True)
class Comparison:
    """What came of it.

    Attributes:
        verdicts: One an artifact and signature.
        tried: The inputs that each was compared on.
        paths: The artifact that each is about.
        settings: How, for reports; ``atol`` is the absolute limit on float32's numbers.
    """

    verdicts: list[Verdict]
    tried: list[Sequence[Sample]]
    paths: list[Path]
    settings: dict[str, Any]


def compare_artifacts(
    source: Source,
    paths: Sequence[Path],
    *,
    data: str | DataSource | None = None,
    inputs: str | Path | None = None,
    samples: int = MIN_SAMPLES,
    seed: int = 0,
    test_signers: Sequence[str] | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    checksum: bool = True,
) -> Comparison:
    """Judges artifacts as their conversion did, and finds the first layer that differs.

    Args:
        source: The checkpoint.
        paths: .tflite, .onnx or .keras files.
        data: Recordings to compare on, beside random inputs.
        inputs: An .npz, whose arrays alone are compared on, by the signature that takes them.
        samples: Inputs per length; see `samples.make_samples`.
        seed: Of the inputs.
        test_signers: Signers of `data` that were not trained on; None: as the checkpoint says.
        atol: Instead of the limit of float32; quantized files are then compared by value, too.
        rtol: See `atol`.
        checksum: Let no artifact pass that is not what its checksum was made of.

    Raises:
        SignBartError: Inputs cannot be read or do not fit. An artifact that cannot be run is no
            exception but a verdict.
    """
    limits = load_limits(FLOAT)
    given = {name: v for name, v in (("atol", atol), ("rtol", rtol)) if v is not None}
    limits = dataclasses.replace(limits, **given)
    recordings = read_recordings(data)
    reference = TorchRuntime(source.model, source.config)
    alone = [read_sample(inputs)] if inputs else None
    takes_raw = bool(alone) and LANDMARKS in alone[0].inputs
    if alone and not takes_raw:
        reference.spec.check_inputs(alone[0].inputs, f"{inputs}: {reference.name}")

    @cache
    def samples_at(frames: int | None) -> list[Sample]:
        config = config_at(source.config, frames)
        return alone or make_samples(config, clips=recordings, samples=samples, seed=seed)

    judged_by = None if alone else recordings
    judged_on: dict[tuple[int | None, int, int], JudgedClips] = {}
    found: list[tuple[Verdict, Sequence[Sample], Path]] = []
    sound = []
    for path in paths:
        try:
            require_checksum(path, checksum)
            _carried(path)
            sound.append(path)
        except (ArtifactError, ChecksumError) as error:
            found.append((Verdict(path.name, FAILED, str(error)), samples_at(None), path))
    for path, metadata, frames, raw in _each_length(sound, source.config, alone):
        scheme, config = str(metadata.get("scheme", FLOAT)), config_at(source.config, frames)
        made, signature = samples_at(frames), signature_at(SIGNATURE, frames)
        seconds, only_raw = [], metadata.get("signature") == RAW_SIGNATURE
        if (takes_raw and raw is None) or (inputs and only_raw and not takes_raw):
            reason = f"it has no signature that takes {' and '.join(made[0].inputs)}"
            found.append((Verdict(path.name, FAILED, reason, scheme), made, path))
            continue
        if raw is not None and (takes_raw or not inputs):
            tried = made if inputs else make_raw_samples(raw, clips=recordings, seed=seed)
            by, name = limits if given else load_limits(scheme), signature_at(RAW_SIGNATURE, frames)
            judged = compare_raw(RawReference(reference, raw), path, tried, by, scheme, name)
            seconds.append((judged, tried, path))
        if only_raw or takes_raw:
            found += seconds
            continue
        if scheme != FLOAT and not given:
            calibration = metadata.get("quantization", {}).get("calibration")
            shown = (0, 0)
            if calibration and judged_by is not None:
                labelled = judged_by.relabel(source.class_names, str(data))
                shown = calibrated_among(labelled, calibration)
            if (frames, *shown) not in judged_on:
                _, judged_on[frames, *shown] = clips_to_judge(
                    dataclasses.replace(source, config=config),
                    reference,
                    made,
                    data,
                    judged_by,
                    test_signers,
                    count=shown[0],
                    seed=shown[1],
                )
            clips, by = judged_on[frames, *shown], load_limits(scheme)
            verdict = compare_on_clips(path, scheme, clips, by, signature)
            verdict = refuse_guessed(verdict, clips, bool(calibration and calibration["random"]))
            compared = clips.samples()
            verdict = diagnose(source.model, path, verdict, compared, by.layer_rms)
        else:
            more = alone or open_samples(
                made, reference.spec.longest, open_length=source.kind.open_length
            )
            verdict, compared = compare_artifact(
                reference, path, made, more, limits, signature=signature
            )
            verdict = diagnose(source.model, path, verdict, compared)
        if frames is None:  # the weights are there once
            verdict = judge_weights(verdict, path, model=source.model)
        origin = metadata.get("checkpoint_sha256", source.sha256)
        if not verdict.passed and origin != source.sha256:
            other = f"it was made from another checkpoint (SHA-256 {origin[:12]}…)"
            verdict = dataclasses.replace(verdict, reason=f"{verdict.reason}; {other}")
        found += [(verdict, compared, path), *seconds]
    made = samples_at(None)
    settings = {"atol": limits.atol, "rtol": limits.rtol, "inputs": len(made), "seed": seed}
    if judged_on:
        sources = dict.fromkeys(clips.source for clips in judged_on.values())
        settings["quantized judged on"] = " and ".join(sources)
    settings |= {
        "reference": str(source.checkpoint),
        "inputs from": describe_samples(made, data),
    }
    verdicts, tried, compared_paths = (list(column) for column in zip(*found, strict=True))
    return Comparison(verdicts, tried, compared_paths, settings)


def _each_length(
    paths: Sequence[Path], config: RunConfig, alone: Sequence[Sample] | None
) -> Iterator[tuple[Path, dict[str, Any], int | None, RawSignature | None]]:
    """Each artifact and its metadata, with the frames of its signatures, and that of raw landmarks.

    Frames are None for its own. Where one input is compared on alone, only those that take its
    number of frames, if there are any.
    """
    for path in paths:
        metadata = _carried(path)
        raw = carried_raw(metadata, config)
        found = [(None, raw)]
        for frames in carried_lengths(metadata, path):
            found.append((frames, raw and raw.at(config_at(config, frames))))
        if alone and LANDMARKS in alone[0].inputs:
            given = np.shape(alone[0].inputs[LANDMARKS])[1:2]
            found = [one for one in found if one[1] and given == (one[1].frames,)] or found[:1]
        elif alone:
            given = np.shape(alone[0].inputs[KEYPOINTS])[1:2]
            found = [one for one in found if given == (one[0],)] or found[:1]
        for frames, raw_at in found:
            yield path, metadata, frames, raw_at


def _carried(path: Path) -> dict[str, Any]:
    """The metadata of an artifact; empty where it carries none, as a .keras does."""
    try:
        return read_metadata(path)
    except NoMetadataError:
        return {}

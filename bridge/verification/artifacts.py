"""Artifacts that were made before, compared with their checkpoint again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.artifact.metadata import carried_raw, read_metadata
from bridge.artifact.runtimes import TorchRuntime
from bridge.errors import BridgeError
from bridge.quantization.schemes import FLOAT
from bridge.verification import MIN_SAMPLES
from bridge.verification.clips import JudgedClips, clips_to_judge, compare_on_clips
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
from signbart.checksums import ChecksumError, require_checksum
from signbart.models.io_spec import LANDMARKS, RAW_SIGNATURE
from signbart.recordings.data_source import DataSource, read_recordings


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
    if inputs:
        made = more = [read_sample(inputs)]
    else:
        made = make_samples(source.config, clips=recordings, samples=samples, seed=seed)
        longest = reference.spec.longest
        more = open_samples(made, longest, open_length=source.kind.open_length)
    takes_raw = bool(inputs) and LANDMARKS in made[0].inputs
    judged_on: dict[tuple[int, int], JudgedClips] = {}
    found: list[tuple[Verdict, Sequence[Sample], Path]] = []
    for path in paths:
        try:
            require_checksum(path, checksum)
        except ChecksumError as error:
            found.append((Verdict(path.name, FAILED, str(error)), made, path))
            continue
        metadata = _carried(path)
        scheme = str(metadata.get("scheme", FLOAT))
        seconds, only_raw = [], metadata.get("signature") == RAW_SIGNATURE
        if (takes_raw and "raw" not in metadata) or (inputs and only_raw and not takes_raw):
            reason = f"it has no signature that takes {' and '.join(made[0].inputs)}"
            found.append((Verdict(path.name, FAILED, reason, scheme), made, path))
            continue
        if "raw" in metadata and (takes_raw or not inputs):
            raw = carried_raw(metadata, source.config)
            tried = made if inputs else make_raw_samples(raw, clips=recordings, seed=seed)
            by = limits if given else load_limits(scheme)
            judged = compare_raw(RawReference(reference, raw), path, tried, by, scheme)
            seconds.append((judged, tried, path))
        if only_raw or takes_raw:
            found += seconds
            continue
        if scheme != FLOAT and not given:
            shown = _calibration(metadata)
            if shown not in judged_on:
                _, judged_on[shown] = clips_to_judge(
                    source,
                    reference,
                    made,
                    data,
                    recordings,
                    test_signers,
                    count=shown[0],
                    seed=shown[1],
                )
            by = load_limits(scheme)
            verdict = compare_on_clips(path, scheme, judged_on[shown], by)
            compared = judged_on[shown].samples()
            verdict = diagnose(source.model, path, verdict, compared, by.layer_rms)
        else:
            verdict, compared = compare_artifact(reference, path, made, more, limits)
            verdict = diagnose(source.model, path, verdict, compared)
        verdict = judge_weights(verdict, path, model=source.model)
        origin = metadata.get("checkpoint_sha256", source.sha256)
        if not verdict.passed and origin != source.sha256:
            other = f"it was made from another checkpoint (SHA-256 {origin[:12]}…)"
            verdict = dataclasses.replace(verdict, reason=f"{verdict.reason}; {other}")
        found += [(verdict, compared, path), *seconds]
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


def _carried(path: Path) -> dict[str, Any]:
    """The metadata of an artifact; empty where it carries none, as a .keras does."""
    try:
        return read_metadata(path)
    except BridgeError:
        return {}


def _calibration(metadata: Mapping[str, Any]) -> tuple[int, int]:
    """How many clips an artifact was calibrated on, and the seed of their choice; 0, 0 of none."""
    record = metadata.get("quantization", {}).get("calibration")
    if not record or record["random"]:
        return 0, 0
    return record["clips"], record["seed"]

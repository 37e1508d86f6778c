"""Artifacts that were made before, compared with their checkpoint again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.artifact.metadata import read_metadata
from bridge.artifact.runtimes import TorchRuntime
from bridge.errors import BridgeError
from bridge.quantization.schemes import FLOAT
from bridge.verification import MIN_SAMPLES
from bridge.verification.clips import JudgedClips, clips_to_judge, compare_on_clips
from bridge.verification.compare import compare_artifact, diagnose
from bridge.verification.limits import load_limits
from bridge.verification.samples import (
    Sample,
    describe_samples,
    make_samples,
    open_samples,
    read_sample,
)
from bridge.verification.verdict import Verdict
from bridge.weights.source import Source
from signbart.recordings.data_source import DataSource, read_recordings


@dataclass(frozen=True)
class Comparison:
    """What came of it.

    Attributes:
        verdicts: One an artifact.
        tried: The inputs that each was compared on.
        settings: How, for reports; ``atol`` is the absolute limit on float32's numbers.
    """

    verdicts: list[Verdict]
    tried: list[Sequence[Sample]]
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
) -> Comparison:
    """Judges artifacts as their conversion did, and finds the first layer that differs.

    Args:
        source: The checkpoint.
        paths: .tflite, .onnx or .keras files.
        data: Recordings to compare on, beside random inputs.
        inputs: An .npz, whose arrays alone are compared on.
        samples: Inputs per length; see `samples.make_samples`.
        seed: Of the inputs.
        test_signers: Signers of `data` that were not trained on; None: as the checkpoint says.
        atol: Instead of the limit of float32; quantized files are then compared by value, too.
        rtol: See `atol`.

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
    judged_on: dict[tuple[int, int], JudgedClips] = {}
    verdicts, tried = [], []
    for path in paths:
        metadata = _carried(path)
        scheme = str(metadata.get("scheme", FLOAT))
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
            verdict = compare_on_clips(path, scheme, judged_on[shown], load_limits(scheme))
            compared = judged_on[shown].samples()
        else:
            verdict, compared = compare_artifact(reference, path, made, more, limits)
            verdict = diagnose(source.model, path, verdict, compared)
        origin = metadata.get("checkpoint_sha256", source.sha256)
        if not verdict.passed and origin != source.sha256:
            other = f"it was made from another checkpoint (SHA-256 {origin[:12]}…)"
            verdict = dataclasses.replace(verdict, reason=f"{verdict.reason}; {other}")
        verdicts.append(verdict)
        tried.append(compared)
    settings = {"atol": limits.atol, "rtol": limits.rtol, "inputs": len(made), "seed": seed}
    if judged_on:
        sources = dict.fromkeys(clips.source for clips in judged_on.values())
        settings["quantized judged on"] = " and ".join(sources)
    settings |= {
        "reference": str(source.checkpoint),
        "inputs from": describe_samples(made, data),
    }
    return Comparison(verdicts, tried, settings)


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

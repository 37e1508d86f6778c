"""Whether artifacts answer the clips of ``golden.json`` as they did when they were made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bridge.artifact.runtimes import FloatView, open_runtime
from bridge.conversion.golden import GOLDEN, answers, raw_answers
from bridge.verification.limits import load_limits
from bridge.verification.verdict import judge
from signbart.artifacts.lengths import carried_lengths, config_at, signature_at
from signbart.artifacts.metadata import carried_config, carried_raw, read_metadata
from signbart.models.io_spec import RAW_SIGNATURE, SIGNATURE


def reproduces(path: Path, golden: Mapping[str, Any]) -> str | None:
    """What is wrong with an artifact's answers, by the limits of its scheme; None if nothing."""
    metadata = read_metadata(path)
    config, labels = carried_config(metadata, path), metadata["labels"]
    if labels != golden["labels"]:
        return f"its labels are others than those of {GOLDEN}"
    raw = carried_raw(metadata, config)
    raw_forms = {RAW_SIGNATURE: raw} if raw else {}
    for frames in carried_lengths(metadata, path):
        shorter = raw.at(config_at(config, frames)) if raw and path.suffix == ".tflite" else None
        if shorter:
            raw_forms[signature_at(RAW_SIGNATURE, frames)] = shorter
    only_raw = metadata["signature"] == RAW_SIGNATURE
    runtime = None if only_raw else FloatView(open_runtime(path))
    runtimes = {name: open_runtime(path, name) for name in raw_forms}
    compared = 0
    for at, clip in enumerate(golden["clips"]):
        landmarks = np.array(clip["landmarks"], np.float32)
        pairs = []
        if runtime is not None:
            made = answers(landmarks, config, {path.name: runtime}, labels)
            off = np.abs(np.subtract(made["keypoints"], clip["keypoints"])).max()
            if not off <= 1e-6:
                return f"clip {at}: preprocessing gives keypoints that are off by {off:.3g}"
            pairs.append((SIGNATURE, clip.get("answers", {}), made["answers"]))
        for name, form in raw_forms.items():
            made = raw_answers(landmarks, form, {path.name: runtimes[name]}, labels)
            pairs.append((name, _said(clip, name), made.get("raw_answers", {})))
        for name, told, given in pairs:
            if path.name not in told or path.name not in given:
                continue
            said, found = told[path.name], given[path.name]
            compared += 1
            logits = (np.array([one["logits"]], np.float32) for one in (said, found))
            verdict = judge(path.name, *logits, [f"clip {at}"], load_limits(metadata["scheme"]))
            if not verdict.passed:
                return f"{name}: {verdict.reason}"
            if said["label"] != labels[int(np.argmax(said["logits"]))]:
                return f"clip {at}: {GOLDEN} says '{said['label']}', and other logits"
    return None if compared else f"{GOLDEN} has no answer of it"


def _said(clip: Mapping[str, Any], signature: str) -> Mapping[str, Any]:
    """What ``golden.json`` has of a signature of raw landmarks, by file."""
    if signature == RAW_SIGNATURE:
        return clip.get("raw_answers", {})
    return clip.get("shorter_answers", {}).get(signature, {})

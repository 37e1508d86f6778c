"""How long the artifacts of a `signbart_runtime.loso` fold take, beside their route's float32."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.quantization.schemes import FLOAT
from signbart.files import file_sha256, write_text
from signbart.json_text import read_json_file
from signbart.waiting import track
from signbart_runtime.folds.fold import artifacts
from signbart_runtime.folds.layout import EXPORTS, LATENCY, PLAIN, QAT, training_folder

if TYPE_CHECKING:
    from signbart.recordings.clip import ClipSet


def measure_latency(fold: Path, clip: ClipSet) -> None:
    """Times every .tflite of a fold interleaved with its route's float32, on one thread.

    Writes ``latency.json`` beside each ``exports/``; what it already holds of the same files, from
    the same machine, stays. Every model is given the one recording of `clip`.
    """
    from signbart.artifacts.metadata import read_metadata
    from signbart.timing import ROUNDS, machine_name

    floats = {
        metadata["route"]: path
        for path in artifacts(fold / EXPORTS, ".tflite")
        if (metadata := read_metadata(path))["scheme"] == FLOAT
    }
    for training in (PLAIN, *QAT):
        folder = training_folder(fold, training)
        if not (folder / EXPORTS / "manifest.json").is_file():
            continue
        conditions = {"machine": machine_name(), "threads": 1, "rounds": ROUNDS}
        known = _known_latency(folder / LATENCY, conditions)
        times, frames = {}, None
        made = artifacts(folder / EXPORTS, ".tflite")
        for path in track(made, f"{fold.name}: timing"):
            metadata = read_metadata(path)
            frames = metadata["preprocessing"]["max_frames"]
            partner = floats.get(metadata["route"])
            identity = {
                "sha256": file_sha256(path),
                "fp32_sha256": file_sha256(partner) if partner else None,
            }
            file = str(path.relative_to(folder / EXPORTS))
            if {key: known.get(file, {}).get(key) for key in identity} == identity:
                times[file] = known[file]
            else:
                times[file] = identity | _time(path, partner, clip)
        record = {**conditions, "frames": frames, "artifacts": times}
        write_text(folder / LATENCY, json.dumps(record, indent=2) + "\n")


def _known_latency(path: Path, conditions: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured before, if it was under the same conditions."""
    try:
        found = read_json_file(path)
        same = all(found[key] == value for key, value in conditions.items())
        return found["artifacts"] if same else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _time(path: Path, partner: Path | None, clip: ClipSet) -> dict[str, Any]:
    """Median milliseconds of a .tflite and, if it has a partner, their ratio in the same turns.

    Also whether either is ``noisy``.
    """
    from bridge.artifact.runtimes import TFLiteRuntime
    from signbart.artifacts.metadata import carried_config, read_metadata
    from signbart.models.io_spec import ATTENTION_MASK, KEYPOINTS
    from signbart.preprocessing import model_inputs
    from signbart.timing import interleaved

    keypoints, mask = model_inputs(clip, carried_config(read_metadata(path), path))
    inputs = {KEYPOINTS: keypoints, ATTENTION_MASK: mask}
    # In pairs: a dozen models interleaved would push each other's weights out of the caches, as no
    # program does that runs one of them.
    calls = {"it": TFLiteRuntime(path).invocation(inputs)}
    if partner not in (None, path):
        calls["partner"] = TFLiteRuntime(partner).invocation(inputs)
    found = interleaved(calls)
    # Float32 beside itself is 1, whatever noise two measurements would have.
    ratio = found["it"].median / found.get("partner", found["it"]).median if partner else None
    return {
        "median_ms": round(found["it"].median, 4),
        "to_fp32": None if ratio is None else round(ratio, 4),
        "noisy": any(latency.noisy for latency in found.values()),
    }

"""``golden.json``: two clips, and what the artifacts beside it answer, for ports to be tested on.

Whoever writes the preprocessing again, in Kotlin, Swift or JavaScript, feeds it the landmarks and
compares what comes out, step by step. The clips are synthetic, so that no signer is given away.

Legend: T frames, N landmarks of the layout, K keypoints, D coordinates, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bridge.artifact.runtimes import FloatView, Runtime, open_runtime
from bridge.conversion.artifact_record import Artifact
from bridge.conversion.evidence import Evidence
from bridge.verification.clips import predict
from bridge.weights.source import Source
from signbart.artifacts.lengths import signature_at
from signbart.artifacts.metadata import read_metadata
from signbart.configuration.schema import RunConfig
from signbart.landmarks.layouts import Layout
from signbart.models.io_spec import (
    FRAMES_USED,
    PROBABILITIES,
    RAW_SIGNATURE,
    class_output,
    raw_input,
)
from signbart.models.raw_spec import RawSignature
from signbart.preprocessing import as_model_input, pad, preprocess
from signbart.synthetic.signs import synthetic_clips

GOLDEN = "golden.json"
REFERENCE = "pytorch"
_SHORT = 12  # frames of the clip that is padded
_DECIMALS = 4  # of landmarks: they are what they are, but a file of few bytes is welcome
_STEP = 0.01  # of a random walk, in the layout's unit: a little a frame, as bodies move


def golden_json(
    source: Source, artifacts: Sequence[Artifact], evidence: Evidence, seed: int
) -> str | None:
    """The file's text; None where the checkpoint does not say how recordings are prepared.

    Args:
        source: The checkpoint.
        artifacts: Those that passed are asked.
        evidence: What they were judged by: PyTorch, and the signature of raw landmarks.
        seed: Of the clips.
    """
    if not source.preprocessing_known:
        return None
    config = source.config
    passed = [a.path for a in artifacts if a.path is not None and a.parity.passed]
    raw = evidence.raw
    takes_raw = [path for path in passed if read_metadata(path)["signature"] == RAW_SIGNATURE]
    answering = {REFERENCE: evidence.reference} | {
        path.name: FloatView(open_runtime(path)) for path in passed if path not in takes_raw
    }
    raw_answering = {
        path.name: open_runtime(path, RAW_SIGNATURE)
        for path in passed
        if raw and (path.suffix == ".tflite" or path in takes_raw)
    }
    layout = config.data.landmark_layout
    tree = {
        "checkpoint_sha256": source.sha256,
        "layout": layout.name,
        "labels": list(source.class_names),
        **({"raw_frames": raw.frames} if raw else {}),
        "clips": [
            answers(landmarks, config, answering, source.class_names)
            | raw_answers(landmarks, raw, raw_answering, source.class_names)
            | _shorter_answers(landmarks, passed, evidence, source.class_names)
            for landmarks in _landmarks(layout, config.data.max_frames, seed)
        ],
    }
    return json.dumps(tree, ensure_ascii=False, allow_nan=False) + "\n"


def _landmarks(layout: Layout, max_frames: int, seed: int) -> list[np.ndarray]:
    """A clip that is padded and one that is resampled, each (T, N, D), with holes in images."""
    rng = np.random.default_rng(seed)
    lengths = (min(_SHORT, max_frames), max_frames + max_frames // 8 + 1)
    signs = synthetic_clips(layout, seed, partial=True) if layout.unit == "image" else None
    made = []
    for length in lengths:
        if signs is not None:
            chosen = signs.clips[rng.integers(len(signs))].landmarks
            # Forth and back, where it is too short.
            there_and_back = np.concatenate([chosen, chosen[::-1]])
            points = np.resize(there_and_back, (length, *chosen.shape[1:]))
        else:
            coordinates = 2 if layout.unit == "image" else 3
            shape = (layout.num_keypoints, coordinates)
            steps = rng.normal(scale=_STEP, size=(length, *shape))
            points = rng.random(shape) + steps.cumsum(axis=0)
        if layout.unit == "image":
            points = points.copy()
            # A hand, or whatever the layout's second group is, that is lost for a while.
            lost = list([*layout.groups.values()][:2][-1])
            points[length // 3 : length // 3 + 4, lost] = 0
        made.append(points.astype(np.float32).round(_DECIMALS))
    return made


def answers(
    landmarks: np.ndarray,
    config: RunConfig,
    answering: Mapping[str, Runtime],
    class_names: Sequence[str],
) -> dict[str, Any]:
    """A clip's entry: what preprocessing makes of (T, N, D), and what each runtime says of that."""
    points = preprocess(landmarks, config)
    keypoints, mask = pad([points], config.data.max_frames)
    keypoints = as_model_input(keypoints, config)
    said = {}
    for name, runtime in answering.items():
        (logits,) = predict(runtime, keypoints, mask)
        said[name] = {
            "label": class_names[int(logits.argmax())],
            "logits": _numbers(logits),
        }
    return {
        "landmarks": _numbers(landmarks),
        "frames": len(points),
        "keypoints": _numbers(keypoints[0, : len(points)]),
        "answers": said,
    }


def raw_answers(
    landmarks: np.ndarray,
    raw: RawSignature | None,
    answering: Mapping[str, Runtime],
    class_names: Sequence[str],
) -> dict[str, Any]:
    """What the signature of raw landmarks says of a clip that is not too long for it."""
    if raw is None or len(landmarks) > raw.frames:
        return {}
    said = {}
    for name, runtime in answering.items():
        outputs = runtime(raw_input(raw.spec, landmarks))
        (logits,) = outputs[class_output(outputs)]
        said[name] = {
            "label": class_names[int(logits.argmax())],
            "logits": _numbers(logits),
            "probabilities": _numbers(outputs[PROBABILITIES][0]),
            "num_frames_used": int(outputs[FRAMES_USED][0]),
        }
    return {"num_frames": len(landmarks), "raw_answers": said}


def _shorter_answers(
    landmarks: np.ndarray, passed: Sequence[Path], evidence: Evidence, class_names: Sequence[str]
) -> dict[str, Any]:
    """What the signatures of raw landmarks for shorter clips say, where they hold the clip."""
    said = {}
    for frames, shorter in evidence.shorter.items():
        if shorter.raw is not None and len(landmarks) <= frames:
            name = signature_at(RAW_SIGNATURE, frames)
            answering = {p.name: open_runtime(p, name) for p in passed if p.suffix == ".tflite"}
            found = raw_answers(landmarks, shorter.raw, answering, class_names)
            said[name] = found["raw_answers"]
    return {"shorter_answers": said} if said else {}


def _numbers(array: np.ndarray) -> list:
    """Nested lists, each number as short as it can be and still the same float32."""
    if array.ndim > 1:
        return [_numbers(row) for row in array]
    return [float(str(number)) for number in array.astype(np.float32)]

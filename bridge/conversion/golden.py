"""``golden.json``: two clips, and what the artifacts beside it answer, for ports to be tested on.

Whoever writes the preprocessing again, in Kotlin, Swift or JavaScript, feeds it the landmarks and
compares what comes out, step by step. The clips are synthetic, so that no signer is given away.

Legend: T frames, N landmarks of the layout, K keypoints, D coordinates, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bridge.artifact.runtimes import FloatView, Runtime, open_runtime
from bridge.conversion.artifact_record import Artifact
from bridge.verification.clips import predict
from bridge.weights.source import Source
from signbart.configuration.schema import RunConfig
from signbart.landmarks.layouts import Layout
from signbart.preprocessing import as_model_input, pad, preprocess
from signbart.synthetic.signs import synthetic_clips

GOLDEN = "golden.json"
REFERENCE = "pytorch"
_SHORT = 12  # frames of the clip that is padded
_DECIMALS = 4  # of landmarks: they are what they are, but a file of few bytes is welcome
_STEP = 0.01  # of a random walk, in the layout's unit: a little a frame, as bodies move


def golden_json(
    source: Source, artifacts: Sequence[Artifact], reference: Runtime, seed: int
) -> str | None:
    """The file's text; None where the checkpoint does not say how recordings are prepared.

    Args:
        source: The checkpoint.
        artifacts: Those that passed are asked.
        reference: PyTorch.
        seed: Of the clips.
    """
    if not source.preprocessing_known:
        return None
    config = source.config
    answering = {REFERENCE: reference} | {
        artifact.path.name: FloatView(open_runtime(artifact.path))
        for artifact in artifacts
        if artifact.path is not None and artifact.parity.passed
    }
    layout = config.data.landmark_layout
    tree = {
        "checkpoint_sha256": source.sha256,
        "layout": layout.name,
        "labels": list(source.class_names),
        "clips": [
            _clip(landmarks, config, answering, source.class_names)
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


def _clip(
    landmarks: np.ndarray,
    config: RunConfig,
    answering: Mapping[str, Runtime],
    class_names: Sequence[str],
) -> dict[str, Any]:
    points = preprocess(landmarks, config)
    keypoints, mask = pad([points], config.data.max_frames)
    keypoints = as_model_input(keypoints, config)
    answers = {}
    for name, runtime in answering.items():
        (logits,) = predict(runtime, keypoints, mask)
        answers[name] = {
            "label": class_names[int(logits.argmax())],
            "logits": _numbers(logits),
        }
    return {
        "landmarks": _numbers(landmarks),
        "frames": len(points),
        "keypoints": _numbers(keypoints[0, : len(points)]),
        "answers": answers,
    }


def _numbers(array: np.ndarray) -> list:
    """Nested lists, each number as short as it can be and still the same float32."""
    if array.ndim > 1:
        return [_numbers(row) for row in array]
    return [float(str(number)) for number in array.astype(np.float32)]

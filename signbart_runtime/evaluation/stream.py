"""What a model says of a stream, window by window.

Legend: W windows, C classes, K landmarks, D coordinates.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from bridge.verification.clips import predict
from signbart.preprocessing import model_inputs
from signbart.recordings.clip import Clip, ClipSet
from signbart.recordings.names import UNKNOWN_SIGNER
from signbart.streaming.rule import StreamRule, windows
from signbart.training.confidence import softmax
from signbart.waiting import track
from signbart_runtime.evaluation.opened import require_finite

if TYPE_CHECKING:
    from signbart_runtime.evaluation.opened import OpenedModel

_BATCH = 64  # for speed alone; logits differ by rounding


def window_probabilities(
    model: OpenedModel,
    frames: Iterable[tuple[float, np.ndarray]],
    rule: StreamRule,
    *,
    source: str,
    landmark_names: tuple[str, ...] | None = None,
) -> tuple[list[float], np.ndarray]:
    """Runs a model on every window of a recorded stream.

    Args:
        model: Any.
        frames: Seconds and landmarks (K, D), which fit the model's layout or give it.
        rule: Says what a window is.
        source: Names the stream in messages.
        landmark_names: K, where they are known and of no layout; see `ClipSet`.

    Returns:
        (W,) seconds, and (W, C) calibrated probabilities; zeros where nobody is seen.

    Raises:
        SignBartError: The landmarks do not fit the model, or it gives NaN.
    """
    times: list[float] = []
    rows = [np.zeros((0, len(model.class_names)))]
    cut = windows(track(frames, f"classifying {source}"), rule)
    while batch := list(islice(cut, _BATCH)):
        times += [now for now, _ in batch]
        seen = [at for at, (_, landmarks) in enumerate(batch) if landmarks.any()]
        found = np.zeros((len(batch), len(model.class_names)))
        if seen:
            clips = tuple(
                Clip(batch[at][1], 0, UNKNOWN_SIGNER, 0, f"{source}, {batch[at][0]:.2f} s")
                for at in seen
            )
            found[seen] = probabilities(model, ClipSet(clips, ("",), landmark_names=landmark_names))
        rows.append(found)
    return times, np.concatenate(rows)


def probabilities(model: OpenedModel, clips: ClipSet) -> np.ndarray:
    """(N, C) float64: the softmax of a model's logits over its temperature.

    Raises:
        SignBartError: See `window_probabilities`.
    """
    takes_any = model.runtime.spec.inputs[0].shape[0] is None
    inputs = model_inputs(clips, model.config)
    logits = predict(model.runtime, *inputs, batch=len(clips) if takes_any else 1)
    require_finite(model.runtime.name, logits, clips)
    return softmax(logits, model.temperature)

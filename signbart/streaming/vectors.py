"""A stream in numbers, and what the rule makes of it: for the rule written again elsewhere."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from signbart.streaming.rule import Spotter, StreamRule, windows

_CLASSES = ("hello", "idle", "thanks")
_DECIMALS = 3
# Class (none: nobody is seen), its probability, and for how many windows: two signs behind each
# other, one that sinks for a moment, a weak one, and somebody who leaves.
_STORY = (
    *((1, 0.9, 8), (0, 0.95, 9), (2, 0.85, 8), (1, 0.9, 7), (0, 0.9, 6), (0, 0.3, 2), (0, 0.8, 5)),
    *((1, 0.8, 6), (2, 0.45, 6), (None, 0.0, 6), (2, 0.99, 4)),
)
_FPS, _SLOWER = 12.5, 7.0  # a camera's frames come as they will


def stream_vector(rule: StreamRule, seed: int = 0) -> dict[str, Any]:
    """What goes into the rule and what comes out, in JSON containers.

    Args:
        rule: The fields' values are in it.
        seed: Of small differences between windows.

    Returns:
        ``rule``; ``frames``: the times of a camera's frames, and ``windows``: of each window its
        time, and its first and last frame; ``class_names``, and ``steps``: of each window its time
        and probabilities, their average, and the event that ended with it, or null; ``last``: the
        event that the end of the stream ends, or null.
    """
    rng = np.random.default_rng(seed)
    gaps = np.concatenate([np.full(40, 1 / _FPS), np.full(20, 1 / _SLOWER), np.full(20, 1 / _FPS)])
    gaps[50] = 2 * rule.stride  # a pause of the camera
    frames = gaps.cumsum().round(_DECIMALS)
    numbered = ((float(at), np.full((1, 1), float(row))) for row, at in enumerate(frames))
    spotter, steps, now = Spotter(rule, _CLASSES), [], rule.window
    for label, share, count in _STORY:
        for _ in range(count):
            shares = np.zeros(len(_CLASSES))
            if label is not None:
                own = min(share + rng.uniform(-0.02, 0.02), 0.999)
                shares[:] = (1 - own) / (len(_CLASSES) - 1)
                shares[label] = own
            shares = shares.round(_DECIMALS)
            event = spotter.add(now, shares)
            steps.append(
                {
                    "time": round(now, _DECIMALS),
                    "probabilities": shares.tolist(),
                    "averaged": spotter.averaged.tolist(),
                    "ended": None if event is None else dataclasses.asdict(event),
                }
            )
            now = round(now + rule.stride, _DECIMALS)
    last = spotter.finish()
    return {
        "rule": dataclasses.asdict(rule),
        "frames": frames.tolist(),
        "windows": [
            {"time": time, "first": int(rows[0, 0, 0]), "last": int(rows[-1, 0, 0])}
            for time, rows in windows(numbered, rule)
        ],
        "class_names": list(_CLASSES),
        "steps": steps,
        "last": None if last is None else dataclasses.asdict(last),
    }

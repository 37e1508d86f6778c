"""A .tflite by its signature for the shortest clips that holds the one at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from bridge.artifact.runtimes import FloatView, Runtime, open_runtime
from signbart.artifacts.lengths import signature_at
from signbart.models.io_spec import ATTENTION_MASK, NUM_FRAMES


class ShortestRuntime:
    """Called as the longest signature is; what runs is the shortest that holds the clip.

    Args:
        path: The file.
        signature: The longest of those that it chooses from.
        lengths: Frames of the others, ascending. Each is opened when a clip first needs it.
    """

    def __init__(self, path: Path, signature: str, lengths: Sequence[int]):
        self._lengths = tuple(lengths)

        @cache
        def opened(frames: int | None) -> Runtime:
            return FloatView(open_runtime(path, signature_at(signature, frames)))

        self._opened = opened
        self.name, self.spec = opened(None).name, opened(None).spec

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the model; see `Runtime`."""
        self.spec.check_inputs(inputs, self.name)
        if NUM_FRAMES in inputs:
            needed = int(inputs[NUM_FRAMES][0])
        else:
            needed = int(np.flatnonzero(inputs[ATTENTION_MASK].any(axis=0))[-1]) + 1
        frames = next((length for length in self._lengths if needed <= length), None)
        cut = {
            name: array if frames is None or name == NUM_FRAMES else array[:, :frames]
            for name, array in inputs.items()
        }
        return self._opened(frames)(cut)

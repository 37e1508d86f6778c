"""Frames of many clips, by the landmarks' names.

Legend: F frames, K landmarks, D coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Parts of the body that a detector finds whole or not at all, by how their landmarks' names begin.
PARTS = ("left_hand_", "right_hand_", "face_")
ENOUGH = 10  # frames; fewer say nothing


class Frames:
    """Frames of many clips, by the landmarks' names.

    Args:
        points: (F, K, D); 0 is missing.
        names: K names.
    """

    def __init__(self, points: np.ndarray, names: Sequence[str]):
        self.points = points
        self.index = {name: at for at, name in enumerate(names)}
        self.there = (points[..., :2] != 0).any(axis=-1)
        for prefix in PARTS:
            members = self.group(prefix)
            if len(members) > 1:
                # All at one point: missing, and moved from (0, 0) with the others.
                alike = (points[:, members, :2] == points[:, members[:1], :2]).all(axis=(1, 2))
                self.there[np.ix_(alike, members)] = False

    def has(self, *names: str) -> bool:
        """Whether the recordings have all these landmarks."""
        return all(name in self.index for name in names)

    def at(self, name: str) -> np.ndarray:
        """(F, 2) of a landmark; NaN where it is missing."""
        place = self.index[name]
        return np.where(self.there[:, place, None], self.points[:, place, :2], np.nan)

    def extent(self, members: list[int]) -> np.ndarray:
        """(F,) larger side of the box around some landmarks; NaN where none is there."""
        there = self.there[:, members, None]
        points = self.points[:, members, :2]
        low = np.where(there, points, np.inf).min(axis=1)
        high = np.where(there, points, -np.inf).max(axis=1)
        size = (high - low).max(axis=1)
        return np.where(size >= 0, size, np.nan)

    def group(self, prefix: str) -> list[int]:
        """The landmarks whose names begin so."""
        return [at for name, at in self.index.items() if name.startswith(prefix)]


def share_of(condition: np.ndarray, *values: np.ndarray) -> float | None:
    """The share of frames that fulfil it among those with all values; None where they are few."""
    known = np.all([np.isfinite(value) for value in values], axis=0)
    return float(condition[known].mean()) if known.sum() >= ENOUGH else None


def length_of(vectors: np.ndarray) -> np.ndarray:
    """(F, 2) -> (F,) lengths."""
    return np.hypot(vectors[:, 0], vectors[:, 1])

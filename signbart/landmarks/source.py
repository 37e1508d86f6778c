"""One source layout: which landmark stands where, and what its numbers are.

Legend: T frames, K landmarks of the source, D numbers a landmark.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from signbart.errors import ClipError
from signbart.landmarks.layouts import LAYOUTS, Layout

UNITS = ("image", "centred", "metres")
# Shares of the image may leave [0, 1] somewhat; most of a clip beyond this is pixels.
LARGEST_USUAL = 2.0

# What the numbers of a landmark are, by how many there are; see `SourceLayout.channels`.
XYZV = {2: "xy", 3: "xyz", 4: "xyzv"}
XYC = {2: "xy", 3: "xyc"}
METRES = {3: "xyz"}

_KNOWN = {name for layout in LAYOUTS.values() for name in layout.names}


@dataclass(frozen=True)
class SourceLayout:
    """An ordered set of K landmarks as some program writes them.

    Attributes:
        name: Key in `SOURCE_LAYOUTS`, or the file that describes it.
        description: One line for help texts.
        names: K names; None for a landmark that is not used.
        channels: D -> what the D numbers of a landmark are: letters of x, y, z, c (confidence:
            missing where it is not above `min_confidence`) and v (MediaPipe's visibility, which
            says what is hidden and not what is missing).
        unit: ``image`` (shares of the picture, or pixels where its size is known), ``centred``
            (from -1 to 1 about the middle of the picture) or ``metres``.
        left: Whether x grows to the left.
        up: Whether y grows upwards.
        min_confidence: See `channels`.
        parts: For frames that are one row of numbers with more of them for some landmarks than for
            others: (landmarks, numbers each) from the start. Empty where all have the same.
        size: Width and height of the picture, where it is always the same.
        groups: Group -> names of landmarks that are normalised together, for `own_layout`.
        flip_pairs: Names that change places when a clip is mirrored, for `own_layout`.
    """

    name: str
    description: str
    names: tuple[str | None, ...]
    channels: dict[int, str] = dataclasses.field(default_factory=lambda: dict(XYZV))
    unit: str = "image"
    left: bool = False
    up: bool = False
    min_confidence: float = 0.0
    parts: tuple[tuple[int, int], ...] = ()
    size: tuple[float, float] | None = None
    groups: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    flip_pairs: tuple[tuple[str, str], ...] = ()

    @property
    def num_keypoints(self) -> int:
        """K, the number of landmarks that the source has."""
        return len(self.names)

    @cached_property
    def selection(self) -> tuple[list[int], tuple[str, ...]]:
        """Which landmarks are kept, in which order, and their names.

        Those that some model layout has come in that layout's order where they are all of it, so
        that recordings of one body read alike from every source.
        """
        index = {name: at for at, name in enumerate(self.names) if name is not None}
        known = {name for name in index if name in _KNOWN}
        for layout in LAYOUTS.values():
            if known == set(layout.names):
                return [index[name] for name in layout.names], layout.names
        return list(index.values()), tuple(index)

    def widths(self) -> dict[int, int]:
        """How many numbers a frame written as one row may have -> D; 0 stands for `parts`."""
        if self.parts:
            return {sum(count * each for count, each in self.parts): 0}
        return {self.num_keypoints * each: each for each in self.channels}

    def unflatten(self, rows: np.ndarray, each: int) -> np.ndarray:
        """Frames as rows (T, F) -> (T, K, D); numbers that a landmark lacks are NaN."""
        if each:
            return rows.reshape(len(rows), self.num_keypoints, each)
        most = max(each for _, each in self.parts)
        points = np.full((len(rows), self.num_keypoints, most), np.nan, np.float32)
        column = start = 0
        for count, each in self.parts:
            block = rows[:, column : column + count * each].reshape(len(rows), count, each)
            points[:, start : start + count, :each] = block
            column, start = column + count * each, start + count
        return points

    def to_landmarks(
        self,
        points: np.ndarray,
        confidence: np.ndarray | None = None,
        size: tuple[float, float] | None = None,
    ) -> np.ndarray:
        """Landmarks as clips hold them.

        Args:
            points: (T, K, D) numbers; missing is NaN, (0, 0), or a confidence too low.
            confidence: (T, K), where the file keeps it apart.
            size: Width and height of the picture, where the file says so.

        Returns:
            (T, K', 2 or 3) float32 in the order of `selection`: shares of the picture with y down,
            or metres with x right and y up; 0 for what is missing.

        Raises:
            ClipError: The shape is not the layout's.
        """
        expected = [(self.num_keypoints, each) for each in sorted(self.channels)]
        if points.ndim != 3 or points.shape[1:] not in expected:
            raise ClipError(
                f"keypoints have shape {points.shape}, but source layout '{self.name}' has (T, "
                f"{self.num_keypoints}, {' or '.join(str(each) for _, each in expected)}); name "
                "another with --source-layout"
            )
        if confidence is not None and confidence.shape != points.shape[:2]:
            raise ClipError(f"{confidence.shape} confidences for keypoints of {points.shape}")
        kept, _ = self.selection
        letters = self.channels[points.shape[-1]]
        column = {letter: points[:, kept, at] for at, letter in enumerate(letters)}
        with np.errstate(over="ignore"):  # infinity is refused later
            x, y = (np.asarray(column[axis], np.float32) for axis in "xy")
        missing = np.isnan(x) | np.isnan(y) | ((x == 0) & (y == 0))
        if "c" in letters:
            missing |= ~(column["c"] > self.min_confidence)
        if confidence is not None:
            missing |= ~(confidence[:, kept] > self.min_confidence)
        depth = [np.nan_to_num(column["z"].astype(np.float32))] if "z" in letters else []
        if self.unit == "image":
            x, y = _to_shares(x, y, missing, size or self.size)
        elif self.unit == "centred":
            x, y = (x + 1) / 2, (y + 1) / 2
        # The picture's y points down, and so does a clip's; in metres it points up.
        mirrored = 1 if self.unit != "metres" else 0
        x = mirrored - x if self.left else x
        y = mirrored - y if self.up != (self.unit == "metres") else y
        landmarks = np.stack([x, y, *depth], axis=-1)
        landmarks[missing] = 0
        return np.ascontiguousarray(landmarks, dtype=np.float32)


def _to_shares(
    x: np.ndarray, y: np.ndarray, missing: np.ndarray, size: tuple[float, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Divides pixels by the picture's size, where it is known and they are pixels."""
    found = np.abs(np.stack([x[~missing], y[~missing]]))
    if size is None or not found.size or np.median(found) <= LARGEST_USUAL:
        return x, y
    return x / np.float32(size[0]), y / np.float32(size[1])


def as_source(layout: Layout) -> SourceLayout:
    """A model layout as a source: its own landmarks in its own order."""
    metres = layout.unit == "metres"
    return SourceLayout(
        layout.name,
        layout.description,
        layout.names,
        channels=METRES if metres else XYZV,
        unit="metres" if metres else "image",
        up=metres,
    )

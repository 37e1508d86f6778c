"""MediaPipe's parts, which programs keep apart, put together as layout holistic543 has them.

Legend: T frames, K landmarks, D numbers a landmark.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from signbart.errors import ClipError

# Their places in layout holistic543, by names in lower case without "_".
PARTS = {
    "pose": (0, 33),
    "lefthand": (33, 54),
    "righthand": (54, 75),
    "face": (75, 543),
}
LAYOUT = "holistic543"
_WITH_IRISES = 478  # landmarks of a face that has the irises behind it
# Names of what is about landmarks, and none; MediaPipe's world ones are the same in metres.
_NO_POINTS = re.compile("world|visib|presence|confidence|score|veloc|feature|embed|angle")
_HAND_ROW = 42  # x and y of one hand: what has fewer numbers a frame is no set of points


def part_of(key: Any) -> str | None:
    """Which of MediaPipe's parts a key names: pose_landmarks and poseLandmarks are pose."""
    short = str(key).lower().replace("_", "").removesuffix("landmarks").removesuffix("keypoints")
    return short if short in PARTS else None


def assemble(parts: Mapping[str, np.ndarray], source: str) -> np.ndarray:
    """Parts put together.

    Args:
        parts: Key of the file -> (…, K, D), D at least 2; all with the same axes in front.
        source: For messages.

    Returns:
        (…, 543, 3) float32; 0 for the parts that are not there, and for a z that is not.

    Raises:
        ClipError: See `check_parts`.
    """
    check_parts(parts, source)
    front = next((own.shape[:-2] for own in parts.values()), ())
    points = np.zeros((*front, PARTS["face"][1], 3), np.float32)
    for key, own in parts.items():
        start, end = PARTS[part_of(key)]
        axes = min(own.shape[-1], 3)  # what follows z says what is hidden, not what is missing
        points[..., start:end, :axes] = own[..., : end - start, :axes]
    return points


def check_parts(parts: Mapping[str, Any], source: str) -> None:
    """Looks whether parts, of which only the shapes are asked, can be put together.

    Raises:
        ClipError: A part has another number of landmarks, is there twice, or differs from the
            others in its frames.
    """
    seen: dict[str, str] = {}
    for key, own in parts.items():
        part = part_of(key)
        if part in seen:
            raise ClipError(f"{source}: '{seen[part]}' and '{key}' are the same part; keep one")
        seen[part] = key
        count = PARTS[part][1] - PARTS[part][0]
        counts = (count, _WITH_IRISES) if part == "face" else (count,)
        if len(own.shape) < 2 or own.shape[-2] not in counts or own.shape[-1] < 2:
            raise ClipError(
                f"{source}: '{key}' has shape {own.shape}, expected {count} landmarks of x and y"
            )
        first = next(iter(parts))
        if own.shape[:-2] != parts[first].shape[:-2]:
            raise ClipError(
                f"{source}: '{key}' has shape {own.shape}, but '{first}' {parts[first].shape}: "
                "parts need the same frames; write NaN where a part was not found"
            )


def find_points(
    sets: Mapping[str, Any], names: Iterable[str], others: Iterable[str], source: str, axes: int
) -> tuple[str, ...]:
    """Which of a file's arrays hold its landmarks.

    Args:
        sets: Name -> array, of which shape and dtype are asked.
        names: What an array of all landmarks may be called, the surest first.
        others: What arrays are called that hold no landmarks, whatever their shape.
        source: For messages.
        axes: How many an array of all landmarks has at least.

    Returns:
        One name, or those of several parts, which `assemble` takes; empty where there is neither.

    Raises:
        ClipError: A pose stands beside points that would be lost.
    """
    numbers = {key: own for key, own in sets.items() if own.dtype.kind in "fiu"}
    found = (key for key in names if key in numbers and len(numbers[key].shape) >= axes)
    name = next(found, None)
    # An empty part is one that was never found.
    parts = [key for key, own in numbers.items() if part_of(key) and math.prod(own.shape)]
    parts.sort(key=lambda key: PARTS[part_of(key)])
    pose = PARTS["pose"][1] - PARTS["pose"][0]
    # Of another number of landmarks, and beside no other part, it is no part but all of them.
    if name is not None and (
        part_of(name) is None or (len(parts) < 2 and sets[name].shape[-2:-1] != (pose,))
    ):
        return (name,)
    chosen = tuple(parts) if len(parts) > 1 else (name,) if name is not None else ()
    if not chosen:
        return ()
    shape = sets[chosen[0]].shape
    apart = {*chosen, *parts, *others}
    lost = [key for key, own in numbers.items() if key not in apart
            and _are_points(own.shape, shape) and not _NO_POINTS.search(key.lower())]  # fmt: skip
    if lost:
        raise ClipError(
            f"{source}: {_quoted(chosen)} beside {_quoted(lost)}, of which nothing says what its "
            "points are; name MediaPipe's parts pose, left_hand, right_hand and face, or write all "
            "landmarks as one array 'keypoints'"
        )
    return chosen


def _are_points(own: tuple[int, ...], chosen: tuple[int, ...]) -> bool:
    """Whether an array beside a chosen one may hold points, too: (…, K, D), or rows of frames."""
    if len(own) == len(chosen) > 2:
        return 2 <= own[-1] <= 4
    return 1 < len(own) <= len(chosen) and own[0] == chosen[0] and own[-1] >= _HAND_ROW


def _quoted(keys: Iterable[str]) -> str:
    return ", ".join(f"'{key}'" for key in keys)

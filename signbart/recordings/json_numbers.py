"""JSON's nested lists as arrays: landmarks may be lists or objects, and null is missing.

Legend: T frames, K landmarks, D numbers a landmark.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from signbart.errors import ClipError

# A few bytes of null could ask for all the memory: what nulls may add, unless it is little.
_MOST_TIMES = 100
_FLOOR = 2**24


def is_point(entry: Any) -> bool:
    """Whether an entry is one landmark, written as an object."""
    return isinstance(entry, dict) and "x" in entry and "y" in entry


def first_there(entries: list[Any]) -> Any:
    """The first entry that is not null; None where all are."""
    return next((entry for entry in entries if entry is not None), None)


def first_leaf(value: Any) -> tuple[list[int], Any] | None:
    """The first number or object in nested lists, and how long the lists around it are.

    What is null or empty says nothing, and is passed over; None where there is nothing else.
    """
    if value is None:
        return None
    if not isinstance(value, list):
        return [], value
    for item in value:
        inner = first_leaf(item)
        if inner is not None:
            return [len(value), *inner[0]], inner[1]
    return None


def numbers(value: Any, source: str) -> np.ndarray:
    """Nested lists of numbers and of objects with x and y, as float32.

    A null is NaN, or as many as what stands in its place elsewhere: a landmark, or a frame.

    Raises:
        ClipError: They are not rectangular, or hold something else.
    """
    try:
        lists = _as_lists(value)
        with np.errstate(over="ignore"):  # infinity is refused with the clip
            try:
                array = np.array(lists, dtype=np.float64)
            except (TypeError, ValueError):
                array = np.array(_expand(lists, source), dtype=np.float64)
            return array.astype(np.float32)
    except (TypeError, ValueError, RecursionError, OverflowError):
        raise ClipError(
            f"{source}: its landmarks are no rectangular lists of numbers: frames differ in their "
            "number of landmarks, or there is text; write null for what is missing"
        ) from None


def _as_lists(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_lists(item) for item in value]
    if is_point(value):
        return [value["x"], value["y"], *([value["z"]] if "z" in value else [])]
    if isinstance(value, str | bool):
        raise TypeError("text")
    return value


def _expand(lists: Any, source: str) -> Any:
    """The same, with NaN of the usual shape for each null."""
    shape = _shape(lists)
    if math.prod(shape) > max(_FLOOR, _MOST_TIMES * _count(lists)):
        raise ClipError(
            f"{source}: with its nulls it would be {' × '.join(map(str, shape))} and more numbers "
            "than a recording has; leave out frames in which nothing was found"
        )
    return _filled(lists, shape)


def _shape(lists: Any) -> tuple[int, ...]:
    """How long lists are at most, level by level."""
    if not isinstance(lists, list):
        return ()
    inner = (_shape(item) for item in lists if isinstance(item, list))
    return len(lists), *map(max, itertools.zip_longest(*inner, fillvalue=0))


def _count(lists: Any) -> int:
    """How many numbers are there."""
    if isinstance(lists, list):
        return sum(map(_count, lists))
    return lists is not None


def _filled(lists: Any, shape: tuple[int, ...]) -> Any:
    if lists is None and shape:
        return np.full(shape, np.nan)
    if isinstance(lists, list):
        return [_filled(item, shape[1:]) for item in lists]
    return lists

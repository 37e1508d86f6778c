"""The order of a clip's frames, where a table names them instead of counting them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from signbart.errors import ClipError
from signbart.recordings.folders import naturally

_DIGITS = re.compile(r"(\d+)")
_WHOLE = re.compile(r"[+-]?\d{1,4000}")  # Python reads no integers of over 4,300
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_MOST_DIGITS = 9  # of numbers that `naturally` takes for such
_REMEDY = "number them from 0"


def rank_frames(names: Sequence[str]) -> list[int]:
    """The place of each frame in the order of all, from 0.

    Args:
        names: Different texts: numbers, or text with numbers in it, as ``img_12.jpg``. Numbers
            that are equal, as 1 and 01, are the same frame.

    Raises:
        ClipError: Nothing says in which order they come.
    """
    numbers = [_number(name.strip()) for name in names]
    keys: list = numbers
    if None in numbers:
        _check_order(names)
        keys = [naturally(name) for name in names]
    places = {key: at for at, key in enumerate(sorted(set(keys)))}
    return [places[key] for key in keys]


def _number(text: str) -> int | float | None:
    # Time stamps in nanoseconds have more digits than a float.
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else None


def _check_order(names: Sequence[str]) -> None:
    """Refuses names that differ in more than numbers, or in numbers that may be read in two ways.

    Raises:
        ClipError: They do.
    """
    parts = [_DIGITS.split(name) for name in names]  # text, digits, text, digits, …, text
    for name, own in zip(names, parts, strict=True):
        if own[::2] != parts[0][::2]:
            raise ClipError(f"names frames in different ways, {names[0]!r} and {name!r}; {_REMEDY}")
    for at in range(1, len(parts[0]), 2):
        lengths = [len(own[at]) for own in parts]
        if min(lengths) == max(lengths):
            continue  # their order as text is that as numbers
        fraction = at > 1 and parts[0][at - 1] in (".", ",")
        if fraction or max(lengths) > _MOST_DIGITS:
            other = next(i for i, length in enumerate(lengths) if length != lengths[0])
            raise ClipError(
                f"does not say in which order the frames {names[0]!r} and {names[other]!r} come; "
                f"{_REMEDY}"
            )
    seen: dict[tuple, str] = {}
    for name in names:
        other = seen.setdefault(naturally(name), name)
        if other != name:
            raise ClipError(f"has frames of one number, {other!r} and {name!r}; {_REMEDY}")

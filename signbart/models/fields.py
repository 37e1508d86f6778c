"""What a field of a configuration may hold, as the metadata of a dataclass field."""

from __future__ import annotations

from typing import Any


def in_range(low: float, high: float, *, open_high: bool = False) -> dict[str, Any]:
    """A number of at least `low` and at most `high`, or below it where that end is open."""
    return {"low": low, "high": high, "open_high": open_high}


def positive() -> dict[str, Any]:
    """A number of at least 1."""
    return in_range(1, float("inf"))


def unless_default(limits: dict[str, Any]) -> dict[str, Any]:
    """Metadata of a key that is written only where it differs from its default.

    For keys that came later: the checkpoints of runs that do not use them stay the same, bit by
    bit.
    """
    return {**limits, "unless_default": True}


PROBABILITY = in_range(0.0, 1.0, open_high=True)
SHARE = in_range(0.0, 1.0)
NOT_NEGATIVE = in_range(0.0, float("inf"), open_high=True)

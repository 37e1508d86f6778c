"""What a field of a configuration may hold, as the metadata of a dataclass field."""

from __future__ import annotations

from typing import Any

# Files of others say these numbers, and memory and time follow from them: each is far beyond any
# model of signs, and small enough to be refused before anything is built.
DEEPEST = 1_000  # layers one behind the other; BART-large has 24
WIDEST = 16_384  # numbers in a layer; GPT-3 has 12,288
LONGEST = 16_384  # frames of a clip: nine minutes at 30 a second
MOST_CLASSES = 1_000_000  # a lexicon of glosses has some 10,000
LARGEST = 2**31 - 1  # of what is only counted: epochs, clips in a batch


def in_range(low: float, high: float, *, open_high: bool = False) -> dict[str, Any]:
    """A number of at least `low` and at most `high`, or below it where that end is open."""
    return {"low": low, "high": high, "open_high": open_high}


def positive(most: int = LARGEST) -> dict[str, Any]:
    """A whole number of at least 1, and not beyond what any model or run has."""
    return in_range(1, most)


def unless_default(limits: dict[str, Any]) -> dict[str, Any]:
    """Metadata of a key that is written only where it differs from its default.

    For keys that came later: the checkpoints of runs that do not use them stay the same, bit by
    bit.
    """
    return {**limits, "unless_default": True}


def not_stored(limits: dict[str, Any]) -> dict[str, Any]:
    """Metadata of a size that no tensor of a checkpoint has."""
    return {**limits, "stored": False}


PROBABILITY = in_range(0.0, 1.0, open_high=True)
SHARE = in_range(0.0, 1.0)
NOT_NEGATIVE = in_range(0.0, float("inf"), open_high=True)

"""Which of several files to ship: one rule for model cards and for the results report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

POINTS = 0.5  # of accuracy in percent: less is a clip or two of a few hundred
_AS_FAST = 1.05  # times the fastest's time: what differs by less does not feel different


@dataclass(frozen=True)
class Candidate:
    """A file, or files of one kind, that agrees with PyTorch.

    Attributes:
        name: What it is called.
        bytes: Its size.
        accuracy: In percent; None where it was judged without labels.
        time: Of one call, in whatever unit all share; None where it was not measured, or cannot be
            believed.
    """

    name: str
    bytes: float
    accuracy: float | None = None
    time: float | None = None


@dataclass(frozen=True)
class Recommendation:
    """The one to ship, and why it.

    Attributes:
        candidate: It.
        of: How many agree with PyTorch, it among them.
        by_accuracy: Whether accuracy counted: all have one.
        by_time: Whether time counted: all whose accuracy does not rule them out have one.
    """

    candidate: Candidate
    of: int
    by_accuracy: bool
    by_time: bool

    @property
    def reason(self) -> str:
        """In a sentence."""
        if self.of == 1:
            return "It is the only one that agrees with PyTorch."
        good = f" and are at most {POINTS:g} points of accuracy below the best"
        quick = f" of those within {100 * (_AS_FAST - 1):.0f} % of the fastest's time"
        return (
            f"It is, of the files that agree with PyTorch{good if self.by_accuracy else ''}, the "
            f"smallest{quick if self.by_time else ''}."
        )


def recommend(candidates: Iterable[Candidate]) -> Recommendation | None:
    """The smallest that is as good and as fast as any; None where there is none."""
    left = list(candidates)
    if not left:
        return None
    of, by_accuracy = len(left), all(one.accuracy is not None for one in left)
    if by_accuracy:
        best = max(one.accuracy for one in left)
        left = [one for one in left if one.accuracy >= best - POINTS]
    by_time = all(one.time is not None for one in left)
    if by_time:
        fastest = min(one.time for one in left)
        left = [one for one in left if one.time <= _AS_FAST * fastest]
    return Recommendation(min(left, key=lambda one: one.bytes), of, by_accuracy, by_time)

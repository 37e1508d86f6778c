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


RULE = (
    f"of the files that agree with PyTorch and are at most {POINTS:g} points of accuracy below "
    "the best, the fastest, or, where times are not known or within "
    f"{100 * (_AS_FAST - 1):.0f} % of each other, the smallest"
)


def recommend(candidates: Iterable[Candidate]) -> Candidate | None:
    """The one to ship, by `RULE`; None where there is none. Accuracy counts where all have one."""
    left = list(candidates)
    if not left:
        return None
    if all(one.accuracy is not None for one in left):
        best = max(one.accuracy for one in left)
        left = [one for one in left if one.accuracy >= best - POINTS]
    if all(one.time is not None for one in left):
        fastest = min(one.time for one in left)
        left = [one for one in left if one.time <= _AS_FAST * fastest]
    return min(left, key=lambda one: one.bytes)

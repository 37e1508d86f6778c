"""How well events meet the signs of streams."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from signbart.console import cell
from signbart.streaming.rule import Event
from signbart.streaming.stringing import Sign

COLUMNS = (
    *("label", "signs", "hits", "substitutions", "misses", "false alarms", "a minute"),
    "delay in s",
)


@dataclass
class Spotting:
    """What became of signs, of one label or of all.

    A sign is a hit, a substitution or a miss. Events that are neither the hit nor the substitution
    of a sign are false alarms, of the label that they bear: those in idle, and all but one in a
    sign.

    Attributes:
        signs: How many there were.
        hits: Signs with an event of their label.
        substitutions: Other signs with an event of another label.
        misses: Signs for which no event is left.
        false_alarms: Events.
        minutes: Length of the streams.
        delays: Seconds from each hit's beginning to when it was decided.
    """

    signs: int = 0
    hits: int = 0
    substitutions: int = 0
    misses: int = 0
    false_alarms: int = 0
    minutes: float = 0.0
    delays: list[float] = field(default_factory=list)

    @property
    def false_alarms_a_minute(self) -> float | None:
        """None of no stream."""
        return self.false_alarms / self.minutes if self.minutes else None

    @property
    def delay(self) -> float | None:
        """The median; None without a hit."""
        return statistics.median(self.delays) if self.delays else None

    def numbers(self) -> dict[str, Any]:
        """For JSON."""
        names = ("signs", "hits", "substitutions", "misses", "false_alarms")
        rate, delay = self.false_alarms_a_minute, self.delay
        return {
            **{name: getattr(self, name) for name in names},
            "minutes": round(self.minutes, 3),
            "false_alarms_a_minute": None if rate is None else round(rate, 3),
            "median_delay_s": None if delay is None else round(delay, 3),
        }

    def row(self, label: str) -> list[str]:
        """Cells of `COLUMNS`."""
        counts = (self.signs, self.hits, self.substitutions, self.misses, self.false_alarms)
        return [label, *map(str, counts), cell(self.false_alarms_a_minute), cell(self.delay)]


def score_stream(
    signs: Sequence[Sign], events: Sequence[Event], minutes: float
) -> dict[str, Spotting]:
    """Label -> what became of its signs in one stream.

    An event is in a sign where their times overlap. Each sign takes the first event of its label
    that no sign has taken; then those that have none take the first that is left.

    Args:
        signs: In their order; they do not overlap.
        events: In theirs.
        minutes: Length of the stream.
    """
    labels = sorted({sign.label for sign in signs} | {event.label for event in events})
    found = {label: Spotting(minutes=minutes) for label in labels}
    left = list(events)
    unmet = []

    def take(sign: Sign, same: bool) -> Event | None:
        for event in left:
            overlaps = event.start <= sign.end and event.end >= sign.start
            if overlaps and (event.label == sign.label or not same):
                left.remove(event)
                return event
        return None

    for sign in signs:
        event = take(sign, same=True)
        of_label = found[sign.label]
        of_label.signs += 1
        if event is None:
            unmet.append(sign)
        else:
            of_label.hits += 1
            of_label.delays.append(event.decided - sign.start)
    for sign in unmet:
        if take(sign, same=False) is None:
            found[sign.label].misses += 1
        else:
            found[sign.label].substitutions += 1
    for event in left:
        found[event.label].false_alarms += 1
    return found


def total(parts: Iterable[Spotting]) -> Spotting:
    """Several as one, their minutes added."""
    parts = list(parts)
    return Spotting(
        signs=sum(part.signs for part in parts),
        hits=sum(part.hits for part in parts),
        substitutions=sum(part.substitutions for part in parts),
        misses=sum(part.misses for part in parts),
        false_alarms=sum(part.false_alarms for part in parts),
        minutes=sum(part.minutes for part in parts),
        delays=[delay for part in parts for delay in part.delays],
    )

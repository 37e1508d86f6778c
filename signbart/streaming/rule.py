"""Windows of a stream, and what makes one event of one sign. docs/streaming.md says it in words.

The rule is small enough to be written again elsewhere, and `vectors` has numbers to test that by.

Legend: C classes, k windows that are averaged.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from signbart.errors import ConfigError

_EARLY = 1e-3  # seconds that a frame may come before its window is due: clocks round


@dataclass(frozen=True)
class StreamRule:
    """How a stream is cut into windows, and when windows are a sign.

    Attributes:
        window: Seconds of frames that are classified together, about as long as a sign takes.
        stride: Seconds from one window to the next.
        smoothing: Windows, the last one among them, whose probabilities are averaged.
        threshold: Averaged probability from which on a label begins an event.
        hold: The event goes on while its label keeps this share of the threshold.
        pause: Seconds below that after which the event has ended; until then it is the same sign.
        idle: The class that is no sign; where a model has none the threshold alone decides.
    """

    window: float = 2.0
    stride: float = 0.2
    smoothing: int = 3
    threshold: float = 0.6
    hold: float = 0.5
    pause: float = 0.6
    idle: str = "idle"

    def __post_init__(self):
        for name, low in (("window", 0.0), ("stride", 0.0), ("pause", None)):
            value = getattr(self, name)
            if not (value >= 0 and value != low and value < float("inf")):
                above = "at least" if low is None else "above"
                raise ConfigError(f"{name} {value:g}: seconds, {above} 0")
        if self.smoothing < 1:
            raise ConfigError(f"smoothing {self.smoothing}: it must be at least 1 window")
        for name in ("threshold", "hold"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} {getattr(self, name):g}: above 0, up to 1")

    @property
    def lag(self) -> float:
        """Seconds from the middle of what is averaged to its end: whereof a window speaks."""
        return (self.window + (self.smoothing - 1) * self.stride) / 2


@dataclass(frozen=True)
class Event:
    """One sign that was seen.

    Attributes:
        label: The class.
        start: Seconds since the stream's first frame.
        end: Likewise.
        score: The highest averaged probability of the label.
        decided: When it was known, from which its delay is counted.
    """

    label: str
    start: float
    end: float
    score: float
    decided: float


def describe_event(event: Event) -> str:
    """An event on one line."""
    return f"{event.start:7.1f} – {event.end:.1f} s  {event.label}  {event.score:.0%}"


def windows(
    frames: Iterable[tuple[float, np.ndarray]], rule: StreamRule
) -> Iterator[tuple[float, np.ndarray]]:
    """The last `rule.window` seconds of a stream, every `rule.stride` seconds.

    Args:
        frames: Seconds, growing, and a frame's landmarks (K, D).
        rule: Says how long and how often.

    Yields:
        The time of the last frame since the first one, and (T, K, D) landmarks, T at least 2; the
        first when the stream is as long as a window.
    """
    seen: deque[tuple[float, np.ndarray]] = deque()
    first, due = None, rule.window
    for at, landmarks in frames:
        first = at if first is None else first
        now = at - first
        seen.append((now, landmarks))
        while seen[0][0] <= now - rule.window + _EARLY:
            seen.popleft()
        if now < due - _EARLY or len(seen) < 2:
            continue
        due = now + rule.stride
        yield now, np.stack([landmarks for _, landmarks in seen])


@dataclass
class Spotter:
    """Makes events of windows, one after the other.

    Attributes:
        rule: How.
        class_names: C labels, in the order of the probabilities.
    """

    rule: StreamRule
    class_names: Sequence[str]
    _last: deque[np.ndarray] = field(init=False)
    _event: Event | None = field(init=False, default=None)

    def __post_init__(self):
        self._last = deque(maxlen=self.rule.smoothing)

    @property
    def averaged(self) -> np.ndarray:
        """(C,) of the last windows; fewer than k at the beginning."""
        return np.mean(self._last, axis=0)

    @property
    def event(self) -> Event | None:
        """The sign that goes on, as far as it is known."""
        return self._event

    def add(self, now: float, probabilities: np.ndarray) -> Event | None:
        """Takes a window.

        Args:
            now: Its last frame's time in seconds.
            probabilities: (C,) calibrated; zeros where nobody is seen.

        Returns:
            The event that has ended, if one has.
        """
        self._last.append(np.asarray(probabilities, np.float64))
        averaged, rule = self.averaged, self.rule
        best = int(averaged.argmax())
        label, score = self.class_names[best], float(averaged[best])
        begins = label != rule.idle and score >= rule.threshold
        at = max(now - rule.lag, 0.0)
        ended = None
        if self._event is not None:
            own = float(averaged[self.class_names.index(self._event.label)])
            other = begins and label != self._event.label
            if not other and own >= rule.hold * rule.threshold:
                score = max(self._event.score, own)
                self._event = dataclasses.replace(self._event, end=at, score=score)
            elif other or at - self._event.end >= rule.pause - _EARLY:
                ended, self._event = self._event, None
        if self._event is None and begins:
            self._event = Event(label, at, at, score, now)
        return ended

    def finish(self) -> Event | None:
        """The event that the end of the stream ends, if one has begun."""
        ended, self._event = self._event, None
        return ended


def spot(
    times: Sequence[float],
    probabilities: np.ndarray,
    rule: StreamRule,
    class_names: Sequence[str],
) -> list[Event]:
    """The events of a whole stream.

    Args:
        times: Of each window, in seconds.
        probabilities: A row (C,) for each.
        rule: How.
        class_names: C labels.
    """
    spotter = Spotter(rule, class_names)
    ended = [spotter.add(now, row) for now, row in zip(times, probabilities, strict=True)]
    return [event for event in [*ended, spotter.finish()] if event is not None]

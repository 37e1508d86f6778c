"""Streams of which is known what they hold, and what became of their signs."""

import dataclasses

import numpy as np
import pytest

from signbart.errors import ClipError
from signbart.recordings.clip import Clip, ClipSet
from signbart.streaming.rule import Event
from signbart.streaming.scoring import COLUMNS, Spotting, score_stream, total
from signbart.streaming.stringing import Sign, string_clips

NAMES = ("hello", "idle", "thanks")


def clip(label, signer, value, frames=10):
    """All landmarks stand at a place by which the clip is known again."""
    return Clip(np.full((frames, 3, 2), value, np.float32), label, signer, 0, f"{value}")


@pytest.fixture
def clips():
    made = [clip(at % 3, who, 0.1 + 0.01 * at) for at in range(12) for who in ("A", "B")]
    return ClipSet(tuple(made), NAMES)


def test_a_stream_holds_every_sign_once_where_it_says(clips):
    stream = string_clips(clips, "A", fps=10, seed=3, idle="idle")
    signs = [c for c in clips.clips if c.signer == "A" and c.label != 1]
    assert len(stream.signs) == len(signs) == 8
    found = []
    for sign in stream.signs:
        first, last = round(sign.start * 10), round(sign.end * 10)
        assert last - first == 9
        (value,) = set(stream.landmarks[first : last + 1].ravel())
        found.append((NAMES.index(sign.label), value))
        # A crossing of three frames leads there and away.
        before, behind = stream.landmarks[first - 1, 0, 0], stream.landmarks[last + 1, 0, 0]
        assert value not in (before, behind)
    assert sorted(found) == sorted((c.label, c.landmarks[0, 0, 0]) for c in signs)
    # Idle stands before, between and behind; 1 to 3 s and the crossings.
    gaps = [b.start - a.end for a, b in zip(stream.signs, stream.signs[1:], strict=False)]
    assert min(gaps) > 1.0 and max(gaps) < 5.0
    assert stream.signs[0].start >= 1.0 and stream.minutes * 60 - stream.signs[-1].end > 1.0
    assert stream.frames()[1][0] == pytest.approx(0.1) and len(stream.frames()) == len(
        stream.landmarks
    )


def test_the_seed_decides_and_other_signers_do_not(clips):
    stream = string_clips(clips, "A", fps=10, seed=3, idle="idle")
    alone = clips.select(at for at, who in enumerate(clips.signers) if who == "A")
    again = string_clips(alone, "A", fps=10, seed=3, idle="idle")
    np.testing.assert_array_equal(stream.landmarks, again.landmarks)
    other = string_clips(clips, "A", fps=10, seed=4, idle="idle")
    assert [s.start for s in other.signs] != [s.start for s in stream.signs]


def test_without_idle_the_body_rests_and_hands_cross():
    first, then = clip(0, "A", 0.2), clip(0, "A", 0.8)
    then.landmarks[0, 0] = 0  # not detected when it begins
    stream = string_clips(ClipSet((first, then), NAMES), "A", fps=10, seed=0, idle="idle")
    at = round(stream.signs[1].start * 10)
    place = stream.landmarks[at - 3 : at, :, 0]
    rest, came = stream.landmarks[at - 4, 1, 0], stream.landmarks[at, 1, 0]
    assert (rest, came) == (np.float32(0.2), np.float32(0.8))
    np.testing.assert_allclose(place[:, 1], rest + (came - rest) * np.array([0.25, 0.5, 0.75]))
    # What is missing on one side is so on that half of the way.
    assert place[:, 0].tolist() == [rest, 0, 0]
    assert (stream.landmarks[at - 14 : at - 4, 1, 0] == rest).all()


def test_a_signer_without_signs_is_named(clips):
    resting = clips.select(at for at, label in enumerate(clips.labels) if label == 1)
    with pytest.raises(ClipError, match="'A'"):
        string_clips(resting, "A", fps=10, seed=0, idle="idle")


SIGNS = (Sign("hello", 10, 12), Sign("thanks", 20, 22), Sign("hello", 30, 32))


def event(label, start, end, decided=None):
    return Event(label, start, end, 0.9, decided or end)


@pytest.mark.parametrize(
    ("events", "hits", "substitutions", "misses", "alarms"),
    [
        ([], 0, 0, 3, 0),
        ([event("hello", 11, 12), event("thanks", 21, 25), event("hello", 29, 30)], 3, 0, 0, 0),
        ([event("thanks", 11, 12)], 0, 1, 2, 0),
        ([event("hello", 11, 11), event("hello", 12, 13)], 1, 0, 2, 1),  # twice in one sign
        ([event("thanks", 10, 11), event("hello", 11, 12)], 1, 0, 2, 1),  # wrong, then right
        ([event("hello", 14, 18)], 0, 0, 3, 1),  # in idle
        ([event("hello", 11, 31)], 1, 0, 2, 0),  # over several: it is the first one's
        ([event("thanks", 11, 21)], 1, 0, 2, 0),  # the sign that it is comes first
    ],
)
def test_every_sign_and_every_event_counts_once(events, hits, substitutions, misses, alarms):
    found = total(score_stream(SIGNS, events, 1.0).values())
    assert (found.signs, found.hits, found.substitutions) == (3, hits, substitutions)
    assert (found.misses, found.false_alarms) == (misses, alarms)
    assert found.hits + found.substitutions + found.misses == found.signs
    assert hits + substitutions + alarms == len(events)


def test_delays_rates_and_labels():
    events = [
        event("hello", 11, 12, 12.5), event("no", 15, 16), event("no", 17, 18),
        event("hello", 31, 32, 33.0), event("hello", 21, 22),
    ]  # fmt: skip
    found = score_stream(SIGNS, events, 2.0)
    assert found["hello"].delays == [2.5, 3.0] and found["hello"].delay == 2.75
    assert (found["thanks"].substitutions, found["thanks"].delay) == (1, None)
    assert (found["no"].signs, found["no"].false_alarms_a_minute) == (0, 1.0)
    assert len(found["no"].row("no")) == len(COLUMNS)
    assert found["hello"].numbers()["median_delay_s"] == 2.75
    two = total([found["hello"], dataclasses.replace(found["no"], minutes=3.0)])
    assert (two.signs, two.false_alarms, two.minutes) == (2, 2, 5.0)
    assert Spotting().false_alarms_a_minute is None

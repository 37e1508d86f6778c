"""Windows and events, by streams whose windows can be counted on fingers."""

import json
import math

import numpy as np
import pytest

from signbart.errors import ConfigError
from signbart.streaming.rule import Event, Spotter, StreamRule, spot, windows
from signbart.streaming.vectors import stream_vector

NAMES = ("hello", "idle", "thanks")
# One window a second that speaks for its own middle, half a second before its end.
PLAIN = StreamRule(window=1.0, stride=1.0, smoothing=1, threshold=0.6, hold=0.5, pause=2.0)


def shares(text):
    """Of each letter a window: h and t surely, i idle, w a weak hello, x nobody."""
    rows = {
        "h": (0.9, 0.05, 0.05), "t": (0.05, 0.05, 0.9), "i": (0.1, 0.8, 0.1),
        "w": (0.4, 0.3, 0.3), "x": (0, 0, 0),
    }  # fmt: skip
    return np.array([rows[letter] for letter in text])


def labels(text, rule=PLAIN):
    times = [1.0 + at for at in range(len(text))]
    return [(e.label, e.start, e.end) for e in spot(times, shares(text), rule, NAMES)]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("iiii", []),
        ("wwww", []),  # nothing begins below the threshold …
        ("ihhii", [("hello", 1.5, 2.5)]),
        ("ihwwi", [("hello", 1.5, 3.5)]),  # … but goes on
        ("hihii", [("hello", 0.5, 2.5)]),  # a short pause is the same sign
        ("hiihi", [("hello", 0.5, 0.5), ("hello", 3.5, 3.5)]),
        ("hxxhi", [("hello", 0.5, 0.5), ("hello", 3.5, 3.5)]),  # nobody there is a pause, too
        ("hhtt", [("hello", 0.5, 1.5), ("thanks", 2.5, 3.5)]),  # without idle between them
        ("hit", [("hello", 0.5, 0.5), ("thanks", 2.5, 2.5)]),
        ("h", [("hello", 0.5, 0.5)]),  # ended by the stream
    ],
)
def test_one_sign_gives_one_event(text, events):
    assert labels(text) == events


def test_an_event_has_its_highest_score_and_when_it_was_known():
    rows = shares("iwhwi")
    rows[2, 0] = 0.7
    (event,) = spot([1, 2, 3, 4, 5], rows, PLAIN, NAMES)
    assert event == Event("hello", 2.5, 3.5, 0.7, 3)


def test_a_model_without_idle_goes_by_the_threshold():
    assert spot([1.0], shares("i"), PLAIN, ("a", "b", "c"))[0].label == "b"


def test_windows_are_averaged_and_speak_for_their_middle():
    rule = StreamRule(window=1.0, stride=1.0, smoothing=3, threshold=0.6, hold=0.5, pause=2.0)
    assert rule.lag == 1.5
    spotter = Spotter(rule, NAMES)
    spotter.add(1.0, shares("h")[0])
    np.testing.assert_allclose(spotter.averaged, shares("h")[0])
    spotter.add(2.0, shares("i")[0])
    np.testing.assert_allclose(spotter.averaged, shares("hi").mean(axis=0))
    for at, letter in enumerate("ii"):
        spotter.add(3.0 + at, shares(letter)[0])
    np.testing.assert_allclose(spotter.averaged, shares("i")[0])
    # One window alone is no sign any more.
    assert labels("iihii", rule) == []
    # The average sinks as slowly as it rose, and hold is half of the threshold.
    assert labels("iihhhii", rule) == [("hello", 2.5, 5.5)]


def frames(times):
    return ((at, np.full((2, 2), float(row), np.float32)) for row, at in enumerate(times))


def test_windows_are_the_last_seconds_at_any_rate():
    rule = StreamRule(window=2.0, stride=0.2)
    # 15 frames a second: 30 frames are 2 s, and every third one ends a window, whatever the clock's
    # rounding; a stream may begin at any time.
    found = [*windows(frames(7.7 + np.arange(60) / 15), rule)]
    assert [len(landmarks) for _, landmarks in found] == [30] * 10
    np.testing.assert_allclose([now for now, _ in found], 2.0 + 0.2 * np.arange(10))
    assert found[0][1][-1, 0, 0] == 30 and found[0][1].shape == (30, 2, 2)
    # A slow camera gives each frame a window, and does not catch up.
    slow = [*windows(frames(np.arange(12) / 2), rule)]
    assert [now for now, _ in slow] == [2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5]
    assert [len(landmarks) for _, landmarks in slow] == [4] * 8
    # Nothing is said before a window is full, and not of one frame.
    assert [*windows(frames(np.arange(30) / 15), rule)] == []
    assert [*windows(frames([0.0, 9.0]), rule)] == []


@pytest.mark.parametrize(
    "bad",
    [
        {"window": 0}, {"window": math.nan}, {"stride": 0}, {"stride": math.inf}, {"pause": -1},
        {"smoothing": 0}, {"threshold": 0}, {"threshold": 1.1}, {"hold": 0}, {"hold": math.nan},
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_named(bad):
    (name,) = bad
    with pytest.raises(ConfigError, match=name):
        StreamRule(**bad)


def test_the_vector_is_what_the_rule_makes():
    """What a port is tested by; and that it tests everything: each field changes it."""
    rule = StreamRule()
    vector = stream_vector(rule)
    text = json.dumps(vector, allow_nan=False)
    assert json.loads(text) == vector and len(text) < 20_000
    rows = np.array([step["probabilities"] for step in vector["steps"]])
    times = [step["time"] for step in vector["steps"]]
    ended = [step["ended"] for step in vector["steps"] if step["ended"]] + [vector["last"]]
    assert [Event(**event) for event in ended] == spot(times, rows, rule, vector["class_names"])
    assert len(ended) >= 3 and not rows.any(axis=1).all()
    others = {
        "window": 1.5, "stride": 0.3, "smoothing": rule.smoothing + 1, "threshold": 0.7,
        "hold": 0.9, "pause": 1.2, "idle": "hello",
    }  # fmt: skip
    assert others.keys() == vector["rule"].keys()
    for name, value in others.items():
        other = stream_vector(StreamRule(**{name: value}))
        del other["rule"]
        assert any(other[key] != vector[key] for key in other), name

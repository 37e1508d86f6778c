"""Models are timed by turns within one run; how fast this machine is, no test says."""

import itertools

import pytest

from signbart import timing
from signbart.timing import Latency, interleaved


def test_calls_take_turns_after_their_warm_up():
    called = []
    calls = {name: lambda name=name: called.append(name) for name in "abc"}
    interleaved(calls, rounds=4, warm_up=2)
    assert "".join(called) == "aabbcc" + 4 * "abc"


def test_the_measures_are_milliseconds_of_the_timed_calls_alone(monkeypatch):
    clock = itertools.count()  # one call of the clock a second
    waits = iter([0, 0, *range(1, 12)])  # two warm-ups, then 1 … 11 s

    class Time:
        seconds = 0.0

        @classmethod
        def perf_counter(cls):
            next(clock)
            return cls.seconds

    def call():
        Time.seconds += next(waits)

    monkeypatch.setattr(timing, "time", Time)
    found = interleaved({"a": call}, rounds=11, warm_up=2)
    # The percentiles of 1 … 11: 6, 2 and 10.
    assert found == {"a": Latency(median=6000, low=2000, high=10000)}
    assert next(clock) == 22


def test_what_fails_is_not_hidden():
    def fail():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        interleaved({"a": fail}, rounds=1, warm_up=0)
    assert interleaved({}) == {}

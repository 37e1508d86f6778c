"""What all processes of a test run share is made once, or its failure is everybody's."""

import subprocess
import sys
import time

import pytest

HOLDER = """
import fcntl, pathlib, sys, time
root = pathlib.Path(sys.argv[1])
with open(root / "another's.lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("holds it", flush=True)
    time.sleep(1)
    (root / "another's").mkdir()
    (root / "another's" / "file").touch()
    (root / "another's.done").touch()
"""


def test_what_is_there_is_not_made_again(shared):
    calls = []

    def make(folder):
        calls.append(folder)
        (folder / "file").write_text("whole")

    first, second = shared("once", make), shared("once", make)
    assert first == second and calls == [first]
    assert (first / "file").read_text() == "whole"


def test_who_comes_while_another_process_makes_it_waits(shared):
    root = shared("beside", lambda folder: None).parent
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, root], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"holds it\n"
    folder = shared("another's", lambda folder: pytest.fail("is made by another process"))
    assert (folder / "file").is_file()
    assert holder.wait(timeout=30) == 0


def test_what_a_killed_process_left_is_made_anew(shared):
    root = shared("beside", lambda folder: None).parent
    (root / "half").mkdir()
    (root / "half" / "file").write_text("ha")
    assert list(shared("half", lambda folder: None).iterdir()) == []


def test_a_failure_is_told_to_all(shared):
    def fail(folder):
        raise ValueError("what the converter said")

    with pytest.raises(ValueError, match="what the converter said"):
        shared("failing", fail)
    with pytest.raises(pytest.fail.Exception, match=r"(?s)failing .*what the converter said"):
        shared("failing", lambda folder: None)


def test_who_takes_too_long_is_told_before_pytest_ends_the_test(shared, monkeypatch, pytestconfig):
    def slow(folder):
        time.sleep(100)

    limit = float(pytestconfig.getini("timeout"))
    given = []
    at_most = shared.__globals__["at_most"]

    def shorter(seconds):
        given.append(seconds)
        return at_most(0.1)

    monkeypatch.setitem(shared.__globals__, "at_most", shorter)
    with pytest.raises(TimeoutError, match=r"not made within 0\.1 s"):
        shared("slow", slow)
    assert 0 < given[0] < limit

"""How far tasks are is seen on a terminal and in a log, and what they print is not lost to it."""

import os
import pty
import re
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from signbart.engines import ENGINES, board, run_tasks
from signbart.engines.board import Board
from signbart.engines.engine import DONE, FAILED, RUNNING, WAITING

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time, which the test sets."""
    now = [0.0]
    monkeypatch.setattr(board.time, "monotonic", lambda: now[0])
    return now


def test_time_left_is_that_of_tasks_that_took_long(clock):
    tasks = Board([f"fold {at}" for at in range(6)])
    assert tasks.seconds_left() is None
    for at in (0, 1):
        tasks.move(at, RUNNING)
    tasks.move(0, DONE)  # found finished: it took nothing
    assert tasks.seconds_left() is None
    tasks.move(2, RUNNING)
    clock[0] = 60.0
    tasks.move(1, DONE)
    tasks.move(3, RUNNING)
    # Two run, one of which should have ended; two are to come.
    assert tasks.seconds_left() == pytest.approx((0 + 60 + 2 * 60) / 2)
    assert tasks.summary() == "2 of 6 done, 2 running, 0 failed, about 1:30 left"
    tasks.move(2, WAITING)  # its process died
    tasks.move(3, FAILED)
    assert tasks.summary() == "2 of 6 done, 0 running, 1 failed"


def test_tasks_may_end_while_a_table_is_made(clock):
    tasks = Board(["a", "b", "c"])
    for at in range(3):
        tasks.move(at, RUNNING)
    clock[0] = 60.0
    tasks.move(0, DONE)

    class Seconds(float):
        """What is squared as another thread notes the end of a task."""

        def __pow__(self, power):
            tasks.move(1, DONE)
            return float(self) ** power

    tasks.took[0] = Seconds(60.0)
    assert tasks.seconds_left() is not None
    assert set(tasks.took) == {0, 1}


def test_a_log_is_told_of_it_now_and_then(clock, capsys):
    def take(seconds):
        clock[0] += seconds

    list(run_tasks([partial(take, 8.0)] * 4))
    # Not after 8 s, for that is soon; nor at the end, which the command tells of.
    assert capsys.readouterr().out == "2 of 4 done, 0 running, 0 failed\n"
    list(run_tasks([partial(take, 80.0)]))
    assert capsys.readouterr().out == ""


def test_a_log_hears_from_it_where_tasks_are_not_heard(monkeypatch, capsys):
    monkeypatch.setattr("signbart.waiting.SILENCE", 0.0)
    far = replace(ENGINES["serial"], is_remote=True)
    list(run_tasks([partial(time.sleep, 0.2)], engine=far))
    assert "0 of 1 done, 1 running, 0 failed (0 s)\n" in capsys.readouterr().err


def test_a_table_names_what_runs_first():
    tasks = Board([f"fold {at}" for at in range(20)])
    for at in range(15):
        tasks.move(at, DONE)
    tasks.move(17, RUNNING)
    rows = [*tasks.table().renderables[1].columns[0].cells]
    assert rows[0] == "fold 17" and rows[1] == "fold 15" and rows[-1] == "… 8 more"


SCRIPT = """
import os, subprocess, sys, time
from functools import partial
from signbart.console import run_command
from signbart.engines import ENGINES, board, run_tasks

def task(at):
    time.sleep(0.3)
    os.write(1, b"from descriptor %d\\n" % at)
    subprocess.run(["echo", f"from a child {at}"])
    print("a line of", at)
    time.sleep(0.3)
    if "fail" in sys.argv:
        raise OSError(28, "No space left", "folder")

def main():
    board.SHORT = 0.1
    for at, _ in run_tasks([partial(task, at) for at in range(3)], engine=sys.argv[1]):
        print("ended", at)
    print("the end")

if __name__ == "__main__":
    run_command(main)
"""


def seen_on_terminal(folder, *arguments) -> tuple[int, str]:
    """Exit status and all that a terminal was sent."""
    (folder / "tasks.py").write_text(SCRIPT)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(folder / "tasks.py"), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 65536):
            seen += part
    except OSError:  # so Linux says that nobody holds the other end any more
        pass
    os.close(ours)
    return process.wait(30), seen.decode()


@pytest.mark.parametrize("engine", ["serial", "processes"])
def test_a_terminal_shows_a_table_and_every_line_that_tasks_print(tmp_path, engine):
    status, seen = seen_on_terminal(tmp_path, engine)
    assert status == 0
    lines = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", seen).splitlines()
    for at in range(3):
        for text in (f"from descriptor {at}", f"from a child {at}", f"a line of {at}"):
            assert lines.count(text) == 1, seen
    assert "2 of 3 done, 1 running, 0 failed, about 0:0" in seen
    assert re.search(r"task 3 +running +0:0", seen)
    assert seen.rstrip().endswith("the end")


def test_what_ends_the_tasks_is_said_below_the_table(tmp_path):
    status, seen = seen_on_terminal(tmp_path, "serial", "fail")
    assert status == 2
    assert seen.rstrip().endswith("error: folder: No space left")
    assert "\x1b[?25h" in seen  # the cursor is there again

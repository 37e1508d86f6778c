"""What commands say while one waits for them: by their words, not by the clock."""

import math
import os
import pickle
import pty
import subprocess
import sys
from functools import partial
from io import StringIO

import pytest
from rich.console import Console
from rich.progress import Progress

from signbart import waiting
from signbart.console import redirect_output
from signbart.training.progress import Pace
from signbart.waiting import heard, stage, time_left, track, within


@pytest.fixture
def at_once(monkeypatch):
    """Silence is broken at once, not after some seconds."""
    monkeypatch.setattr(waiting, "SILENCE", 0.0)


def test_a_stage_says_what_is_done_and_within_what(at_once, capsys):
    with stage("fold 2 of 8, S02"), stage(lambda: "epoch 3 of 80"):
        pass
    said = capsys.readouterr()
    assert "fold 2 of 8, S02: epoch 3 of 80 (0 s)\n" in said.err and not said.out


@pytest.mark.parametrize("anyhow", [True, False])
def test_what_is_said_anyhow_is_not_said_twice(anyhow, capsys):
    with stage("a"):
        waiting._stages.heard = -math.inf
        if anyhow:
            heard()
        with stage("b"):
            pass
    assert ("a: b (0 s)\n" in capsys.readouterr().err) == (not anyhow)


def test_a_stage_that_fails_is_over(at_once, capsys):
    with pytest.raises(ValueError, match="wrong"), stage("first"):
        raise ValueError("wrong")
    capsys.readouterr()
    with stage("second"):
        pass
    assert "first" not in capsys.readouterr().err


def test_lines_reach_stderr_though_a_converter_has_it(at_once, capfd, tmp_path):
    with stage("route onnx"), redirect_output(tmp_path / "log"):
        print("chatter", file=sys.stderr)
        with stage("exporting"):
            pass
    assert "route onnx: exporting" in capfd.readouterr().err
    assert "exporting" not in (tmp_path / "log").read_text()


def test_silence_is_broken_though_nothing_happens():
    program = (
        "import time; from signbart import waiting; waiting.SILENCE = 0.1\n"
        "with waiting.stage('sleeping'): time.sleep(0.6)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stderr.count("sleeping (") >= 2 and not ran.stdout


def test_a_task_in_a_stage_can_be_pickled(at_once, capsys):
    task = pickle.loads(pickle.dumps(partial(within, "training 1 of 2", partial(max, 3, 4))))
    assert task() == 4 and "training 1 of 2" in capsys.readouterr().err


def test_items_are_counted_in_a_log(at_once, capsys):
    seen = []
    for item in track(iter("abc"), "reading", 3):
        seen.append(item)
        with stage(item):
            pass
    assert seen == [*"abc"]
    said = capsys.readouterr().err
    assert "reading: 0 of 3: a" in said and "reading: 2 of 3, 0 s left: c" in said


def on_a_terminal(program: str) -> bytes:
    ours, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", program], stdout=theirs, stderr=theirs, timeout=60, check=True,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        said += part
    os.close(ours)
    return said


def test_items_have_a_bar_on_a_terminal():
    said = on_a_terminal(
        "from signbart import waiting; waiting.SHORT = -1\n"
        "for item in waiting.track([1, 2], 'measuring'):\n"
        "    with waiting.stage('nothing beside a bar'): pass"
    )
    assert b"measuring" in said and b"beside" not in said


def test_a_slow_first_item_is_waited_for_with_words():
    said = on_a_terminal(
        "import time; from signbart import waiting; waiting.SILENCE = 0.1\n"
        "def items(): yield time.sleep(0.6)\n"
        "for item in waiting.track(items(), 'measuring', 1): pass"
    )
    assert b"measuring: 0 of 1 (" in said


def test_a_bar_speaks_for_a_while(capsys):
    """Or the thread would look again at once."""
    console = Console(file=StringIO(), force_terminal=True)
    with stage("a"), Progress(console=console):
        waiting._stages.heard = -math.inf
        waiting._stages.say_if_due()
        assert waiting._stages.heard > -math.inf
    assert "a (" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("done", "total", "seconds", "text"),
    [
        (0, 8, 10, ""),
        (3, None, 10, ""),
        (3, 3, 10, ""),
        (2, 8, 10, ", 30 s left"),
        (1, 8, 60, ", 7 min left"),
        (1, 100, 60, ", 1.6 h left"),
    ],
)
def test_the_time_left(done, total, seconds, text):
    assert time_left(done, total, seconds) == text


def test_the_pace_of_a_training_counts_what_it_trains_itself():
    pace = Pace(epochs=10, steps=4, done=5)
    pace.begin(5, 0)
    assert pace.describe() == "epoch 6 of 10, step 1 of 4"
    pace.begin(6, 2)
    assert pace.describe().startswith("epoch 7 of 10, step 3 of 4, ")


def test_a_forked_process_begins_anew(at_once, capfd):
    with stage("of the parent"):
        child = os.fork()
        if not child:
            with stage("of the child"):
                pass
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert "\nof the child (0 s)" in f"\n{capfd.readouterr().err}"

"""How a command ends."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from signbart.console import DEFECT, run_command
from signbart.errors import SignBartError
from signbart.process import Terminated


def ended(main, capsys) -> tuple[int, str]:
    """Exit status, and what was said on stderr."""
    with pytest.raises(SystemExit) as exit:
        run_command(main)
    return exit.value.code, capsys.readouterr().err


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """What the system's folder for temporary files is meanwhile."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["signbart classify", "m.tflite", "a clip.npy"])
    monkeypatch.delenv("SIGNBART_TRACEBACK", raising=False)
    return tmp_path


def falls() -> None:
    {}["a key\nof \x1b[31mtwo lines"]


def test_a_fault_of_our_own_is_one_line_that_names_the_file_with_its_traceback(temporary, capsys):
    status, said = ended(falls, capsys)
    assert status == DEFECT and len(said.splitlines()) == 1 and "\x1b" not in said
    assert said.startswith("error: signbart classify m.tflite 'a clip.npy': a fault of SignBART")
    (path,) = temporary.iterdir()
    assert re.search(r"KeyError: .* report it with (\S+),", said)[1] == str(path)
    text = path.read_text()
    assert "Traceback (most recent call last)" in text and "in falls" in text
    assert text.startswith("signbart classify m.tflite 'a clip.npy'\nsignbart ")
    assert path.stat().st_mode & 0o077 == 0  # a command may name what is nobody else's business


def test_the_traceback_is_shown_where_that_is_asked_for(temporary, monkeypatch):
    monkeypatch.setenv("SIGNBART_TRACEBACK", "1")
    with pytest.raises(KeyError):
        run_command(falls)
    assert not [*temporary.iterdir()]


def test_where_nothing_can_be_written_the_line_says_how_to_see_it(temporary, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "absent"))
    status, said = ended(falls, capsys)
    assert status == DEFECT and "SIGNBART_TRACEBACK=1 shows it" in said


def test_temporaries_of_a_command_are_its_own_and_go_with_it(temporary, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(temporary))
    made = []

    def work():
        made.append(tempfile.mkdtemp())
        child = "import tempfile; print(tempfile.gettempdir())"
        told = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
        made.append(told.stdout.strip())

    with pytest.raises(SystemExit):
        run_command(work)
    assert ".signbart" in made[1] and Path(made[0]).parent == Path(made[1])
    assert [*temporary.iterdir()] == [] and os.environ["TMPDIR"] == tempfile.tempdir


def test_a_command_runs_where_there_is_no_place_for_temporaries(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(SystemExit) as exit:
        run_command(lambda: 0)
    assert exit.value.code == 0


def test_what_is_expected_is_no_fault(temporary, capsys):
    def refuse():
        raise SignBartError("a.npz: no such file")

    def interrupt():
        raise KeyboardInterrupt

    def interrupt_within_a_library():
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
        raise KeyboardInterrupt  # as Ray does

    assert ended(interrupt_within_a_library, capsys) == (143, "interrupted\n")
    assert ended(refuse, capsys) == (2, "error: a.npz: no such file\n")
    assert ended(interrupt, capsys) == (130, "interrupted\n")
    assert ended(lambda: None, capsys) == (0, "")
    assert not [*temporary.iterdir()]


def test_pipes_and_devices_are_neither_files_nor_folders(tmp_path, monkeypatch, capsys):
    """Nobody writes to the one, and the other has no end."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for said in (f"{tmp_path}/pipe", f"--data={tmp_path}/pipe", f"@{tmp_path}/zeros"):
        monkeypatch.setattr("sys.argv", ["signbart classify", str(tmp_path), "0", said])
        status, message = ended(lambda: pytest.fail("ran"), capsys)
        assert status == 2
        assert "is a pipe or a device" in message


def test_an_argument_of_nothing_and_a_link_to_itself_are_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "loop").symlink_to("loop")
    for said, why in (("", "an argument is empty"), (f"{tmp_path}/loop", "it leads to itself")):
        monkeypatch.setattr("sys.argv", ["signbart web", "--build", said])
        status, message = ended(lambda: pytest.fail("ran"), capsys)
        assert status == 2
        assert why in message


def test_a_whole_process_ends_so(tmp_path):
    program = "from signbart.console import run_command; run_command(lambda: 1 // 0)"
    process = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={"TMPDIR": str(tmp_path)},
    )
    assert process.returncode == DEFECT and "ZeroDivisionError" in process.stderr
    assert len(process.stderr.splitlines()) == 1 and len([*tmp_path.iterdir()]) == 1


def test_what_a_file_is_called_does_not_rule_the_terminal(monkeypatch, capsys):
    def main():
        raise SignBartError("a\x1b[2J\x9b31m\x00.npy: damaged\n  and more")

    monkeypatch.setattr(sys, "argv", ["signbart clips"])
    with pytest.raises(SystemExit):
        run_command(main)
    assert capsys.readouterr().err == "error: a\\x1b[2J\\x9b31m\\x00.npy: damaged\n  and more\n"

"""Commands as processes: signals end them tidily, and no terminal, pipe or option breaks them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from signbart.command_line import VERBS

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "exports/example"
MODEL = EXAMPLE / "demo_litert_dynamic_int8.tflite"
START = "from signbart.command_line import main; main()"

# Temporaries of this process and of its workers; then it waits for ten minutes.
TIDY = """
import sys, tempfile, time
from functools import partial
from pathlib import Path
from signbart.console import run_command
from signbart.engines import run_tasks
from signbart.files import atomic_write

def write(name):
    with atomic_write(Path(f"{name}.txt")) as beside:
        beside.write_text("half")
        with tempfile.TemporaryDirectory(dir="."):
            Path(f"{name}.begun").touch()
            time.sleep(600)

def main():
    if "--workers" in sys.argv:
        list(run_tasks([partial(write, "a"), partial(write, "b")], 2))
    write("c")

if __name__ == "__main__":
    run_command(main)
"""


def start(*arguments: object, options: tuple[str, ...] = (), **given) -> subprocess.Popen:
    """A verb in a process of its own, deaf to no signal."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **given.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, *options, "-c", START, *map(str, arguments)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        **given,
    )


def run(*arguments: object, **given) -> tuple[int, str, str]:
    process = start(*arguments, stdout=subprocess.PIPE, **given)
    output, errors = process.communicate(timeout=100)
    return process.returncode, output, quiet(errors)


def quiet(errors: str) -> str:
    """Without what LiteRT says when it starts."""
    return "".join(f"{x}\n" for x in errors.splitlines() if not x.startswith(("INFO:", "WARNING:")))


@pytest.mark.parametrize("workers", [False, True], ids=["alone", "workers"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_leave_nothing_behind(tmp_path, number, workers):
    (tmp_path / "tidy.py").write_text(TIDY)
    process = subprocess.Popen(
        [sys.executable, "tidy.py", *(["--workers"] if workers else [])],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while len([*tmp_path.glob("*.begun")]) < 1 + workers and time.monotonic() < deadline:
        time.sleep(0.02)
    # As a terminal does that goes, and a service manager that stops: to every process.
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (128 + number, "interrupted\n")
    left = {path.name for path in tmp_path.iterdir()} - {"tidy.py", "__pycache__"}
    assert left == {f"{name}.begun" for name in ("ab" if workers else "c")}


def test_a_signal_to_the_parent_alone_ends_its_workers_tidily(tmp_path):
    (tmp_path / "tidy.py").write_text(TIDY)
    process = subprocess.Popen(
        [sys.executable, "tidy.py", "--workers"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    deadline = time.monotonic() + 60
    while len([*tmp_path.glob("*.begun")]) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.terminate()
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    left = {path.name for path in tmp_path.iterdir()} - {"tidy.py", "__pycache__"}
    assert left == {"a.begun", "b.begun"}


def test_what_nohup_started_stays_deaf(tmp_path):
    (tmp_path / "tidy.py").write_text(TIDY)
    process = subprocess.Popen(
        ["nohup", sys.executable, "tidy.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (tmp_path / "c.begun").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.terminate()
    assert process.wait(timeout=60) == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    "arguments", [["--help"], ["parity", "--help"], ["describe", MODEL], ["verify", EXAMPLE]],
    ids=["list", "help", "print", "table"],
)  # fmt: skip
def test_a_reader_that_has_gone_is_no_error(arguments):
    """As of `head`, but gone for sure before the first line."""
    read, write = os.pipe()
    os.close(read)
    process = start(*arguments, stdout=write)
    os.close(write)
    _, errors = process.communicate(timeout=60)
    # argparse itself overlooks it where a help text is longer than the buffer.
    status = 0 if arguments[-1] == "--help" and process.returncode == 0 else 128 + signal.SIGPIPE
    assert (process.returncode, quiet(errors)) == (status, "")


@pytest.mark.parametrize(
    "arguments", [["verify", EXAMPLE], ["describe", MODEL, "--json"], ["frobnicate…"]],
    ids=["table", "json", "error"],
)  # fmt: skip
def test_an_ascii_terminal_breaks_nothing(arguments):
    plain = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    status, found, errors = run(*arguments, env=plain)
    assert status == (2 if arguments == ["frobnicate…"] else 0)
    assert (found + errors).isascii() and "Traceback" not in errors
    if "--json" in arguments:
        output = run(*arguments)[1]
        assert not output.isascii() and json.loads(found) == json.loads(output)


def test_without_docstrings_and_assertions_every_command_starts():
    script = f"""
import sys
from signbart.command_line import dispatch
for verb in {list(VERBS)}:
    try:
        dispatch([verb, "--help"])
    except SystemExit as end:
        if end.code:
            raise ValueError(verb)
"""
    done = subprocess.run(
        [sys.executable, "-OO", "-c", script], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Say what recordings hold" in done.stdout  # and not nothing, as of a docstring
    status, output, errors = run("verify", EXAMPLE, env={"PYTHONOPTIMIZE": "2"})
    assert (status, errors) == (0, "") and "11 of 11 hold" in output


@pytest.mark.parametrize("closed", [(1,), (0, 1, 2)], ids=["output", "all"])
def test_a_closed_standard_output_breaks_nothing(tmp_path, closed):
    """And what is printed does not land in the file that is opened next."""
    for name, numbers in (("open.npz", ()), ("closed.npz", closed)):
        redirections = " ".join(f"{number}>&-" for number in numbers)
        command = 'exec "$0" -c "$1" synthetic "$2" --signers 1 --repetitions 1 ' + redirections
        done = subprocess.run(
            ["bash", "-c", command, sys.executable, START, tmp_path / name],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
        )
        assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "open.npz").read_bytes() == (tmp_path / "closed.npz").read_bytes()


def test_a_table_to_a_closed_standard_output_breaks_nothing():
    command = 'exec "$0" -c "$1" verify "$2" >&-'
    arguments = [sys.executable, START, EXAMPLE]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    assert subprocess.run(["bash", "-c", command, *arguments], env=environment).returncode == 0


def test_a_full_disk_behind_the_output_is_an_error():
    with open("/dev/full", "w") as full:
        process = start("--help", stdout=full)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2 and errors.startswith("error: ") and "space" in errors
    assert len(errors.splitlines()) == 1

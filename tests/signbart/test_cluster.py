"""Folds on a real cluster of two machines, here two nodes on loopback: none is lost with one."""

import argparse
import contextlib
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.loopback import (
    Nodes,
    cluster_environment,
    kill,
    processes_of,
    two_nodes,
    wait_until,
    workers_of,
)
from signbart.engines import CRASHED, ENGINES, run_tasks
from signbart.engines.cluster import run_on_ray
from signbart.engines.connection import Cluster, connected
from signbart.engines.engine import Batch
from signbart.engines.options import add_engine_arguments, engine_of
from signbart.engines.packing import pack, shared_arguments, unpack
from signbart.engines.travel import Errand, bring_home, perform, written
from signbart.errors import ConfigError, SignBartError
from signbart.files import make_folder
from signbart.recordings.packed import write_packed
from signbart.training.folds import run_folds
from signbart.training.frameworks import TORCH
from signbart.waiting import stage

SIGNERS = ["anna", "ben", "cleo", "dan"]


def besides_progress(said: str) -> list[str]:
    """The lines but those of how far all are, which are said where a machine is slow."""
    return [
        line for line in said.splitlines() if not re.match(r"\d of \d done, \d running, ", line)
    ]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds Ray's processes under /proc")
def test_folds_survive_the_death_of_a_machine(tmp_path, tiny_clips, tiny_config):
    pytest.importorskip("ray")
    from signbart_torch.loso import main
    from signbart_torch.training.checkpoint import load_checkpoint

    write_packed(tiny_clips, tmp_path / "tiny.npz")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_config.to_dict()))
    arguments = [
        "--config", str(tmp_path / "tiny.yaml"), "--data", str(tmp_path / "tiny.npz"),
        "--device", "cpu", "--set", "train.epochs=30",
    ]  # fmt: skip
    environment = cluster_environment()
    output = tmp_path / "cluster"
    with two_nodes(environment) as (address, nodes):
        command = [sys.executable, "-m", "signbart_torch.loso", *arguments]
        folds = subprocess.Popen(
            [*command, "--output", str(output), "--engine", "ray", "--address", address],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            # Both work, and have something to lose.
            wait_until(
                lambda: (
                    all(map(workers_of, nodes)) and len([*output.glob("*/last.safetensors")]) >= 2
                ),
                folds,
            )
            kill(nodes[1])
            printed, errors = folds.communicate(timeout=60)
        finally:
            folds.kill()
        assert folds.returncode == 0, errors
        assert "its machine is gone; try 1 of 4" in printed and "raylet" not in printed
        wait_until(lambda: not workers_of(nodes[0]))
    assert not any(map(processes_of, nodes))
    said = " ".join(besides_progress(errors)).replace("array", "").lower()
    assert "ray" not in said, errors  # it keeps its noise to itself
    assert main([*arguments, "--output", str(tmp_path / "serial")]) == 0
    assert (output / "summary.csv").read_text() == (tmp_path / "serial/summary.csv").read_text()
    for signer in SIGNERS:
        one, other = (
            load_checkpoint(folder / signer / "best.safetensors").tensors
            for folder in (output, tmp_path / "serial")
        )
        assert all(one[name].equal(other[name]) for name in one)


WAITS = """
import sys, time
from dataclasses import replace
from functools import partial
from signbart.console import run_command
from signbart.engines import ENGINES, run_tasks
from signbart.engines.cluster import Cluster, run_on_ray

def main():
    cluster = Cluster(sys.argv[1], cpus=int(sys.argv[2]))
    engine = replace(ENGINES["ray"], run=partial(run_on_ray, cluster=cluster))
    list(run_tasks([partial(time.sleep, 600)], None, engine=engine))

run_command(main)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds Ray's processes under /proc")
def test_what_ends_a_process_a_command_or_a_cluster_is_told_of():
    pytest.importorskip("ray")
    environment = cluster_environment()
    with contextlib.ExitStack() as stack:
        nodes = Nodes(environment, stack)
        head = nodes.start_head()

        def start(cpus: int) -> subprocess.Popen:
            command = subprocess.Popen(
                [sys.executable, "-c", WAITS, nodes.address, str(cpus)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                # A shell starts what runs in the background deaf to Ctrl-C.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
            stack.callback(command.kill)
            return command

        def ended(command: subprocess.Popen) -> tuple[int, str, list[str]]:
            printed, errors = command.communicate(timeout=60)
            return command.returncode, printed, besides_progress(errors)

        too_large = start(cpus=2)
        command = start(cpus=1)
        wait_until(lambda: workers_of(head), command)
        (first,) = workers_of(head)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: {*workers_of(head)} - {first}, command)
        command.send_signal(signal.SIGINT)
        told = "task 1: its process was killed; try 1 of 4\n"
        assert ended(command) == (130, told, ["interrupted"])
        wait_until(lambda: not workers_of(head))
        status, _, (error,) = ended(too_large)
        assert status == 2 and "no machine of the Ray cluster has what a task takes" in error
        command = start(cpus=1)
        wait_until(lambda: workers_of(head), command)
        kill(head)
        status, _, (error,) = ended(command)
    assert status == 2 and error.startswith("error: the Ray cluster is lost")
    assert "'ray start', on every machine) and give the same command, with --resume" in error


# A machine that does not see the folder


def train(clips: list, folder: Path, epochs: int) -> Path:
    """Goes on from what is in the folder; says what it found."""
    folder.mkdir(exist_ok=True)
    before = [path.read_text() for path in sorted(folder.iterdir())]
    print(f"begins with {before} and {len(clips)} clips")
    (folder / "last").write_text(str(epochs))
    return folder / "last"


def errand(task: bytes, folder, **changes) -> Errand:
    return Errand(
        **{
            "name": "fold anna", "task": task, "folder": str(folder), "mark": "none",
            "travels": True, "files": {}, "directory": os.getcwd(), "threads": 1, **changes,
        }
    )  # fmt: skip


@pytest.fixture(autouse=True)
def same_threads(monkeypatch):
    """A task sets them for its process, which here is the tests'."""
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))


def test_what_was_written_goes_along_and_comes_back(tmp_path):
    home, clips = tmp_path / "home", ["clip"]
    (home / "anna").mkdir(parents=True)
    (home / "anna" / "last").write_text("3")
    (home / "ben").mkdir()
    (home / "ben" / "last").write_text("of another")
    tasks = [partial(train, clips, home / name, 5) for name in ("anna", "ben")]
    assert shared_arguments(tasks) == []  # a list is none of what is worth it
    task, paths = pack(tasks[0], home)
    heard = []
    outcome = perform(
        errand(task, home, files=written(home, sorted(paths))),
        lambda kind, content: heard.append((kind, content)),
        [],
    )
    assert heard[0] == ("line", "begins with ['3'] and 1 clips")
    assert not outcome.raised and outcome.files == {"anna/last": b"5"}
    assert (home / "anna" / "last").read_text() == "3"  # it worked elsewhere
    bring_home(home, outcome.files)
    assert unpack(outcome.result, home).read_text() == "5"


def test_a_machine_that_sees_the_folder_works_there(tmp_path):
    (tmp_path / "mark").mkdir()
    task, _ = pack(partial(train, [], tmp_path / "anna", 5), tmp_path)
    outcome = perform(errand(task, tmp_path, mark="mark"), lambda *_: None, [])
    assert outcome.files == {} and (tmp_path / "anna" / "last").read_text() == "5"


def test_what_must_be_shared_is_asked_for(tmp_path):
    task, _ = pack(partial(train, [], tmp_path / "anna", 5), tmp_path)
    outcome = perform(errand(task, tmp_path, travels=False), lambda *_: None, [])
    assert outcome.raised
    with pytest.raises(
        SignBartError, match=rf"fold anna on \S+: {tmp_path} is not seen .* machine .* must share"
    ):
        raise unpack(outcome.result, None)


def test_an_error_names_the_machine(tmp_path):
    task, _ = pack(partial(make_folder, tmp_path / "file" / "in it"), tmp_path)
    (tmp_path / "mark").mkdir()
    (tmp_path / "file").touch()
    outcome = perform(errand(task, tmp_path, mark="mark"), lambda *_: None, [])
    with pytest.raises(SignBartError, match=rf"^fold anna on {platform.node()}: {tmp_path}"):
        raise unpack(outcome.result, tmp_path)


def keep_writing(folder: Path) -> None:
    """Leaves a thread behind that goes on writing, as a library may."""
    folder.mkdir()

    def go_on():
        number = 0
        while folder.is_dir():
            number += 1
            with contextlib.suppress(OSError):
                (folder / "events").write_text("." * (number % 1000))

    threading.Thread(target=go_on, daemon=True).start()
    (folder / "results").write_text("all of it")


def test_what_is_finished_comes_back_whatever_something_still_writes(tmp_path):
    task, _ = pack(partial(keep_writing, tmp_path / "anna"), tmp_path)
    outcome = perform(errand(task, tmp_path), lambda *_: None, [])
    assert outcome.files["anna/results"] == b"all of it"


def warn_and_fail() -> None:
    print("careful", file=sys.stderr)
    with stage("trying"):
        raise ZeroDivisionError("a fault")


def test_warnings_come_home_and_a_fault_says_where_it_is(monkeypatch):
    monkeypatch.setattr("signbart.waiting.SILENCE", 0.0)
    heard = []
    task, _ = pack(warn_and_fail, None)
    outcome = perform(errand(task, "x"), lambda *said: heard.append(said), [])
    assert heard == [("warning", "careful")]  # how far all are is said at home
    with pytest.raises(ZeroDivisionError) as raised:
        raise unpack(outcome.result, None)
    (note,) = raised.value.__notes__
    assert note.startswith(f"fold anna on {platform.node()}:") and "in warn_and_fail" in note


def test_a_full_disk_is_said_to_be_whose(tmp_path):
    task, _ = pack(partial(os.mkdir, tmp_path / "no" / "folder"), None)
    outcome = perform(errand(task, "x"), lambda *_: None, [])
    with pytest.raises(SignBartError, match=rf"^fold anna on \S+: {tmp_path}/no/folder: No such"):
        raise unpack(outcome.result, None)


def test_another_version_is_refused(tmp_path):
    outcome = perform(errand(b"", tmp_path, version="0.0"), lambda *_: None, [])
    with pytest.raises(
        SignBartError, match=r"fold anna on \S+: .* came from 0\.0; install the same"
    ):
        raise unpack(outcome.result, None)


def test_files_come_home_into_the_folder_alone(tmp_path):
    (tmp_path / "old").touch()
    bring_home(tmp_path, {"a/b": b"1", "old": None})
    assert {path.name for path in tmp_path.rglob("*")} == {"a", "b"}
    for name in ("../stray", "/tmp/stray"):
        with pytest.raises(SignBartError, match="lies outside"):
            bring_home(tmp_path, {name: b""})


def test_what_tasks_share_travels_once(tiny_clips):
    tasks = [partial(len, tiny_clips), partial(len, tiny_clips)]
    (shared,) = shared_arguments(tasks)
    assert shared is tiny_clips and shared_arguments(tasks[:1]) == []
    task, _ = pack(tasks[0], None, {id(tiny_clips): 0})
    assert len(task) < 200 < np.asarray(tiny_clips.clips[0].landmarks).nbytes
    assert unpack(task, None, [tiny_clips])() == len(tiny_clips)


def test_what_folds_share_is_found_whatever_is_wrapped_about_them(tiny_clips):
    seen = []

    def run(batch):
        seen.extend(shared_arguments(batch.tasks))
        yield from enumerate([None] * len(batch.tasks))

    folds = [partial(len, tiny_clips)] * 2
    list(run_folds(folds, None, TORCH, engine=replace(ENGINES["ray"], run=run)))
    assert len(seen) == 1 and seen[0] is tiny_clips


# Messages


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("ray://head:10001", "no Ray head answers there"),
        ("head", "expected HOST:PORT"),
        ("127.0.0.1:9", r"no Ray head answers there: .*refused; .*ray start --head --port 9"),
    ],
)
def test_an_address_that_does_not_answer(address, text):
    batch = Batch([os.getpid], None, None, ["fold anna"])
    began = time.monotonic()
    with pytest.raises(SignBartError, match=text):
        list(run_on_ray(batch, Cluster(address)))
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "no Ray head answers there: timed out"),
        (b"HTTP/1.0 400 Bad Request", "what answers there is no Ray head"),
    ],
)
def test_an_address_where_something_else_answers(monkeypatch, answer, text):
    monkeypatch.setattr("signbart.engines.connection._CONNECT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            connection.sendall(answer)
            connection.recv(100)
            time.sleep(2 if not answer else 0)
            connection.close()

        threading.Thread(target=serve, daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(SignBartError, match=text):
            list(run_on_ray(Batch([os.getpid], None, None, ["a"]), Cluster(address)))


def test_the_secret_of_a_local_ray_does_not_outlast_it(monkeypatch):
    pytest.importorskip("ray")  # which sets a variable of its own
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    before, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    with pytest.raises(SignBartError, match="Ray on this machine: cannot be used"):  # noqa: SIM117
        with connected(Cluster(cpus=-1), 1):
            pass
    assert dict(os.environ) == before
    assert signal.getsignal(signal.SIGTERM) is handler


def test_what_a_machine_has_room_for():
    both = Cluster(cpus=2, gpus=0.5)
    assert [both.room_on(has) for has in ({"CPU": 9.0, "GPU": 1.0}, {"CPU": 3.0, "GPU": 4.0})] == [
        2,
        1,
    ]
    assert both.room_on({"CPU": 16.0}) == 0 and Cluster().room_on({"CPU": 16.0}) == 16


def test_options_of_another_engine_are_refused():
    parser = argparse.ArgumentParser()
    add_engine_arguments(parser, "folds")
    parser.add_argument("--jobs", type=int)
    assert engine_of(parser.parse_args([])) is None
    assert engine_of(parser.parse_args(["--engine", "serial"])) is ENGINES["serial"]
    assert engine_of(parser.parse_args(["--engine", "ray", "--gpus-per-task", "0.5"])).tries_again
    for options in (["--address", "auto"], ["--engine", "serial", "--cpus-per-task", "2"]):
        with pytest.raises(ConfigError, match="go with --engine ray"):
            engine_of(parser.parse_args(options))
    with pytest.raises(ConfigError, match=r"--jobs 2: --engine serial runs one at a time"):
        engine_of(parser.parse_args(["--engine", "serial", "--jobs", "2"]))
    with pytest.raises(ConfigError, match=r"--gpus-per-task 1\.5: .* whole"):
        engine_of(parser.parse_args(["--engine", "ray", "--gpus-per-task", "1.5"]))


def test_what_killed_its_process_every_time_is_named():
    def run(batch):
        yield from [(1, CRASHED), (0, 5)]

    engine = replace(ENGINES["ray"], run=run)
    tasks = [os.getpid] * 2
    with pytest.raises(SignBartError, match="process of fold ben was killed"):
        list(run_tasks(tasks, None, engine=engine, name="fold", names=["anna", "ben"]))
    found = run_tasks(tasks, None, engine=engine, crashed=lambda at: f"{at} crashed")
    assert list(found) == [(1, "1 crashed"), (0, 5)]  # at once: it was tried again

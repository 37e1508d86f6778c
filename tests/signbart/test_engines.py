"""Tasks run by engines: none is lost to another's death, and none outlives the one that asked."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from signbart.engines import CRASHED, ENGINES, Engine, run_tasks
from signbart.errors import SignBartError


def number(value: int, seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return value


def wait_for(path: Path, value: int) -> int:
    while not path.exists():
        time.sleep(0.02)
    return value


def mark(folder: Path, value: int) -> int:
    """Notes that it ran, in which process and since when."""
    began = time.monotonic()
    time.sleep(0.3)
    (folder / f"{value}-{os.getpid()}").write_text(f"{began} {time.monotonic()}")
    return value


def die_once(folder: Path, value: int) -> int:
    """Kills its process the first time."""
    if not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return mark(folder, value)


def children() -> set[int]:
    return {child.pid for child in multiprocessing.active_children()}


# Order


def test_one_job_stays_in_this_process_and_in_order():
    assert list(run_tasks([os.getpid] * 3)) == [(at, os.getpid()) for at in range(3)]


def test_one_job_does_a_task_when_its_result_is_asked_for(tmp_path):
    tasks = [partial((tmp_path / name).touch) for name in "ab"]
    next(run_tasks(tasks))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_results_come_as_they_end_each_with_its_index(tmp_path):
    results = run_tasks(
        [partial(wait_for, tmp_path / "go", 10), partial(number, 11), partial(number, 12)], 2
    )
    assert [next(results), next(results)] == [(1, 11), (2, 12)]
    (tmp_path / "go").touch()
    assert list(results) == [(0, 10)]


def test_apart_every_task_has_a_process_of_its_own():
    processes = dict(run_tasks([os.getpid] * 3, apart=True))
    assert [*processes] == [0, 1, 2] and len({os.getpid(), *processes.values()}) == 4


def test_no_more_than_jobs_run_at_a_time(tmp_path):
    list(run_tasks([partial(mark, tmp_path, value) for value in range(4)], 2))
    spans = [tuple(map(float, path.read_text().split())) for path in tmp_path.iterdir()]
    together = [sum(began <= at <= ended for began, ended in spans) for at, _ in spans]
    assert len(spans) == 4 and max(together) <= 2


@pytest.mark.parametrize("threads", [None, 3])
def test_threads_are_set_where_they_are_given(threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    task = partial(os.getenv, "OMP_NUM_THREADS")
    assert list(run_tasks([task], apart=True, threads=threads)) == [(0, str(threads or 7))]
    assert os.environ["OMP_NUM_THREADS"] == "7"


# A worker that is killed


def test_without_a_result_for_it_a_killed_task_ends_the_others(tmp_path):
    tasks = [os.abort, partial(number, 1, 600)]
    with pytest.raises(SignBartError, match=r"process of fold 1 was killed.*; do this instead"):
        list(run_tasks(tasks, 2, name="fold", remedy="do this instead"))
    assert not children()


def test_with_one_the_others_go_on_and_it_is_tried_once_more(tmp_path):
    tasks = [partial(die_once, tmp_path, 0), *(partial(mark, tmp_path, at) for at in (1, 2, 3))]
    found = list(run_tasks(tasks, 2, crashed=lambda at: pytest.fail("it was not tried again")))
    assert sorted(found) == [(at, at) for at in range(4)] and found[-1] == (0, 0)
    # Alone: when the others have ended, each of which ran once.
    spans = {path.name[0]: path.read_text().split() for path in tmp_path.glob("*-*")}
    assert len([*tmp_path.glob("*-*")]) == 4
    assert float(spans["0"][0]) > max(float(spans[at][1]) for at in "123")


def test_what_kills_its_process_twice_has_the_result_that_is_said_of_it():
    tasks = [partial(number, 10), os.abort, partial(number, 12), partial(os._exit, 0)]
    found = list(run_tasks(tasks, 2, crashed=lambda at: f"{at} crashed"))
    assert found[2:] == [(1, "1 crashed"), (3, "3 crashed")]
    assert sorted(found[:2]) == [(0, 10), (2, 12)]
    assert not children()


# What a task raises


@pytest.mark.parametrize("crashed", [None, lambda at: "crashed"])
def test_what_a_task_raises_is_raised_and_ends_the_others(crashed):
    tasks = [partial(os.stat, "/nowhere"), partial(number, 1, 600)]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list(run_tasks(tasks, 2, crashed=crashed))
    assert not children()


def test_in_this_process_too():
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list(run_tasks([partial(os.stat, "/nowhere")]))


def test_what_is_left_early_is_ended():
    results = run_tasks([partial(number, 0), partial(number, 1, 600)], 2)
    assert next(results) == (0, 0) and children()
    results.close()
    assert not children()


def test_processes_of_others_are_left_alone():
    context = multiprocessing.get_context("spawn")
    bystander = context.Process(target=time.sleep, args=(600,))
    bystander.start()
    with pytest.raises(SignBartError, match="was killed"):
        list(run_tasks([os.abort], 2))
    assert children() == {bystander.pid}
    bystander.terminate()
    bystander.join()


# The table


def test_a_further_engine_is_a_row(monkeypatch):
    def backwards(batch):
        for index in reversed(range(len(batch.tasks))):
            alone = len(batch.tasks) == 1
            yield index, CRASHED if index == 1 and not alone else batch.tasks[index]()

    engine = Engine("backwards", "from the last to the first", backwards)
    monkeypatch.setitem(ENGINES, engine.name, engine)
    tasks = [partial(number, 10), partial(number, 11), partial(number, 12)]
    found = run_tasks(tasks, 2, engine="backwards", crashed=lambda at: "crashed")
    assert list(found) == [(2, 12), (0, 10), (1, 11)]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"engine": "cluster"}, "no engine 'cluster'; there are serial, processes"),
        ({"jobs": 0}, "--jobs 0: it must be at least 1"),
    ],
)
def test_user_errors(options, text):
    with pytest.raises(SignBartError, match=text):
        list(run_tasks([os.getpid], **options))


def test_every_engine_says_what_it_does():
    assert all(name == engine.name and engine.description for name, engine in ENGINES.items())


# The end of the one that asked

# Has two tasks, says which processes they have, and waits for results that will not come.
PARENT = """
import os, time
from functools import partial
from pathlib import Path
from signbart.engines import run_tasks

def wait(path):
    path.write_text(str(os.getpid()))
    path.rename(path.with_suffix(".pid"))
    time.sleep(600)

if __name__ == "__main__":
    list(run_tasks([partial(wait, Path(name)) for name in "ab"], 2))
"""


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # ended, if nobody has asked how


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path, end):
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, "parent.py"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts what runs in the background deaf to Ctrl-C, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_until(lambda: len([*tmp_path.glob("*.pid")]) == 2)
    workers = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    assert all(map(is_running, workers))
    if end == signal.SIGINT:
        os.killpg(parent.pid, end)  # as a terminal sends it: to every process
    else:
        parent.send_signal(end)
    _, errors = parent.communicate(timeout=30)
    assert parent.returncode == -end
    assert errors.count("Traceback") == (1 if end == signal.SIGINT else 0), errors
    # They would have slept for ten minutes.
    wait_until(lambda: not any(map(is_running, workers)))

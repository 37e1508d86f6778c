"""Tasks such as folds and routes, run by an engine; what happens when one of their processes dies.

`ENGINES` is the one table: a further one, such as a cluster's, is a row.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from signbart.errors import SignBartError
from signbart.process import start_resource_tracker, start_worker_process

# What an engine gives instead of the result of a task whose process was killed.
CRASHED = object()
_PATIENCE = 10.0  # seconds in which workers that are ended tidy up


@dataclass(frozen=True)
class Engine:
    """One way to run tasks.

    Attributes:
        name: Key in `ENGINES`.
        description: What it does, in words.
        run: (tasks, jobs, threads) -> each task's index and result as it ends, or `CRASHED`. What a
            task raises it raises, and whenever it is closed it ends what still runs.
    """

    name: str
    description: str
    run: Callable[[Sequence[Callable[[], Any]], int, int | None], Iterator[tuple[int, Any]]]


def run_tasks(
    tasks: Sequence[Callable[[], Any]],
    jobs: int = 1,
    *,
    engine: str | None = None,
    apart: bool = False,
    threads: int | None = None,
    crashed: Callable[[int], Any] | None = None,
    name: str = "task",
    remedy: str = "try again, with fewer --jobs",
) -> Iterator[tuple[int, Any]]:
    """Yields each task's index and result as it ends.

    A task that raises ends the others, and its exception is raised here. So does a task whose
    process was killed, unless `crashed` is given: then the others go on, it is tried once more when
    they have ended, alone, and if that kills its process too, `crashed` says what came of it.

    Args:
        tasks: Callables; picklable, and so their results, if they leave this process.
        jobs: How many run at a time.
        engine: Key in `ENGINES`; by default ``serial`` for one job, and otherwise ``processes``.
        apart: A process for each task even if one runs at a time.
        threads: How many each process gets; None leaves that to the frameworks.
        crashed: Gives the result of a task, by its index, that twice did not let its process live.
        name: What a task is, for messages.
        remedy: What to do where a process was killed, for messages.

    Raises:
        SignBartError: There is no such engine, or a task's process was killed.
    """
    if jobs < 1:
        raise SignBartError(f"--jobs {jobs}: it must be at least 1")
    engine = engine or ("serial" if jobs == 1 and not apart else "processes")
    if engine not in ENGINES:
        raise SignBartError(f"no engine '{engine}'; there are {', '.join(ENGINES)}")
    run = ENGINES[engine].run
    again = []
    with closing(run(tasks, jobs, threads)) as outcomes:
        for index, outcome in outcomes:
            if outcome is not CRASHED:
                yield index, outcome
            elif crashed is not None:
                again.append(index)
            else:
                raise SignBartError(
                    f"the process of a {name} was killed, perhaps because memory ran out; {remedy}"
                )
    for index in again:
        with closing(run([tasks[index]], 1, threads)) as outcomes:
            _, outcome = next(outcomes)
        yield index, crashed(index) if outcome is CRASHED else outcome


def _run_serially(
    tasks: Sequence[Callable[[], Any]], jobs: int, threads: int | None
) -> Iterator[tuple[int, Any]]:
    for index, task in enumerate(tasks):
        yield index, task()


def _run_in_processes(
    tasks: Sequence[Callable[[], Any]], jobs: int, threads: int | None
) -> Iterator[tuple[int, Any]]:
    from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool

    start_resource_tracker()
    context = multiprocessing.get_context("spawn")  # a framework's threads do not survive a fork
    waiting = deque(enumerate(tasks))
    running: dict[Future, tuple[int, ProcessPoolExecutor]] = {}
    workers: set[multiprocessing.process.BaseProcess] = set()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                # A pool a task: what a framework keeps ends with its process, and a process that is
                # killed takes none but its own pool along.
                pool = ProcessPoolExecutor(
                    1, mp_context=context, initializer=_start_worker, initargs=(threads,)
                )
                index, task = waiting.popleft()
                before = multiprocessing.active_children()
                running[pool.submit(task)] = index, pool
                workers |= {*multiprocessing.active_children()} - {*before}
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                index, pool = running.pop(future)
                pool.shutdown()
                try:
                    outcome = future.result()
                except (BrokenProcessPool, SystemExit):  # the latter of SIGTERM
                    outcome = CRASHED
                yield index, outcome
    finally:
        # Leaving a pool waits for what runs.
        for _, pool in running.values():
            pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers & {*multiprocessing.active_children()}:
            worker.terminate()
        patience = time.monotonic() + _PATIENCE
        for worker in workers & {*multiprocessing.active_children()}:
            worker.join(max(0.0, patience - time.monotonic()))
            if worker.is_alive():
                worker.kill()
            # Where the pool's own thread reaps it first, join returns before that is written down.
            while worker.is_alive():
                worker.join()


ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine("serial", "one after another, in this process", _run_serially),
        Engine("processes", "side by side, each in a process of its own", _run_in_processes),
    )
}


def _start_worker(threads: int | None) -> None:
    if threads:
        # Before any framework is imported. Threads of parallel tasks would wait for each other's
        # cores, and so would those of the processes that a task starts, which inherit this.
        for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
            os.environ[name] = str(threads)
    start_worker_process()
    # A pool waits for its workers, but a process that is killed does not: they would go on, with
    # nobody to take their results.
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """Ends this process when its parent ends, however that came."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

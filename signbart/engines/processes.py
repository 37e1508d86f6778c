"""Tasks on this machine: one after another in this process, or side by side in others."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from signbart.engines.engine import CRASHED, RUNNING, Batch
from signbart.process import start_resource_tracker, start_worker_process

_PATIENCE = 10.0  # seconds in which workers that are ended tidy up


def run_serially(batch: Batch) -> Iterator[tuple[int, Any]]:
    """One after another, in this process."""
    for index, task in enumerate(batch.tasks):
        batch.moved(index, RUNNING)
        yield index, task()


def run_in_processes(batch: Batch) -> Iterator[tuple[int, Any]]:
    """Side by side, each in a process of its own."""
    from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool

    start_resource_tracker()
    context = multiprocessing.get_context("spawn")  # a framework's threads do not survive a fork
    waiting = deque(enumerate(batch.tasks))
    running: dict[Future, tuple[int, ProcessPoolExecutor]] = {}
    workers: set[multiprocessing.process.BaseProcess] = set()
    try:
        while waiting or running:
            while waiting and len(running) < batch.jobs:
                # A pool a task: what a framework keeps ends with its process, and a process that is
                # killed takes none but its own pool along.
                pool = ProcessPoolExecutor(
                    1, mp_context=context, initializer=_start_worker, initargs=(batch.threads,)
                )
                index, task = waiting.popleft()
                before = multiprocessing.active_children()
                running[pool.submit(task)] = index, pool
                batch.moved(index, RUNNING)
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

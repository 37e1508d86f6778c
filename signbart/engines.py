"""Worker processes that do not outlive the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from signbart.errors import SignBartError


def start_worker(*, ignore_interrupt: bool = False) -> None:
    """For a pool's ``initializer``: the worker ends when its parent does, however that ended.

    A pool waits for its workers, but a process that is killed does not, and they would go on, with
    nobody to take their results.

    Args:
        ignore_interrupt: Leave Ctrl-C, which reaches every process of a terminal, to the parent.
    """
    if ignore_interrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def run_folds(
    folds: Sequence[Callable[[], dict[str, Any]]], jobs: int, *, apart: bool = False
) -> Iterator[dict[str, Any]]:
    """Yields each fold's results as it ends.

    Args:
        folds: Picklable callables.
        jobs: How many run at a time; if more than one, each in a process of one thread.
        apart: A process for each fold even if one runs at a time.

    Raises:
        SignBartError: A fold's process was killed.
    """
    if jobs == 1 and not apart:
        for fold in folds:
            yield fold()
        return
    import multiprocessing
    from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool

    context = multiprocessing.get_context("spawn")  # a framework's threads do not survive a fork
    waiting, running = deque(folds), dict[Future, ProcessPoolExecutor]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                # A pool a fold, for what a framework keeps of a training ends with its process.
                pool = ProcessPoolExecutor(
                    1, mp_context=context, initializer=_start_worker, initargs=(jobs > 1,)
                )
                running[pool.submit(waiting.popleft())] = pool
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                running.pop(future).shutdown()
                yield future.result()
    except BaseException as error:
        # Leaving a pool waits for what runs; folds go on from their checkpoints next time.
        for pool in running.values():
            pool.shutdown(wait=False, cancel_futures=True)
        for worker in multiprocessing.active_children():
            worker.terminate()
        if isinstance(error, BrokenProcessPool):
            raise SignBartError(
                "the process of a fold was killed, perhaps because memory ran out; go on with "
                "--resume, and fewer --jobs"
            ) from None
        raise


def _start_worker(one_thread: bool) -> None:
    if one_thread:
        # Before any framework is imported. Threads of parallel folds would wait for each other's
        # cores, and so would those of the processes that a fold starts, which inherit this.
        for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
            os.environ[name] = "1"
    start_worker(ignore_interrupt=True)

"""Worker processes that do not outlive the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


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

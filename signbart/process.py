"""What surrounds a process: streams that take any text, signals that end it as tidily as Ctrl-C."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TextIO

BROKEN_PIPE = 128 + 13  # what a shell says of a Unix tool whose reader has gone: SIGPIPE is 13
# Windows has no SIGHUP.
_ENDING = tuple(getattr(signal, n) for n in ("SIGTERM", "SIGHUP") if hasattr(signal, n))
_ESCAPED = "signbart.escaped"


class Terminated(KeyboardInterrupt):
    """A signal asked the process to end; whoever tidies up after Ctrl-C does so after it."""


def prepare_streams() -> None:
    r"""Makes standard input, output and error usable, whatever they were when the process began.

    One that is closed leads nowhere: the next file to be opened would take its number, and receive
    what is printed. Characters that the terminal's encoding lacks are written as JSON escapes them
    (``\u0394``), so that JSON stays JSON.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    codecs.register_error(_ESCAPED, _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPED)


def _escape(error: UnicodeError) -> tuple[str, int]:
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def discard_output(*streams: TextIO) -> None:
    """Sends what is still to be printed nowhere, by default all: its reader has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams or (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextlib.contextmanager
def end_on_signals() -> Iterator[list[int]]:
    """In this block SIGTERM and SIGHUP raise `Terminated`, once; the list receives which.

    One that comes while the process tidies up does not break that off: SIGKILL does. A signal that
    the process was started deaf to, as by nohup, stays ignored.
    """
    received: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        if not received:
            received.append(number)
            raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in _ENDING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def start_resource_tracker() -> None:
    """Starts the process by which Python keeps account of what its workers share.

    It is deaf to Ctrl-C and SIGTERM by itself, but a terminal that goes would kill it.
    """
    from multiprocessing import resource_tracker

    hangup = getattr(signal, "SIGHUP", None)
    if hangup is None or threading.current_thread() is not threading.main_thread():
        return
    before = signal.signal(hangup, signal.SIG_IGN)
    try:
        resource_tracker.ensure_running()
    finally:
        signal.signal(hangup, before or signal.SIG_DFL)


def start_worker_process() -> None:
    """For a process that its parent ends by SIGTERM: what it has begun is tidied up, too."""

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    # Ctrl-C and a terminal that goes reach every process of it; the parent ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)
    prepare_streams()

"""How far the tasks of a run are: a table on a terminal that changes with them, lines in a log."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

from signbart.console import console
from signbart.engines.engine import DONE, FAILED, RUNNING, WAITING
from signbart.process import start_resource_tracker
from signbart.waiting import SHORT, heard, stage

if TYPE_CHECKING:
    from rich.console import Console, Group

_FORWARDING = 2.0  # seconds for what was written last to be shown
_EVERY = 10.0  # seconds between lines in a log
_SHOWN = 12  # tasks in the table
_ORDER = (RUNNING, FAILED, WAITING, DONE)  # in it: what somebody looks for first


class Board:
    """The state of each task.

    Args:
        names: What the tasks are called.
    """

    def __init__(self, names: Sequence[str]):
        self.names = names
        self.states = [WAITING] * len(names)
        self.begun: dict[int, float] = {}
        self.took: dict[int, float] = {}  # seconds of those that are done
        self.told: float | None = time.monotonic()  # the last line; None: none are wanted

    def move(self, index: int, state: str) -> None:
        """Notes what a task does now, and now and then says in a log how far all are."""
        now = time.monotonic()
        if state == RUNNING:
            self.begun[index] = now
        elif state == DONE:
            # An engine may learn of begin and end at once.
            self.took[index] = now - self.begun.get(index, now)
        self.states[index] = state
        ended = state in (DONE, FAILED)
        if ended and self.told is not None and now - self.told > _EVERY and self.left:
            self.told = now
            print(self.summary(), flush=True)
            heard()

    @property
    def left(self) -> int:
        """How many tasks have not ended."""
        return sum(state in (WAITING, RUNNING) for state in self.states)

    def seconds_left(self) -> float | None:
        """Until all have ended, if those to come take as long as those that are done.

        Their mean is weighted by what they took: what a run that goes on finds finished says
        nothing of the others. None: it cannot be told yet.
        """
        took = list(self.took.values())  # a table asks in another thread than moves tasks
        whole = sum(took)
        running = [at for at, state in enumerate(self.states) if state == RUNNING]
        if not whole or not running:
            return None
        each = sum(seconds**2 for seconds in took) / whole
        now = time.monotonic()
        rest = [max(0.0, each - (now - self.begun[at])) for at in running]
        return (sum(rest) + each * (self.left - len(running))) / len(running)

    def summary(self) -> str:
        """How many tasks are done, running and failed, and how long it takes yet."""
        count = Counter(self.states)
        left = self.seconds_left()
        return (
            f"{count[DONE]} of {len(self.names)} done, {count[RUNNING]} running, "
            f"{count[FAILED]} failed" + ("" if left is None else f", about {_duration(left)} left")
        )

    def table(self) -> Group:
        """For rich: the summary, and the tasks as far as there is room."""
        from rich.console import Group
        from rich.table import Table

        table = Table.grid("", "", "", padding=(0, 2))
        now = time.monotonic()
        order = sorted(range(len(self.names)), key=lambda at: _ORDER.index(self.states[at]))
        for at in order[:_SHOWN]:
            state = self.states[at]
            seconds = self.took.get(at)
            if state == RUNNING:
                seconds = now - self.begun[at]
            table.add_row(self.names[at], state, "" if seconds is None else _duration(seconds))
        if len(order) > _SHOWN:
            table.add_row(f"… {len(order) - _SHOWN} more")
        return Group(self.summary(), table)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@contextmanager
def shown(names: Sequence[str], *, speaks: bool = False) -> Iterator[Board]:
    """A board for tasks; on a terminal it is shown until the block ends, once that takes long.

    Args:
        names: What the tasks are called.
        speaks: Whether it says elsewhere how far they are when nothing else is said.
    """
    board = Board(names)
    out = _terminal() if len(names) > 1 else None
    if len(names) < 2:
        board.told = None
    if out is None:
        with stage(board.summary) if speaks else nullcontext():
            yield board
        return
    from rich.live import Live

    board.told = None
    start_resource_tracker()  # lives as long as this process, and would keep what is opened now
    with ExitStack() as stack:
        output = stack.enter_context(_above(out))
        live = Live(
            get_renderable=board.table,
            console=output,
            refresh_per_second=2,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        stack.callback(live.stop)
        begin = threading.Timer(SHORT, live.start)
        begin.daemon = True
        stack.callback(begin.join)
        stack.callback(begin.cancel)
        begin.start()
        yield board


def _terminal() -> Console | None:
    """Where a table can be shown that changes; None where there is no such place."""
    try:
        out = console()
        from rich.file_proxy import FileProxy
    except ModuleNotFoundError:
        return None
    # Where rich stands in for stdout, something else is being shown.
    usable = out.is_terminal and not out.is_dumb_terminal and not isinstance(sys.stdout, FileProxy)
    try:
        # The descriptor: FORCE_COLOR makes a terminal of anything.
        return out if usable and os.isatty(1) and sys.stdout.fileno() == 1 else None
    except (OSError, ValueError):
        return None


@contextmanager
def _above(out: Console) -> Iterator[Console]:
    """Has all output of this process and of those it starts printed line by line, until it ends.

    Through a console, which puts it above what changes. Not what is printed alone: tasks redirect
    the descriptors themselves, and what other processes write would be written over.

    Yields:
        The console.
    """
    from rich.console import Console

    taken = [1, 2] if os.isatty(2) else [1]
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {descriptor: os.dup(descriptor) for descriptor in taken}
    reading, writing = os.pipe()
    for descriptor in taken:
        os.dup2(writing, descriptor)
    os.close(writing)
    usual = sys.stdout
    with open(kept[1], "w", encoding=usual.encoding, errors=usual.errors, closefd=False) as file:
        output = Console(file=file, force_terminal=True, highlight=False, markup=False)
        reader = threading.Thread(target=_forward, args=(reading, output), daemon=True)
        reader.start()
        try:
            with open(
                1, "w", encoding="utf-8", errors=usual.errors, buffering=1, closefd=False
            ) as sys.stdout:
                yield output
        finally:
            sys.stdout = usual
            sys.stderr.flush()
            for descriptor in taken:
                os.dup2(kept[descriptor], descriptor)
            reader.join(_FORWARDING)  # what a task has started may keep the other end open
    for descriptor in kept.values():
        os.close(descriptor)


def _forward(reading: int, output: Console) -> None:
    # The console may have gone before what a task has started.
    with suppress(OSError, ValueError), open(reading, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            output.out(line.rstrip("\n"))

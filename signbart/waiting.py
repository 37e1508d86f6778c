"""What is said while one waits, so that no command is silent: bars on terminals, lines in logs.

Lines go to stderr: stdout is for results, and other programs may read it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, TextIO, TypeVar

from signbart.console import console

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")
# Ten seconds are what nobody should have to wait for a sign of life: these, half of them once more
# where a stage follows another, and what converters hold the interpreter's lock for.
SILENCE = 6.0
SHORT = 2.0  # seconds that nobody minds waiting


class _Stages:
    """What this process is at, the outermost first, and when it said so last."""

    def __init__(self):
        self.muted = False
        self.begin()

    def begin(self) -> None:
        """With nothing open, as a process begins; one that was forked, too."""
        self.lock = threading.RLock()
        self.open: list[tuple[str | Callable[[], str], float]] = []
        self.heard = time.monotonic()
        self.out: TextIO = sys.stderr

    def say_if_due(self) -> None:
        with self.lock:
            if time.monotonic() - self.heard < SILENCE or not self.open:
                return
            if self.muted or _shows_a_bar():
                self.heard = time.monotonic()
                return
            texts = [what if isinstance(what, str) else what() for what, _ in self.open]
            seconds = time.monotonic() - self.open[-1][1]
            with contextlib.suppress(OSError, ValueError):  # nobody listens any more
                print(f"{': '.join(texts)} ({seconds:.0f} s)", file=self.out, flush=True)
            self.heard = time.monotonic()

    def watch(self, ended: threading.Event) -> None:
        """Says it again and again, until the outermost stage has ended."""
        while not ended.wait(max(0.05, self.heard + SILENCE - time.monotonic())):
            self.say_if_due()


_stages = _Stages()
if hasattr(os, "register_at_fork"):  # the thread that speaks stays behind, and may hold the lock
    os.register_at_fork(after_in_child=_stages.begin)


def heard() -> None:
    """Notes that something was said just now; a stage is silent until that is a while ago."""
    _stages.heard = time.monotonic()


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """In this block stages say nothing: another process does, whose task it is."""
    before, _stages.muted = _stages.muted, True
    try:
        yield
    finally:
        _stages.muted = before


@contextlib.contextmanager
def stage(what: str | Callable[[], str]) -> Iterator[None]:
    """Says on stderr what is being done, whenever nothing was said for `SILENCE` seconds.

    Stages inside others are said behind them, and where the output is redirected, as converters'
    is, inside the outermost one, lines go where it went before. While a bar is shown they are not
    needed.

    Args:
        what: Is being done; a function where that changes, which is asked in another thread.
    """
    entry = what, time.monotonic()
    with contextlib.ExitStack() as stack:
        with _stages.lock:
            if not _stages.open:
                # A worker has been silent since it was started, while it loaded frameworks; of
                # others it is not known what they have printed since.
                if not _is_worker():
                    _stages.heard = max(_stages.heard, time.monotonic() - SILENCE / 2)
                _stages.out = stack.enter_context(_kept_stderr())
                ended = threading.Event()
                threading.Thread(target=_stages.watch, args=(ended,), daemon=True).start()
                stack.callback(ended.set)
            _stages.open.append(entry)
        try:
            _stages.say_if_due()
            yield
        finally:
            with _stages.lock, contextlib.suppress(ValueError):  # forked in the middle of it
                _stages.open.remove(entry)


def within(what: str, task: Callable[[], T]) -> T:
    """Runs a task as a `stage`; with `functools.partial` one that can be pickled."""
    with stage(what):
        return task()


def time_left(done: int, total: int | None, seconds: float) -> str:
    """``, 3 min left``, if the rest goes as the `done` of `total` went in `seconds`."""
    if not total or not 0 < done < total:
        return ""
    left = seconds / done * (total - done)
    if left < 90:
        return f", {left:.0f} s left"
    return f", {left / 60:.0f} min left" if left < 5400 else f", {left / 3600:.1f} h left"


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """The items as a `stage`; on a terminal with a progress bar once they take over two seconds.

    Args:
        items: What is worked on, one after the other.
        what: Is done with them.
        total: How many there are, where they do not say so themselves.
    """
    total = len(items) if isinstance(items, Sized) else total
    done, begun = 0, time.monotonic()
    of = f" of {total:,}" if total else ""

    def text() -> str:
        return f"{what}: {done:,}{of}{time_left(done, total, time.monotonic() - begun)}"

    bar = _bar() if sys.stdout.isatty() and not _shows_a_bar() else None
    task = bar.add_task(what, total=total) if bar else None
    # No bar is shown while the first item is long in coming.
    with stage(text):
        try:
            for item in items:
                if bar and not bar.live.is_started and time.monotonic() - begun > SHORT:
                    bar.start()
                yield item
                done += 1
                if bar:
                    bar.advance(task)
        finally:
            if bar and bar.live.is_started:
                heard()
                bar.stop()


def _bar() -> Progress | None:
    try:
        from rich.progress import Progress, TimeElapsedColumn
    except ModuleNotFoundError:  # recordings are read by the base, too
        return None
    columns = *Progress.get_default_columns(), TimeElapsedColumn()
    return Progress(*columns, console=console(), transient=True)


def _is_worker() -> bool:
    multiprocessing = sys.modules.get("multiprocessing")
    return multiprocessing is not None and multiprocessing.parent_process() is not None


def _shows_a_bar() -> bool:
    """Whether rich stands in for the output, as it does while it shows one on a terminal."""
    proxies = sys.modules.get("rich.file_proxy")
    return proxies is not None and isinstance(sys.stdout, proxies.FileProxy)


@contextlib.contextmanager
def _kept_stderr() -> Iterator[TextIO]:
    """Stderr as it is now, whatever it is redirected to meanwhile."""
    try:
        number = os.dup(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # it is no file
        yield sys.stderr
        return
    with open(number, "w", encoding="utf-8", errors="backslashreplace") as kept:
        yield kept

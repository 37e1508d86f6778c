"""Tasks on another machine: what goes there, how it runs there, and what it sends home.

Where the machine sees the folder that the task writes to, by its path and a mark in it, the task
works there. Otherwise it works in a folder of its own: what is there already goes along, and what
it writes comes back, each second and at its end.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from signbart import __version__
from signbart.engines.packing import pack, unpack
from signbart.errors import SignBartError
from signbart.files import atomic_write, is_unfinished, make_folder, temporary_folder
from signbart.waiting import muted

_EVERY = 1.0  # seconds between looks at what a task has written

# File in the folder, relative -> bytes; None where it was removed.
Files = dict[str, bytes | None]


@dataclass(frozen=True)
class Errand:
    """One task as it travels.

    Attributes:
        name: What messages call it.
        task: The pickle.
        folder: Holds all that it writes, absolute; None where it writes nothing.
        mark: Name of a folder there.
        travels: Whether the task may work elsewhere.
        files: What it has written before.
        directory: Where the one that sends it works: relative paths begin there.
        threads: For frameworks.
        version: The project's.
    """

    name: str
    task: bytes
    folder: str | None
    mark: str
    travels: bool
    files: Files
    directory: str
    threads: int
    version: str = __version__


@dataclass(frozen=True)
class Outcome:
    """What came of a task.

    Attributes:
        result: The pickle of what it returned, or of the exception that it raised.
        raised: Whether it is the latter.
        files: What it wrote and has not yet sent.
    """

    result: bytes
    raised: bool
    files: Files


def written(folder: Path, paths: Sequence[str]) -> Files:
    """The files at and in those paths of a folder, oldest first."""
    found = []
    for path in (folder / name for name in paths):
        found += [path] if path.is_file() else path.rglob("*")
    files = sorted(
        {path for path in found if path.is_file() and not is_unfinished(path, folder)},
        key=lambda path: path.stat().st_mtime_ns,
    )
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def bring_home(folder: Path, files: Files) -> None:
    """Writes what a task has sent, each file whole or not at all, in its order.

    Raises:
        SignBartError: One cannot be written, or would lie elsewhere.
    """
    for name, content in files.items():
        path = folder / name
        if ".." in path.parts or not path.is_relative_to(folder):
            raise SignBartError(f"{path}: came from a task and lies outside {folder}")
        if content is None:
            path.unlink(missing_ok=True)
            continue
        make_folder(path.parent)
        with atomic_write(path) as beside:
            beside.write_bytes(content)


class _Luggage:
    """What a task writes into a folder of its own, to be sent as it changes."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.sent: dict[str, tuple[int, int]] = self._look()

    def _look(self) -> dict[str, tuple[int, int]]:
        """File -> when it was written and its size, oldest first."""
        seen = {}
        for path in self.folder.rglob("*"):
            with suppress(FileNotFoundError):
                state = path.stat()
                if path.is_file() and not is_unfinished(path, self.folder):
                    seen[str(path.relative_to(self.folder))] = (state.st_mtime_ns, state.st_size)
        return dict(sorted(seen.items(), key=lambda item: item[1]))

    def changed(self, *, ended: bool = False) -> Files:
        """What is new since it was last asked for; nothing where that changes while it is read.

        Args:
            ended: Whether the task has: then all of it, whatever something that it left behind
                still changes.
        """
        now = self._look()
        names = [name for name, state in now.items() if self.sent.get(name) != state]
        files: Files = dict.fromkeys(self.sent.keys() - now.keys())
        for name in names:
            try:
                files[name] = (self.folder / name).read_bytes()
            except FileNotFoundError:
                if not ended:
                    return {}
        if not ended and self._look() != now:
            return {}
        self.sent = now
        return files


def perform(errand: Errand, send: Callable[[str, Any], None], shared: Sequence[Any]) -> Outcome:
    """Runs a task on the machine that it was sent to.

    Args:
        errand: The task.
        send: Takes what happens meanwhile: ``line`` and a text of stdout, ``warning`` and one of
            stderr, ``files`` and `Files`.
        shared: What it shares with others.
    """
    folder: Path | None = None
    luggage: _Luggage | None = None
    with ExitStack() as stack:
        try:
            folder, luggage = _arrive(errand, stack)
            with muted(), _sending(luggage, send), _printing(send):
                result = unpack(errand.task, folder, shared)()
            raised = False
        except Exception as error:
            result, raised = _placed(error, f"{errand.name} on {platform.node()}"), True
        data, _ = pack(result, folder)
        return Outcome(data, raised, luggage.changed(ended=True) if luggage else {})


def _placed(error: Exception, where: str) -> Exception:
    """An error as it is to be raised at home: it says where it came from."""
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename else ""
        return SignBartError(f"{where}: {named}{error.strerror or error}")
    if isinstance(error, SignBartError):
        error.args = (f"{where}: {error}",)
    else:
        # A pickle has no traceback, but notes.
        error.add_note(f"{where}:\n{traceback.format_exc()}")
    return error


def _arrive(errand: Errand, stack: ExitStack) -> tuple[Path | None, _Luggage | None]:
    """The folder to work in, and, where that is not the one it was sent from, what leaves it."""
    # Before any framework is imported.
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = str(errand.threads)
    if errand.version != __version__:
        raise SignBartError(
            f"signbart {__version__} runs there, and it came from {errand.version}; install the "
            "same on every machine"
        )
    with suppress(OSError):
        os.chdir(errand.directory)
    if errand.folder is None:
        return None, None
    folder = Path(errand.folder)
    if (folder / errand.mark).is_dir():
        return folder, None
    if not errand.travels:
        raise SignBartError(
            f"{folder} is not seen there, and every machine of the cluster must share what it is in"
        )
    # What a killed task left there goes with the next one.
    own = stack.enter_context(temporary_folder())
    bring_home(own, errand.files)
    return own, _Luggage(own)


@contextmanager
def _sending(luggage: _Luggage | None, send: Callable[[str, Any], None]) -> Iterator[None]:
    """Sends what changes until the block ends."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_EVERY):
            files = luggage.changed()
            if files:
                send("files", files)

    watcher = threading.Thread(target=watch, daemon=True)
    if luggage is not None:
        watcher.start()
    try:
        yield
    finally:
        ended.set()
        if luggage is not None:
            watcher.join()


@contextmanager
def _printing(send: Callable[[str, Any], None]) -> Iterator[None]:
    """Sends what this process writes to stdout and stderr until the block ends, line by line.

    By their descriptors, since tasks themselves redirect those into their logs.
    """
    out, error = partial(send, "line"), partial(send, "warning")
    with _forwarding(1, "stdout", out), _forwarding(2, "stderr", error):
        yield


@contextmanager
def _forwarding(number: int, name: str, send: Callable[[str], None]) -> Iterator[None]:
    reading, writing = os.pipe()

    def forward() -> None:
        with open(reading, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                send(line.rstrip("\n"))

    usual = getattr(sys, name)
    usual.flush()
    kept = os.dup(number)
    os.dup2(writing, number)
    os.close(writing)
    reader = threading.Thread(target=forward, daemon=True)
    reader.start()
    try:
        with open(number, "w", encoding="utf-8", buffering=1, closefd=False) as stream:
            setattr(sys, name, stream)
            yield
    finally:
        setattr(sys, name, usual)
        os.dup2(kept, number)
        os.close(kept)
        reader.join(_EVERY)  # what a task has started may keep the other end open

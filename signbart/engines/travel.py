"""Tasks on another machine: what goes there, how it runs there, and what it sends home.

A task travels as a pickle: functions by their address, what several tasks share as a reference to
the object store. Where the machine sees the folder that the task writes to, by its path and a mark
in it, the task works there. Otherwise it works in a folder of its own: what is there already goes
along, and what it writes comes back, each second and at its end.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from signbart import __version__
from signbart.errors import SignBartError
from signbart.files import atomic_write, is_unfinished, make_folder

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


class _Packer(pickle.Pickler):
    """Leaves shared objects out, and paths in the folder relative to it."""

    def __init__(self, file: io.BytesIO, shared: Mapping[int, int], folder: Path | None):
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.shared, self.folder = shared, folder
        self.paths: set[str] = set()

    def persistent_id(self, value: Any) -> tuple[str, Any] | None:
        if id(value) in self.shared:
            return "shared", self.shared[id(value)]
        if (
            self.folder is not None
            and isinstance(value, Path)
            and value.is_relative_to(self.folder)
        ):
            self.paths.add(str(value.relative_to(self.folder)))
            return "path", str(value.relative_to(self.folder))
        return None


class _Unpacker(pickle.Unpickler):
    def __init__(self, data: bytes, shared: Sequence[Any], folder: Path | None):
        super().__init__(io.BytesIO(data))
        self.shared, self.folder = shared, folder

    def persistent_load(self, pid: tuple[str, Any]) -> Any:
        kind, value = pid
        return self.shared[value] if kind == "shared" else self.folder / value


def pack(
    value: Any, folder: Path | None, shared: Mapping[int, int] | None = None
) -> tuple[bytes, set[str]]:
    """A pickle for `unpack`, and the paths in `folder` that are in it, relative to that.

    Args:
        value: The object.
        folder: What lies in it is found again in another folder.
        shared: Identity of objects that are left out -> their places.
    """
    file = io.BytesIO()
    packer = _Packer(file, shared or {}, folder)
    packer.dump(value)
    return file.getvalue(), packer.paths


def unpack(data: bytes, folder: Path | None, shared: Sequence[Any] = ()) -> Any:
    """What `pack` was given, its paths in this `folder`."""
    return _Unpacker(data, shared, folder).load()


def shared_arguments(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """What several tasks have as an argument: recordings, and what else is the same object."""
    found: dict[int, Any] = {}
    times: Counter[int] = Counter()
    for task in tasks:
        inner = [*getattr(task, "args", ()), *getattr(task, "keywords", {}).values()]
        inner += vars(task).values() if not inner and hasattr(task, "__dict__") else []
        here = {id(value): value for value in inner if hasattr(value, "__dict__")}
        found |= here
        times.update(list(here))
    return [value for at, value in found.items() if times[at] > 1 and not callable(value)]


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

    def changed(self) -> Files:
        """What is new since it was last asked for; nothing where that changes while it is read."""
        now = self._look()
        names = [name for name, state in now.items() if self.sent.get(name) != state]
        files: Files = dict.fromkeys(self.sent.keys() - now.keys())
        try:
            files |= {name: (self.folder / name).read_bytes() for name in names}
        except FileNotFoundError:
            return {}
        if self._look() != now:
            return {}
        self.sent = now
        return files


def perform(errand: Errand, send: Callable[[str, Any], None], shared: Sequence[Any]) -> Outcome:
    """Runs a task on the machine that it was sent to.

    Args:
        errand: The task.
        send: Takes what happens meanwhile: ``line`` and a text, ``files`` and `Files`.
        shared: What it shares with others.
    """
    folder: Path | None = None
    luggage: _Luggage | None = None
    with tempfile.TemporaryDirectory(prefix="signbart-") as scratch:
        try:
            folder, luggage = _arrive(errand, Path(scratch))
            with _sending(luggage, send), _printing(send):
                result = unpack(errand.task, folder, shared)()
            raised = False
        except Exception as error:
            if isinstance(error, SignBartError):
                error.args = (f"{errand.name} on {os.uname().nodename}: {error}",)
            result, raised = error, True
        data, _ = pack(result, folder)
        return Outcome(data, raised, luggage.changed() if luggage else {})


def _arrive(errand: Errand, scratch: Path) -> tuple[Path | None, _Luggage | None]:
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
    bring_home(scratch, errand.files)
    return scratch, _Luggage(scratch)


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
    """Sends what this process writes to descriptor 1 until the block ends, line by line.

    Not what is printed alone: tasks themselves redirect that descriptor into their logs.
    """
    reading, writing = os.pipe()

    def forward() -> None:
        with open(reading, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                send("line", line.rstrip("\n"))

    sys.stdout.flush()
    kept, usual = os.dup(1), sys.stdout
    os.dup2(writing, 1)
    os.close(writing)
    reader = threading.Thread(target=forward, daemon=True)
    reader.start()
    try:
        with open(1, "w", encoding="utf-8", buffering=1, closefd=False) as sys.stdout:
            yield
    finally:
        sys.stdout = usual
        os.dup2(kept, 1)
        os.close(kept)
        reader.join(_EVERY)  # what a task has started may keep the other end open

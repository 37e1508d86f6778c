"""A task as a pickle: functions by their address, and what several tasks share left out of it."""

from __future__ import annotations

import io
import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


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
        here = {id(value): value for value in _arguments(task)}
        found |= here
        times.update(list(here))
    return [value for at, value in found.items() if times[at] > 1 and not callable(value)]


def _arguments(task: Callable[..., Any]) -> Iterator[Any]:
    """What a partial, or another object that can be called, calls with; inner ones', too."""
    inner = [*getattr(task, "args", ()), *getattr(task, "keywords", {}).values()]
    inner += getattr(task, "__dict__", {}).values() if not inner else ()
    for value in inner:
        if hasattr(value, "__dict__"):
            yield value
            if callable(value) and not isinstance(value, type):
                yield from _arguments(value)

"""A folder's files, listed once; operating systems' own are left out by name."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from signbart.errors import ClipError
from signbart.files import UNFINISHED
from signbart.recordings.names import is_system_file, whole_number

_DEEPEST = 6
_LISTED = 5  # names that a note lists


@dataclass
class Folder:
    """What a folder holds.

    Attributes:
        path: Where it is.
        files: Names, sorted.
        folders: By name, sorted.
    """

    path: Path
    files: list[str] = field(default_factory=list)
    folders: dict[str, Folder] = field(default_factory=dict)

    def walk(self) -> Iterator[Folder]:
        """This folder and all below it."""
        yield self
        for folder in self.folders.values():
            yield from folder.walk()


def list_folder(path: Path, ignored: Counter[str] | None = None, depth: int = 0) -> Folder:
    """Lists a folder and what is below it.

    Args:
        path: The folder.
        ignored: Counts what was left out, by name.
        depth: How deep this one stands; folders too deep for recordings are not entered.

    Raises:
        ClipError: A folder cannot be listed.
    """
    folder = Folder(path)
    ignored = Counter() if ignored is None else ignored
    try:
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith(UNFINISHED):
                    continue
                if is_system_file(entry.name):
                    ignored[entry.name if not entry.name.startswith("._") else "._*"] += 1
                elif entry.is_dir():
                    if depth < _DEEPEST:
                        own = list_folder(Path(entry.path), ignored, depth + 1)
                        folder.folders[entry.name] = own
                elif entry.is_file():
                    folder.files.append(entry.name)
    except OSError as error:
        raise ClipError(f"{error.filename}: cannot be listed: {error.strerror}") from None
    return folder


def some(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def ignored_note(ignored: Counter[str]) -> list[str]:
    """What was left out as an operating system's, as a note; nothing where that is nothing."""
    if not ignored:
        return []
    return [f"{ignored.total()} files or folders of operating systems left out: "
            f"{some(sorted(ignored))}"]  # fmt: skip


def naturally(name: str) -> tuple[tuple[int, int | str], ...]:
    """A key that sorts frame 10 behind frame 9."""
    parts = [(whole_number(part), part) for part in re.split(r"(\d+)", name)]
    return tuple((0, part) if number is None else (1, number) for number, part in parts)

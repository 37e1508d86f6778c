"""Renames of several files that are done all or not at all, whenever their process is killed."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from signbart.json_text import read_json_file

_RENAMES = "renames.json"


def sync(file: Path) -> None:
    """Has the system write a file down, so that it outlives a loss of power once it is renamed."""
    with open(file, "r+b") as opened:  # some systems sync only what may be written
        os.fsync(opened.fileno())


def note_renames(folder: Path, renames: Sequence[tuple[Path, Path]]) -> None:
    """Notes in a `temporary_folder` what is about to be renamed: from, and to.

    Until `forget_renames`, whoever clears that folder away takes them back: its own process where
    it fails, and where it was killed the next one that writes to the folder's parent.

    Args:
        folder: The folder.
        renames: Among files in its parent and below, in order. What is in the way at a target was
            renamed before, or copied to where an earlier rename says that it is.

    Raises:
        OSError: It cannot be written.
    """
    root, beside = folder.parent.parent, folder / f"{_RENAMES}.new"
    pairs = [[str(path.relative_to(root)) for path in pair] for pair in renames]
    beside.write_text(json.dumps(pairs), encoding="utf-8")
    sync(beside)
    os.replace(beside, folder / _RENAMES)


def forget_renames(folder: Path) -> None:
    """Lets what `note_renames` noted stand."""
    os.remove(folder / _RENAMES)


def undo_renames(folder: Path) -> bool:
    """Takes back what is noted in a `temporary_folder`; whether all is, and nothing is to be kept.

    What was not done, or is undone already, is passed over.
    """
    root = folder.parent.parent
    try:
        note = (folder / _RENAMES).lstat()
        if not stat.S_ISREG(note.st_mode) or note.st_uid != folder.lstat().st_uid:
            return True  # another user may have put it, or a link to it, there
        pairs = read_json_file(folder / _RENAMES)
        for pair in reversed(pairs):
            was, now = (root / name for name in pair)
            # A folder of others may hold such notes, too, and links that lead out of it.
            within = (path.parent.resolve().is_relative_to(root.resolve()) for path in (was, now))
            if not all(within):
                continue
            if os.path.lexists(now) and not now.is_dir() and not os.path.lexists(was):
                was.parent.mkdir(exist_ok=True)
                os.replace(now, was)
        forget_renames(folder)
    except (FileNotFoundError, TypeError, ValueError):
        return True  # there is none, or it is none of ours
    except (OSError, RuntimeError):  # that: a link leads to itself (Python before 3.13)
        return False
    return True

"""Renames of several files that are done all or not at all, whenever their process is killed."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Sequence
from pathlib import Path

from signbart.json_text import read_json_file

_RENAMES = "renames.json"


def sync(file: Path) -> None:
    """Has the system write a file down, so that it outlives a loss of power once it is renamed."""
    with open(file, "r+b") as opened:  # some systems sync only what may be written
        os.fsync(opened.fileno())


def note_renames(
    folder: Path, renames: Sequence[tuple[Path, Path]], copies: Collection[Path] = ()
) -> None:
    """Notes in a `temporary_folder` what is about to be renamed: from, and to.

    Until `forget_renames`, whoever clears that folder away takes them back: its own process where
    it fails, and where it was killed the next one that writes to the folder's parent.

    Args:
        folder: The folder.
        renames: Among files in its parent and below, in order. What is in the way at a target was
            renamed before.
        copies: Targets where a copy is already of what is, or is to be, at the source: it goes
            there when they are taken back, whatever is there then.

    Raises:
        OSError: It cannot be written.
    """
    root, beside = folder.parent.parent, folder / f"{_RENAMES}.new"
    pairs = [
        [str(was.relative_to(root)), str(now.relative_to(root)), now in copies]
        for was, now in renames
    ]
    beside.write_text(json.dumps(pairs), encoding="utf-8")
    sync(beside)
    os.replace(beside, folder / _RENAMES)


def forget_renames(folder: Path) -> None:
    """Lets what `note_renames` noted stand."""
    os.remove(folder / _RENAMES)


def undo_renames(folder: Path) -> bool:
    """Takes back what is noted in a `temporary_folder`; whether all is, and nothing is to be kept.

    What was not done, or is undone already, is passed over: if this is killed, repeat it.
    """
    root = folder.parent.parent
    try:
        note = (folder / _RENAMES).lstat()
        if not stat.S_ISREG(note.st_mode) or note.st_uid != folder.lstat().st_uid:
            return True  # another user may have put it, or a link to it, there
        pairs = read_json_file(folder / _RENAMES)
        for was_name, now_name, *copied in reversed(pairs):
            was, now = root / was_name, root / now_name
            # A folder of others may hold such notes, too, and links that lead out of it.
            within = (path.parent.resolve().is_relative_to(root.resolve()) for path in (was, now))
            if not all(within):
                continue
            free = any(copied) or not os.path.lexists(was)
            if free and os.path.lexists(now) and not now.is_dir():
                was.parent.mkdir(exist_ok=True)
                os.replace(now, was)
        forget_renames(folder)
    except (FileNotFoundError, TypeError, ValueError):
        return True  # there is none, or it is none of ours
    except (OSError, RuntimeError):  # that: a link leads to itself (Python before 3.13)
        return False
    return True

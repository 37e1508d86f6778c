"""Files that appear whole or not at all, and folders that one process at a time writes to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from signbart.errors import SignBartError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

LEFT_OVERS = ".writing-"  # how the names begin of files that are not whole yet


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to, and renames it to `path` when the block ends well.

    The name keeps its ending, which some libraries insist on. What a killed process leaves behind,
    `remove_left_overs` removes.

    Raises:
        SignBartError: The file cannot be written; says why.
    """
    beside = path.with_name(f"{LEFT_OVERS}{os.getpid()}-{path.name}")
    try:
        yield beside
        with open(beside, "r+b") as file:  # some systems sync only what may be written
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise SignBartError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):  # its folder may be what could not be written to
            beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, UTF-8, whole or not at all."""
    with atomic_write(path) as beside:
        beside.write_text(text, encoding="utf-8")


def make_folder(path: Path) -> None:
    """Makes a folder and its parents.

    Raises:
        SignBartError: There is a file of that name, or it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SignBartError(
            f"{path}: cannot be made a folder: {error.strerror or error}; choose another --output"
        ) from None


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keeps other processes that would hold `folder` out of it until the block ends.

    The lock is the system's, on the folder itself: no file marks it, and a killed process leaves
    none behind. Where the system (Windows) or the file system has no such locks, nobody is kept
    out.

    Raises:
        SignBartError: Another process holds it, or there is no such folder.
    """
    if fcntl is None:
        if not folder.is_dir():
            raise SignBartError(f"{folder}: cannot be opened: it is no folder")
        yield
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise SignBartError(f"{folder}: cannot be opened: {error.strerror or error}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SignBartError(
                f"{folder}: another process is writing there; wait for it, or choose another "
                "--output"
            ) from None
        except OSError:
            pass  # this file system has no locks
        yield
    finally:
        os.close(descriptor)


def remove_left_overs(folder: Path) -> None:
    """Removes what `atomic_write` left in a folder when its process was killed."""
    for left_over in folder.glob(f"{LEFT_OVERS}*"):
        left_over.unlink(missing_ok=True)


def file_sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

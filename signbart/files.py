"""Files that appear whole or not at all, and folders that one process at a time writes to."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import platform
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from signbart.errors import SignBartError
from signbart.renames import sync, undo_renames

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

# Everything that is not finished stands in folders whose names begin so: readers pass over them.
UNFINISHED = ".signbart-unfinished"
_OURS = re.compile(r"[0-9a-f]{4}-\w{8}")  # what `tempfile.mkdtemp` makes of a machine
_FORGOTTEN = 24 * 60 * 60  # seconds


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives another path to write to, and renames it to `path` when the block ends well.

    The file keeps its name meanwhile, whose ending some libraries insist on; see
    `temporary_folder`.

    Raises:
        SignBartError: The file cannot be written; says why.
    """
    try:
        with temporary_folder(path.parent) as folder:
            beside = folder / path.name
            yield beside
            sync(beside)
            os.replace(beside, path)
    except OSError as error:
        raise SignBartError(f"{path}: cannot be written: {error.strerror or error}") from None


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
def temporary_folder(parent: Path | None = None, *, short: bool = False) -> Iterator[Path]:
    """Gives a new folder in `parent`, on its file system, and removes it when the block ends.

    It stands in an `UNFINISHED` one of this user's, and is locked as in `folder_lock`: by that the
    next process that writes to `parent` tells what a killed one left behind, and removes it.

    Args:
        parent: None: the system's folder for temporary files.
        short: That is ``/tmp`` then, where there is one: for sockets, whose paths have a limit.

    Raises:
        OSError: It cannot be made.
    """
    place = _place_in(parent, short=short)
    _remove_left_overs(place, undo=parent is not None)
    folder, lock = _locked_folder(place, private=parent is None)
    try:
        yield folder
    finally:
        if parent is None or undo_renames(folder):
            shutil.rmtree(folder, ignore_errors=True)
        _unlock(lock)
        with suppress(OSError):  # others write there, too
            place.rmdir()


@contextmanager
def own_temporaries() -> Iterator[None]:
    """Has all temporary files of this process and its children go to a `temporary_folder`.

    Libraries write some, which stay where they are killed. Nothing changes where the system has no
    folder for them.
    """
    before = tempfile.tempdir, os.environ.get("TMPDIR")
    with ExitStack() as stack:
        with suppress(OSError):
            tempfile.tempdir = str(stack.enter_context(temporary_folder()))
            os.environ["TMPDIR"] = tempfile.tempdir
        try:
            yield
        finally:
            tempfile.tempdir = before[0]
            os.environ.pop("TMPDIR", None)
            if before[1] is not None:
                os.environ["TMPDIR"] = before[1]


def is_unfinished(path: Path, folder: Path) -> bool:
    """Whether a file below `folder` is one that somebody is still writing, or left half written."""
    return any(part.startswith(UNFINISHED) for part in path.relative_to(folder).parts)


def remove_left_overs(folder: Path) -> None:
    """Removes what killed processes left in a folder; what is a living one's stays.

    Locks may not reach from machine to machine: what another one's process left goes after a day.
    """
    _remove_left_overs(_place_in(folder), undo=True)


def _place_in(parent: Path | None, *, short: bool = False) -> Path:
    user = f"-{os.getuid()}" if hasattr(os, "getuid") else ""
    if parent is None:
        # Short: libraries make sockets there, whose paths may have 107 characters.
        short = short and Path("/tmp").is_dir()
        return Path("/tmp" if short else tempfile.gettempdir()) / f".signbart{user}"
    return parent / f"{UNFINISHED}{user}"


def _locked_folder(place: Path, *, private: bool) -> tuple[Path, int | None]:
    """A new folder in `place`, and the lock on it.

    Where everybody may write, `place` must be `private`: who owns it can exchange what is in it.
    So it must in a folder with the sticky bit, as ``/tmp`` has.
    """
    while True:
        # Not by `exist_ok`, which raises where another process takes it away at that moment.
        with suppress(FileExistsError):
            place.mkdir(mode=0o700)
        # Another process may take away an empty `place`, and what is not locked yet.
        with suppress(FileNotFoundError, BlockingIOError):
            found = place.lstat()
            own = private or place.parent.stat().st_mode & stat.S_ISVTX
            if not stat.S_ISDIR(found.st_mode) or (own and not _is_own(found)):
                raise PermissionError(errno.EPERM, f"{place} is not of this program; remove it")
            folder = Path(tempfile.mkdtemp(prefix=f"{_machine()}-", dir=place))
            lock = _lock(folder)
            if folder.is_dir():
                return folder, lock
            _unlock(lock)


def _remove_left_overs(place: Path, *, undo: bool) -> None:
    """As `remove_left_overs`; obeys notes of renames only where to `undo` them."""
    folders: list[Path] = []
    with suppress(OSError):  # there is none, or it is another's
        # Whoever else made it may have put anything into it.
        folders = [*place.iterdir()] if _is_own_folder(place) else []
    for folder in folders:
        with suppress(OSError):  # another process is at it, or lives
            if not _OURS.fullmatch(folder.name) or not _is_own_folder(folder):
                continue
            lock = _lock(folder)
            try:
                here = lock is not None and folder.name.startswith(_machine())
                gone = here or _idle_seconds(folder) > _FORGOTTEN
                if gone and (not undo or undo_renames(folder)):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                _unlock(lock)
    with suppress(OSError):  # something stays
        place.rmdir()


def _is_own_folder(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and _is_own(found)


def _is_own(found: os.stat_result) -> bool:
    return not hasattr(os, "getuid") or found.st_uid == os.getuid()


def _idle_seconds(folder: Path) -> float:
    return time.time() - max(path.lstat().st_mtime for path in [folder, *folder.iterdir()])


@functools.cache
def _machine() -> str:
    """Four digits for this machine, until it is started anew; containers on it share them."""
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        name = platform.node()
    return hashlib.sha256(name.encode()).hexdigest()[:4]


@contextmanager
def folder_lock(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Keeps other processes that would hold `folder` out of it until the block ends.

    The lock is the system's, on the folder itself: no file marks it, and a killed process leaves
    none behind. Where the system (Windows) or the file system has no such locks, nobody is kept
    out.

    Args:
        folder: The folder.
        shared: Keep out only those who would have it alone.

    Raises:
        SignBartError: Another process holds it, or there is no such folder.
    """
    try:
        lock = _lock(folder, shared=shared)
    except BlockingIOError:
        raise SignBartError(
            f"{folder}: another process is writing there; wait for it, or choose another --output"
        ) from None
    except OSError as error:
        raise SignBartError(f"{folder}: cannot be opened: {error.strerror or error}") from None
    try:
        yield
    finally:
        _unlock(lock)


def _lock(folder: Path, *, shared: bool = False) -> int | None:
    """A descriptor that holds the folder until it is closed; None where there are no such locks.

    Raises:
        BlockingIOError: Another process holds it.
        OSError: There is no such folder.
    """
    if fcntl is None:
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "it is no folder")
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None  # this file system has none
    return descriptor


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def require_ordinary(arguments: Iterable[str]) -> None:
    """Refuses what a command line names that is neither file nor folder, and names of nothing.

    A pipe that nobody writes to is waited for without end, and a device such as ``/dev/zero`` read
    so. What is empty would be taken for an option that was not given.

    Args:
        arguments: Of the command line; those that name nothing that exists do not count.

    Raises:
        SignBartError: One is empty, a link to itself, or names a pipe, a device or a socket.
    """
    for text in arguments:
        if not text:
            raise SignBartError("an argument is empty; is a variable of the shell not set?")
        path = text.partition("=")[2] if text.startswith("--") else text.removeprefix("@")
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError) as error:
            if getattr(error, "errno", None) == errno.ELOOP:
                raise SignBartError(f"{path}: {error.strerror}; it leads to itself") from None
            continue
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise SignBartError(
                f"{path}: is a pipe or a device, and neither file nor folder; write what it gives "
                "to a file"
            )


def file_sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

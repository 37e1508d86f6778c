"""Shortages of memory, told from damage: that memory ran out says nothing of a file."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from signbart.errors import MemoryShortageError, SignBartError

# What libraries say that have no class for it: C++'s std::bad_alloc, PyTorch on a CPU, HDF5, and
# ONNX Runtime's arena.
_SAYINGS = re.compile(
    r"bad[_ ]alloc|not enough memory|can(?:'t|not) allocate memory|memory allocation failed"
    r"|failed to allocate memory|out of memory",
    re.IGNORECASE,
)
# Of PyTorch and of TensorFlow, neither of which is imported for this.
_CLASSES = ("OutOfMemoryError", "ResourceExhaustedError")


def is_shortage(error: BaseException) -> bool:
    """Whether an exception, of whatever library, says that memory ran out."""
    if isinstance(error, SignBartError):
        return isinstance(error, MemoryShortageError)
    return (
        isinstance(error, MemoryError)
        or getattr(error, "errno", None) == errno.ENOMEM
        or type(error).__name__ in _CLASSES
        or bool(_SAYINGS.search(str(error)))
    )


def available_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        return None


def read_whole(path: Path) -> bytes:
    """A file's bytes, unless it has more than there is memory: holes of a file take no disk.

    Raises:
        MemoryShortageError: It has.
        OSError: It cannot be read.
    """
    size, free = path.stat().st_size, available_memory()
    if free is not None and size > free:
        raise MemoryShortageError(
            f"{path} has {size:,} bytes, and {free:,} of memory are free; close other programs, or "
            "divide it"
        )
    with naming_shortage(path):
        return path.read_bytes()


@contextmanager
def naming_shortage(what: str | Path) -> Iterator[None]:
    """As `raise_shortage` of whatever the block raises."""
    try:
        yield
    except Exception as error:
        raise_shortage(what, error)
        raise


def raise_shortage(what: str | Path, error: BaseException) -> None:
    """Raises where an exception says that memory ran out; for handlers that call files damaged.

    Args:
        what: What was being read or done, for the message.
        error: What was caught.

    Raises:
        MemoryShortageError: It does.
    """
    if not is_shortage(error):
        return
    if isinstance(error, MemoryShortageError):
        raise error
    said = " ".join(str(error).split())[:160]
    raise MemoryShortageError(
        f"{what}: memory ran out{f' ({said})' if said else ''}; close other programs, give it less "
        "at once, or take a machine with more"
    ) from error

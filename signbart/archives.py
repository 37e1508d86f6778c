"""Compressed files: how much they unpack to, asked before any of it is unpacked.

Every zip archive that others may have made is opened by `open_zip`, an ``.npz`` by `open_npz`; what
other formats say of their sizes goes through `check_unpacked`.
"""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from signbart.errors import SignBartError
from signbart.memory import available_memory, naming_shortage

# Packed data sets unpack to 1.2 to 1.5 times their size, clips of 16 frames padded to 400 with
# zeros to 26 times; deflate reaches 1,000 with zeros alone.
_MOST_TIMES = 100
_FLOOR = 64 << 20  # bytes that any file may unpack to

_LONGEST_HEADER = 10_100  # bytes of an .npy; NumPy refuses headers of more than 10,000 itself

# What reading a damaged .npz may raise.
UNREADABLE = (
    ArithmeticError, EOFError, LookupError, NotImplementedError, OSError, RuntimeError, SyntaxError,
    TypeError, ValueError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def check_unpacked(
    path: Path, size: int, error: type[SignBartError], *, loaded: int | None = None
) -> None:
    """Refuses what unpacks to far more than it is, or to more than there is memory.

    Args:
        path: The file.
        size: Bytes that it says it unpacks to.
        error: What to raise.
        loaded: How many of them are held in memory; by default all.

    Raises:
        SignBartError: Of the class `error`.
    """
    most = max(_FLOOR, _MOST_TIMES * path.stat().st_size)
    if size > most:
        raise error(
            f"{path} has {path.stat().st_size:,} bytes and would unpack to {size:,}, more than "
            f"{most:,}: it is damaged, or made to fill the memory; get it again, or write it "
            "without compression"
        )
    free = available_memory()
    loaded = size if loaded is None else loaded
    if free is not None and loaded > free:
        raise error(
            f"{path} would unpack to {loaded:,} bytes, and {free:,} of memory are free; close "
            "other programs, or divide it"
        )


@contextmanager
def open_zip(path: Path, error: type[SignBartError]) -> Iterator[zipfile.ZipFile]:
    """An archive to read from, whose directory promises no more than may be unpacked.

    Python unpacks no member beyond the size that the directory gives it.

    Raises:
        SignBartError: It is no file, or would unpack to too much; of the class `error`.
        Exception: As `zipfile.ZipFile` does.
    """
    if path.exists() and not path.is_file():
        raise error(f"{path}: is a pipe or a device, or a folder, and no archive")
    with zipfile.ZipFile(path) as archive, naming_shortage(path):
        members = archive.infolist()
        # What is not compressed may stay in the file; see `signbart.recordings.mapped`.
        for member in members:
            stored = member.compress_type == zipfile.ZIP_STORED
            if stored and member.file_size > path.stat().st_size:
                raise error(f"{path}: '{member.filename}' is cut off; copy or write it again")
        packed = [member for member in members if member.compress_type != zipfile.ZIP_STORED]
        whole, loaded = (sum(each.file_size for each in some) for some in (members, packed))
        check_unpacked(path, whole, error, loaded=loaded)
        yield archive


@contextmanager
def open_npz(path: Path, error: type[SignBartError]) -> Iterator[np.lib.npyio.NpzFile]:
    """An ``.npz`` to read from, whose arrays are as large as their members.

    NumPy makes room for what an array's header says, before it looks how much there is.

    Raises:
        SignBartError: It would unpack to too much, or an array says another size than it has; of
            the class `error`.
        Exception: As NumPy does on a file that is damaged.
    """
    with naming_shortage(path), open_zip(path, error) as archive:
        for member in archive.infolist():
            what = f"{path}: array '{member.filename.removesuffix('.npy')}'"
            # What else is wrong with it NumPy says itself, by the same steps.
            with archive.open(member) as file, suppress(*UNREADABLE):
                check_promise(what, file, member.file_size, error)
    with naming_shortage(path), np.load(path, allow_pickle=False) as arrays:
        yield arrays


def check_promise(what: str, file: BinaryIO, size: int, error: type[SignBartError]) -> None:
    """Refuses an ``.npy`` whose header promises more than follows it.

    Args:
        what: It, for messages.
        file: At its beginning; a header's most is read of it.
        size: Its bytes, header and all.
        error: What to raise.

    Raises:
        SignBartError: Of the class `error`.
        Exception: As NumPy does on a header that is damaged.
    """
    # From memory: a file makes room for as many bytes as it is asked for, before it looks.
    head = io.BytesIO(file.read(_LONGEST_HEADER))
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(np.lib.format.read_magic(head))
    if read is None:
        # 3.0 is for names of fields that are no Latin-1: no array of numbers has any.
        raise error(f"{what} is of a version of .npy that arrays of numbers are not written in")
    try:
        shape, _, dtype = read(head)
    except MemoryError:  # what Python's parser says of brackets that nest too deep
        raise error(f"{what} has a header that nests too deep; copy or write it again") from None
    promised = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and promised > size:
        raise error(
            f"{what} should be {dtype} of shape {str(shape)[:80]}, {promised:,} bytes, but has "
            f"{size:,}; copy or write it again"
        )

"""Landmarks that stay in their file: a clip is read and scaled whenever it is looked at.

An ``.npz`` that keeps an array without compression has its bytes in one piece. They are mapped into
memory, not loaded. Legend: F frames of all clips, T of one; K keypoints, D coordinates.
"""

from __future__ import annotations

import math
import mmap
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from signbart.errors import ClipError
from signbart.waiting import track

# A mapped page stays resident once it was looked at. All are let go of after so many bytes; the
# system's file cache, which gives way to whoever needs memory, still has them.
_RESIDENT = 64 << 20
_AROUND = 2 << 20  # what Linux may map along with a page: all that its cache keeps in one piece
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip's member: ends in the lengths of name and extra
_BLOCK = 1 << 22


def map_stored(path: Path, name: str) -> np.memmap | None:
    """An array of an ``.npz``, mapped; None where the file keeps it otherwise than in one piece.

    The bytes are compared with their checksum, and the sizes with the file's, before any is used.

    Raises:
        ClipError: The array is not as large as it says, or larger than the file.
        Exception: One of `archives.UNREADABLE`: the file is cut or damaged.
    """
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        member = archive.getinfo(f"{name}.npy")
        if member.compress_type != zipfile.ZIP_STORED:
            return None
        if member.file_size > path.stat().st_size:
            raise ClipError(f"{path}: array '{name}' is cut off; copy or write it again")
        blocks = range(0, member.file_size + 1, _BLOCK)
        with archive.open(member) as content:  # raises at the end where the checksum is another
            for _ in track(blocks, f"checking {path.name}"):
                content.read(_BLOCK)
        file.seek(member.header_offset)
        start = member.header_offset + _LOCAL_HEADER.size
        start += sum(_LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size)))
        file.seek(start)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[np.lib.format.read_magic(file)]
        shape, fortran, dtype = read_header(file)
        size = member.file_size - (file.tell() - start)
        if fortran or dtype.kind not in "iuf" or not size:
            return None
        if math.prod(shape) * dtype.itemsize != size:
            raise ClipError(
                f"{path}: array '{name}' should be {dtype} of shape {shape}, but has {size} bytes; "
                "copy or write it again"
            )
        return np.memmap(path, dtype, "r", file.tell(), shape)


class MappedFrames:
    """The frames of all clips, (F, K, D) in a file.

    The file must not be cut while this is in use: the system ends processes that look at what is no
    longer there.

    Args:
        path: The file.
        offset: Where the numbers begin.
        dtype: Their kind.
        shape: (F, K, D).
        scale: () landmarks are the numbers times this.
    """

    def __init__(
        self, path: Path, offset: int, dtype: np.dtype, shape: tuple[int, ...], scale: np.ndarray
    ):
        self._made_of = (path, offset, dtype, shape, scale)
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._frames = np.frombuffer(self._map, dtype, math.prod(shape), offset).reshape(shape)
        self._scale = scale
        self._touched = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """(F, K, D)."""
        return self._frames.shape

    def read(
        self, start: int, stop: int, columns: Sequence[int] | None, coordinates: int
    ) -> np.ndarray:
        """Some frames of some landmarks, float32; all landmarks where `columns` is None."""
        numbers = self._frames[start:stop, :, :coordinates]
        if columns is not None:
            numbers = numbers.take(columns, axis=1)
        landmarks = scaled(numbers, self._scale)
        self._touched += _AROUND + (stop - start) * self._frames[:1].nbytes
        if self._touched > _RESIDENT and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._touched = 0
        return landmarks

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process maps the file itself.
        return MappedFrames, self._made_of


class MappedLandmarks:
    """A clip's landmarks, (T, K, D) float32, as an array-like: `np.asarray` reads them anew.

    Args:
        frames: Those of all clips.
        start: The clip's first frame.
        stop: The one behind its last.
        columns: Which landmarks; None: all.
        coordinates: How many of each.
    """

    __slots__ = ("_columns", "_coordinates", "_frames", "_start", "_stop")
    dtype = np.dtype(np.float32)
    ndim = 3

    def __init__(
        self,
        frames: MappedFrames,
        start: int,
        stop: int,
        columns: Sequence[int] | None = None,
        coordinates: int | None = None,
    ):
        self._frames, self._start, self._stop, self._columns = frames, start, stop, columns
        self._coordinates = frames.shape[2] if coordinates is None else coordinates

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, K, D)."""
        keypoints = self._frames.shape[1] if self._columns is None else len(self._columns)
        return self._stop - self._start, keypoints, self._coordinates

    def __len__(self) -> int:
        return self._stop - self._start

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        landmarks = self._frames.read(self._start, self._stop, self._columns, self._coordinates)
        return landmarks if dtype is None else landmarks.astype(dtype, copy=False)

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self)[index]

    def take(self, columns: Sequence[int]) -> MappedLandmarks:
        """Some of the landmarks; they stay in the file."""
        own = self._columns
        columns = columns if own is None else tuple(own[at] for at in columns)
        return MappedLandmarks(self._frames, self._start, self._stop, columns, self._coordinates)

    def cut(self, coordinates: int) -> MappedLandmarks:
        """The first coordinates of each; they stay in the file."""
        return MappedLandmarks(self._frames, self._start, self._stop, self._columns, coordinates)


def scaled(numbers: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Landmarks of a packed file's numbers, float32."""
    with np.errstate(over="ignore", invalid="ignore"):  # infinity is refused with the clip
        return np.multiply(numbers, scale, dtype=np.float32, casting="same_kind")

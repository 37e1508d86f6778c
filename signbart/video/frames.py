"""Frames of a video file or a camera, by OpenCV."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signbart.errors import ClipError

_MATROSKA, _SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"
# .mp4, .mov, .m4v, .3gp: these alone list their frames, so that their number is known.
_LISTING = ((4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"))
# How files of the usual containers begin, and at which byte.
_MAGIC = (
    *_LISTING,
    (0, _MATROSKA),  # .mkv, .webm
    (0, b"\x00\x00\x01\xba"), (0, b"\x00\x00\x01\xb3"),  # .mpg
    (0, b"0&\xb2u"),  # .wmv
    (0, b"FLV\x01"),
)  # fmt: skip
_USUAL_FPS = 30.0
_MOST_FPS = 1000.0
# A number of frames may be a length in seconds times a rate, and is off by so many.
_UNCOUNTED = 3
# Milliseconds that a length of sound and pictures may go on after the last picture: the sound of a
# busy browser's recordings did for up to 0.4 s longer than any of their pictures.
_TAIL = 500
_HEAD = 4096  # bytes, in which a file says how long it is
_ROUNDING = 1e-6  # of times in floating point, so that 40 ms are not 39


@dataclass(frozen=True)
class Frame:
    """One picture.

    Attributes:
        pixels: (H, W, 3) uint8, red, green, blue.
        milliseconds: Since the first one; grows from frame to frame.
    """

    pixels: np.ndarray
    milliseconds: int


def is_video(path: Path) -> bool:
    """Whether a file begins as videos do, whatever it is called."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return False
    return _is_avi(head) or _begins(head, _MAGIC)


def _begins(head: bytes, marks: Iterable[tuple[int, bytes]]) -> bool:
    return any(head.startswith(mark, at) for at, mark in marks)


def _is_avi(head: bytes) -> bool:
    return head.startswith(b"RIFF") and head[8:12] == b"AVI "


def _promised(head: bytes) -> int:
    """Bytes that a file has at least, by how it begins; 0 where that is not said."""
    if _is_avi(head):
        return 8 + int.from_bytes(head[4:8], "little")
    at = head.find(_SEGMENT)
    if not head.startswith(_MATROSKA) or not 0 < at < len(head) - 12 or not head[at + 4]:
        return 0
    # Its length's own length is the number of leading zero bits; all ones say that it is not known.
    start = at + 4 + 9 - head[at + 4].bit_length()
    ones = (1 << 7 * (start - at - 4)) - 1
    size = int.from_bytes(head[at + 4 : start], "big") & ones
    return 0 if size == ones else start + size


class Video:
    """A video file; iterating gives every frame, upright.

    Attributes:
        frames: How many it says it has, or else its length at its rate; 0 where it says neither.
        fps: How many a second, as it says; when each is shown its `milliseconds` say.

    Args:
        path: The file.

    Raises:
        ClipError: It cannot be decoded; when it is iterated, also: it holds no frame, or breaks off
            before its end.
    """

    def __init__(self, path: Path):
        import cv2

        self._path, self._capture = path, cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise ClipError(
                f"{path}: cannot be decoded as a video; write it anew, as H.264 in .mp4"
            )
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.frames = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.fps = fps if 0 < fps <= _MOST_FPS else _USUAL_FPS
        # By the file's own rate, however wild: where OpenCV has no count, it makes one with that.
        self._length = 1000 * self.frames / (fps if fps > 0 else _USUAL_FPS)

    def __iter__(self) -> Iterator[Frame]:
        count, last, longest = 0, -1, 0
        with _opened(self._capture):
            for pixels, now in self._timed():
                # Whole ones that grow, as MediaPipe wants them.
                stamp = max(last + 1, int(now + _ROUNDING))
                longest = max(longest, stamp - last) if count else 0
                count, last = count + 1, stamp
                yield Frame(pixels, stamp)
        if not count:
            raise ClipError(f"{self._path}: holds no frame that can be decoded")
        if self._breaks_off(count, last, longest):
            raise ClipError(
                f"{self._path}: breaks off after {count} of {self.frames} frames; copy or record "
                "it again"
            )

    def _timed(self) -> Iterator[tuple[np.ndarray, float]]:
        """Pictures, and milliseconds since the first one, as the file says them."""
        import cv2

        first = now = None
        for pixels in _pictures(self._capture):
            # Of the picture just read. 0 where it has no time, as the last ones of some .mpg and
            # .avi and all of a bare stream; those follow at the file's rate.
            position = self._capture.get(cv2.CAP_PROP_POS_MSEC)
            if first is None:
                first, now = position, 0.0
            else:
                now = position - first if position else now + 1000 / self.fps
            yield pixels, now

    def _breaks_off(self, count: int, last: int, longest: int) -> bool:
        """Whether pictures are missing at the end.

        Fewer than their number need not be too few: most containers say a length alone, and
        recorders leave out frames. Then what counts is how long before the end the last one is.

        Args:
            count: Pictures that there are.
            last: When the last one is shown.
            longest: The longest time between two of them; the last may be shown as long.
        """
        if count >= self.frames - _UNCOUNTED:
            return False
        with self._path.open("rb") as file:
            head = file.read(_HEAD)
        if _begins(head, _LISTING) or _promised(head) > self._path.stat().st_size:
            return True
        return self._length - last > longest + _TAIL


def read_camera(number: int) -> Iterator[Frame]:
    """Frames of a camera until nobody asks for more.

    Raises:
        ClipError: There is no such camera, it cannot be opened, or it stops.
    """
    import time

    import cv2

    with _opened(cv2.VideoCapture(number)) as capture:
        if not capture.isOpened():
            raise ClipError(
                f"camera {number}: cannot be opened; is it connected, and used by nobody else? "
                "The first one has the number 0"
            )
        started, last = time.monotonic(), -1
        for pixels in _pictures(capture):
            last = max(last + 1, int(1000 * (time.monotonic() - started)))
            yield Frame(pixels, last)
        raise ClipError(f"camera {number}: gives no more pictures")


def _pictures(capture) -> Iterator[np.ndarray]:
    import cv2

    while True:
        there, pixels = capture.read()
        if not there:
            return
        yield cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


@contextlib.contextmanager
def _opened(capture) -> Iterator:
    try:
        yield capture
    finally:
        capture.release()

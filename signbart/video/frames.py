"""Frames of a video file or a camera, by OpenCV."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signbart.errors import ClipError

# How files of the usual containers begin, and at which byte.
_MAGIC = (
    (4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"),  # .mp4, .mov, .m4v, .3gp
    (0, b"\x1aE\xdf\xa3"),  # .mkv, .webm
    (0, b"\x00\x00\x01\xba"), (0, b"\x00\x00\x01\xb3"),  # .mpg
    (0, b"0&\xb2u"),  # .wmv
    (0, b"FLV\x01"),
)  # fmt: skip
_USUAL_FPS = 30.0
_MOST_FPS = 1000.0
# Containers count frames by their length in seconds, and may be off by so many.
_UNCOUNTED = 3


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
    avi = head.startswith(b"RIFF") and head[8:12] == b"AVI "
    return avi or any(head[at : at + len(mark)] == mark for at, mark in _MAGIC)


class Video:
    """A video file; iterating gives every frame, upright.

    Attributes:
        frames: How many it says it has; 0 where it does not say.
        fps: How many a second.

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

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        with _opened(self._capture):
            for index, pixels in enumerate(_pictures(self._capture), start=1):
                yield Frame(pixels, int((index - 1) * 1000 / self.fps))
        if not index:
            raise ClipError(f"{self._path}: holds no frame that can be decoded")
        if index < self.frames - _UNCOUNTED:
            raise ClipError(
                f"{self._path}: breaks off after {index} of {self.frames} frames; copy or record "
                "it again"
            )


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

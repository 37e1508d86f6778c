"""A video with its landmarks drawn over it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from signbart.errors import SignBartError
from signbart.video.frames import Frame
from signbart.video.holistic import LAYOUT

# Red, green, blue; the hands as in pictures of clips.
_COLOURS = {
    "body": (255, 255, 255), "left_hand": (31, 119, 180), "right_hand": (214, 39, 40),
    "face": (240, 200, 80),
}  # fmt: skip
_GROUP = {at: group for group, members in LAYOUT.groups.items() for at in members}


class Drawing:
    """Writes an .mp4 frame by frame.

    Args:
        path: The file.
        fps: Frames a second.
    """

    def __init__(self, path: Path, fps: float):
        self._path, self._fps, self._writer = path, fps, None

    def __enter__(self) -> Drawing:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.release()

    def add(self, frame: Frame, landmarks: np.ndarray) -> None:
        """Draws (543, 2) shares of the picture over it.

        Raises:
            SignBartError: OpenCV cannot write the file.
        """
        import cv2

        if self._writer is None:
            height, width = frame.pixels.shape[:2]
            code = cv2.VideoWriter_fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._path), code, self._fps, (width, height))
            if not self._writer.isOpened():
                raise SignBartError(f"{self._path}: OpenCV cannot write an .mp4 there")
        self._writer.write(np.ascontiguousarray(draw(frame.pixels, landmarks)[..., ::-1]))


def draw(pixels: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """A copy of the picture with bones and points; what is missing is not drawn."""
    import cv2

    picture = pixels.copy()
    height, width = picture.shape[:2]
    there = (landmarks != 0).any(axis=1)
    places = np.rint(landmarks * (width, height)).astype(int)
    thickness = max(1, min(height, width) // 250)
    for one, other in LAYOUT.edges:
        if there[one] and there[other]:
            ends = tuple(map(int, places[one])), tuple(map(int, places[other]))
            cv2.line(picture, *ends, _COLOURS[_GROUP[one]], thickness, cv2.LINE_AA)
    for at in np.flatnonzero(there):
        radius = thickness if _GROUP[at] != "face" else max(1, thickness // 2)
        cv2.circle(picture, tuple(map(int, places[at])), radius, _COLOURS[_GROUP[at]], -1)
    return picture

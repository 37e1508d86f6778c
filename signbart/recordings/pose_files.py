"""``.pose`` files: the binary form of sign-language-processing's pose-format, versions 0.1 and 0.2.

A header names components (POSE_LANDMARKS, …) and their points; then come all frames' coordinates as
float32 in pixels of the stated picture, then their confidence, 0 for what was not found. Read here
and not by the package pose-format, which brings a video library along.

Legend: T frames, M people, K points, D coordinates.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from signbart.errors import ClipError
from signbart.landmarks import source_names
from signbart.landmarks.source import SourceLayout
from signbart.memory import read_whole
from signbart.recordings.recording import Contents, Recording

# The first four bytes: the version as float32, for there is no other mark.
VERSIONS = {struct.pack("<f", 0.1): 0.1, struct.pack("<f", 0.2): 0.2}
# Points that repeat others in metres.
_UNUSED = ("POSE_WORLD_LANDMARKS",)
_HANDS = {
    "LEFT_HAND_LANDMARKS": "left_hand_",
    "RIGHT_HAND_LANDMARKS": "right_hand_",
}
# OpenPose's components, whose points have names of their own, by their order.
_OPENPOSE = {
    ("pose_keypoints_2d", 25): source_names.OPENPOSE_BODY,
    ("hand_left_keypoints_2d", 21): source_names.LEFT_HAND,
    ("hand_right_keypoints_2d", 21): source_names.RIGHT_HAND,
    ("face_keypoints_2d", 70): source_names.OPENPOSE_FACE,
}
_LARGEST = 2**31  # bytes; far beyond any clip


class _Bytes:
    """A file's bytes, taken off the front."""

    def __init__(self, data: bytes):
        self._data = data
        self._at = 0

    def take(self, form: str) -> tuple:
        values = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return values

    def text(self) -> str:
        (length,) = self.take("<H")
        return self.take(f"<{length}s")[0].decode("utf-8")

    def floats(self, *shape: int) -> np.ndarray:
        values = np.frombuffer(self._data, "<f4", int(np.prod(shape)), self._at)
        self._at += values.nbytes
        return values.reshape(shape)

    @property
    def left(self) -> int:
        return len(self._data) - self._at


def read_pose(path: Path) -> Contents:
    """One clip; of several people the one whose points are the surest.

    Raises:
        ClipError: The file cannot be read, or is damaged.
    """
    try:
        return Contents([_read(path, read_whole(path))])
    except OSError as error:
        raise ClipError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise ClipError(
            f"{path}: not a .pose file, or a damaged or truncated one ({str(error)[:80]}); copy it "
            "again"
        ) from None


def _read(path: Path, data: bytes) -> Recording:
    file = _Bytes(data)
    version = VERSIONS.get(data[:4])
    if version is None:
        raise ClipError(
            f"{path}: a .pose file of another version than 0.1 and 0.2; write it anew with "
            "pose-format"
        )
    file.take("<f")
    width, height, _ = file.take("<3H")
    names: list[str | None] = []
    letters = 0
    for _ in range(file.take("<H")[0]):
        component, form = file.text(), file.text()
        points, limbs, colours = file.take("<3H")
        own = [file.text() for _ in range(points)]
        file.take(f"<{2 * limbs}H")
        file.take(f"<{3 * colours}H")
        names += _names(component, own)
        letters = max(letters, len(form) - 1)
    if version == 0.1:
        _, _, people = file.take("<3H")
        # The count of frames is a short, and too small for long clips.
        frames = file.left // max(4 * people * len(names) * (letters + 1), 1)
    else:
        _, frames, people = file.take("<fIH")
    if not frames * people * len(names) * letters * 4 <= min(file.left, _LARGEST):
        raise ValueError("shorter than its header says")
    points = file.floats(frames, people, len(names), letters)
    confidence = file.floats(frames, people, len(names))
    if not people:
        raise ClipError(f"{path}: nobody was found in it")
    surest = int(np.nan_to_num(confidence).sum(axis=(0, 2)).argmax())
    layout = SourceLayout(
        path.name,
        "as the file names its points",
        _once(names),
        channels={2: "xy", 3: "xyz"},
    )
    return Recording(
        points[:, surest],
        str(path),
        confidence=confidence[:, surest],
        layout=layout,
        size=(float(width), float(height)) if width and height else None,
        name=path.stem,
    )


def _names(component: str, points: list[str]) -> list[str | None]:
    """The points' names as `signbart.landmarks` has them."""
    if component in _UNUSED:
        return [None] * len(points)
    if component == "POSE_LANDMARKS":
        return [point.lower() for point in points]
    if component == "FACE_LANDMARKS":
        return [f"face_{point}" for point in points]
    if component in _HANDS:
        return [_HANDS[component] + point.lower().replace("_finger", "") for point in points]
    ordered = _OPENPOSE.get((component, len(points)))
    return list(ordered) if ordered else [f"{component}_{point}".lower() for point in points]


def _once(names: list[str | None]) -> tuple[str | None, ...]:
    """Names that come twice are used the first time."""
    seen: set[str | None] = set()
    result = []
    for name in names:
        result.append(None if name in seen else name)
        seen.add(name)
    return tuple(result)

"""MediaPipe's HolisticLandmarker: a picture in, the 543 landmarks of holistic543 out."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from signbart.console import redirect_output
from signbart.errors import SignBartError
from signbart.landmarks.layouts import LAYOUTS
from signbart.video.frames import Frame
from signbart.video.task_file import check_task

LAYOUT = LAYOUTS["holistic543"]
# In the layout's order: what MediaPipe calls it, and how many landmarks of it are taken. Of the
# face's 478 the last ten are the irises, which no layout has.
_PARTS = (
    ("pose_landmarks", 33),
    ("left_hand_landmarks", 21),
    ("right_hand_landmarks", 21),
    ("face_landmarks", 468),
)


class Landmarker:
    """Finds landmarks in the frames of one video, which it follows from frame to frame.

    Args:
        task: The model file; see `task_file`.

    Raises:
        SignBartError: The file is missing or is another one.
    """

    def __init__(self, task: Path):
        check_task(task)
        self._mediapipe = import_mediapipe()
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.HolisticLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(task)),
            running_mode=vision.RunningMode.VIDEO,
        )
        try:
            self._landmarker = vision.HolisticLandmarker.create_from_options(options)
        except OSError as error:
            raise SignBartError(
                f"MediaPipe's library cannot be loaded: {error}; on Debian: apt install libegl1 "
                "libgles2"
            ) from None
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise SignBartError(f"{task}: MediaPipe does not take it: {reason}") from None

    def __enter__(self) -> Landmarker:
        return self

    def __exit__(self, *_: object) -> None:
        self._landmarker.close()

    def find(self, frame: Frame) -> np.ndarray:
        """(543, 2) float32: x and y as shares of the picture; (0, 0) for what was not found."""
        image = self._mediapipe.Image(
            image_format=self._mediapipe.ImageFormat.SRGB, data=frame.pixels
        )
        found = self._landmarker.detect_for_video(image, frame.milliseconds)
        landmarks = np.zeros((LAYOUT.num_keypoints, 2), np.float32)
        start = 0
        for part, count in _PARTS:
            points = [(point.x, point.y) for point in getattr(found, part)[:count]]
            if points:
                landmarks[start : start + len(points)] = points
            start += count
        return landmarks


def import_mediapipe():
    """MediaPipe without TensorFlow, which it would load, where there is one, to document itself."""
    before = sys.modules.get("tensorflow")
    if before is None:
        sys.modules["tensorflow"] = None  # whoever imports it now is told that there is none
    try:
        import mediapipe
    finally:
        if before is None:
            del sys.modules["tensorflow"]
    return mediapipe


def native_noise(log: Path | None) -> AbstractContextManager[None]:
    """Sends what C++ libraries write to stderr to the end of a file, or nowhere."""
    return redirect_output(log or Path(os.devnull), descriptors=(2,))


def shares_found(landmarks: np.ndarray) -> dict[str, int]:
    """Part -> in how many frames of (T, 543, 2) something of it was found."""
    there = (landmarks != 0).any(axis=-1)
    return {
        group: int(there[:, list(members)].any(axis=1).sum())
        for group, members in LAYOUT.groups.items()
    }


def describe_found(landmarks: np.ndarray) -> str:
    """What was found and what was not, in words."""
    frames = len(landmarks)
    parts = []
    for group, count in shares_found(landmarks).items():
        name = group.replace("_", " ")
        text = "no frame" if not count else "all" if count == frames else f"{count}"
        parts.append(f"{name} in {text}")
    return f"{frames} frames: {', '.join(parts)}"

"""Landmarks of one video."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from signbart.files import atomic_write, make_folder
from signbart.video.drawing import Drawing
from signbart.video.frames import Video
from signbart.video.holistic import LAYOUT, Landmarker, native_noise
from signbart.waiting import stage, track


def stacked(found: Sequence[np.ndarray]) -> np.ndarray:
    """Frames (543, 2), perhaps none, as (T, 543, 2) float32."""
    return np.array(found, np.float32).reshape(len(found), LAYOUT.num_keypoints, 2)


def landmarks_of_video(
    video: Path,
    task: Path,
    *,
    drawn: Path | None = None,
    log: Path | None = None,
) -> np.ndarray:
    """The landmarks of one video.

    Args:
        video: The file.
        task: The HolisticLandmarker's model file.
        drawn: Where to write the video with its landmarks drawn over it, as .mp4.
        log: Takes what MediaPipe's C++ writes to stderr.

    Returns:
        (T, 543, 2) float32, shares of the picture in the order of holistic543; 0 is missing.

    Raises:
        SignBartError: The video cannot be decoded whole, or the task file is none.
    """
    return timed_landmarks(video, task, drawn=drawn, log=log)[0]


def timed_landmarks(
    video: Path,
    task: Path,
    *,
    drawn: Path | None = None,
    log: Path | None = None,
) -> tuple[np.ndarray, list[float]]:
    """`landmarks_of_video`, and T times: seconds since the first frame.

    Raises:
        SignBartError: See `landmarks_of_video`.
    """
    frames, found, times = Video(video), [], []
    with contextlib.ExitStack() as stack:
        stack.enter_context(stage(str(video)))  # before stderr goes into the log
        stack.enter_context(native_noise(log))
        landmarker = stack.enter_context(Landmarker(task))
        drawing = None
        if drawn is not None:
            make_folder(drawn.parent)
            drawing = stack.enter_context(
                Drawing(stack.enter_context(atomic_write(drawn)), frames.fps)
            )
        for frame in track(frames, "frames", frames.frames):
            found.append(landmarker.find(frame))
            times.append(frame.milliseconds / 1000)
            if drawing is not None:
                drawing.add(frame, found[-1])
    return stacked(found), times

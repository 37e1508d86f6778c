"""Videos as recordings: what a model is asked about."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from signbart.errors import ClipError, ConfigError
from signbart.landmarks.source import as_source
from signbart.recordings.clip import Clip, find_fault
from signbart.recordings.names import UNKNOWN_SIGNER
from signbart.recordings.recording import Changes, Reading, Recording, to_landmarks
from signbart.video.holistic import LAYOUT, describe_found
from signbart.video.one_video import timed_landmarks

NO_CHANGES = Changes()


def clip_of_video(
    path: str,
    task: str | None,
    *,
    changes: Changes = NO_CHANGES,
    source_layout: str | None = None,
    image_size: str | None = None,
) -> Clip:
    """A video's recording; says on stderr what was found.

    Args:
        path: The video.
        task: The HolisticLandmarker's model file.
        changes: What is to be put right about it.
        source_layout: For no video, and so is the next: its landmarks are known.
        image_size: See `source_layout`.

    Raises:
        SignBartError: The video cannot be read, nobody was found, or `task` is none.
    """
    return stream_of_video(
        path, task, changes=changes, source_layout=source_layout, image_size=image_size
    )[0]


def stream_of_video(
    path: str,
    task: str | None,
    *,
    changes: Changes = NO_CHANGES,
    source_layout: str | None = None,
    image_size: str | None = None,
) -> tuple[Clip, list[float]]:
    """`clip_of_video`, and when each of its frames is shown: seconds since the first one.

    Raises:
        SignBartError: See `clip_of_video`.
    """
    for option, value in (("--source-layout", source_layout), ("--image-size", image_size)):
        if value is not None:
            raise ConfigError(f"{option}: not for a video, whose landmarks are known; leave it out")
    if task is None:
        raise ConfigError(
            f"{path}: a video; pass --task holistic_landmarker.task, see docs/data.md"
        )
    landmarks, times = timed_landmarks(Path(path), Path(task))
    print(describe_found(landmarks), file=sys.stderr)
    return as_clip(landmarks, path, changes), times


def as_clip(landmarks: np.ndarray, source: str, changes: Changes = NO_CHANGES) -> Clip:
    """A recording of (T, 543, 2) landmarks, put right as the user says.

    Raises:
        ClipError: Nobody was found, or there is one frame only.
    """
    own = Recording(landmarks, source, layout=as_source(LAYOUT))
    points, _ = to_landmarks(own, Reading(changes=changes))
    clip = Clip(points, 0, UNKNOWN_SIGNER, 0, source)
    if not points.any():
        raise ClipError(f"{source}: nobody was found in its {len(points)} frames")
    fault = find_fault(clip)
    if fault:
        raise ClipError(fault)
    return clip

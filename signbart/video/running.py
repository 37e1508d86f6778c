"""Labels while somebody signs: of the last seconds, again and again."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from signbart.errors import ConfigError
from signbart.recordings.clip import Clip
from signbart.recordings.recording import Changes
from signbart.video.clips import as_clip
from signbart.video.frames import Frame, read_camera
from signbart.video.holistic import Landmarker, native_noise

Scores = list[tuple[str, float]]


def follow_camera(
    number: int,
    task: str | None,
    classify: Callable[[Clip], Scores],
    *,
    changes: Changes,
    window: float,
    every: float,
) -> None:
    """Prints what the last seconds before a camera show, until Ctrl-C; on a terminal in one line.

    Args:
        number: Of the camera, from 0.
        task: The HolisticLandmarker's model file.
        classify: Gives labels and scores, the likeliest first.
        changes: What is to be put right about the landmarks.
        window: See `running_scores`.
        every: See `running_scores`.

    Raises:
        SignBartError: The camera cannot be opened, or `task` is none.
    """
    if task is None:
        raise ConfigError("--camera needs --task holistic_landmarker.task, see docs/data.md")
    if not (0 < window < float("inf") and 0 <= every < float("inf")):
        raise ConfigError(f"--window {window:g} --every {every:g}: seconds, the first above 0")
    ending = "\r" if sys.stdout.isatty() else "\n"
    try:
        with native_noise(None), Landmarker(Path(task)) as landmarker:
            for now, scores in running_scores(
                read_camera(number),
                landmarker,
                lambda landmarks: classify(as_clip(landmarks, "the camera", changes)),
                window=window,
                every=every,
            ):
                text = f"{scores[0][0]}  {scores[0][1]:.0%}" if scores else "nobody is seen"
                print(f"{now:6.1f} s  {text:<40}", end=ending, flush=True)
    except KeyboardInterrupt:
        print()


def running_scores(
    frames: Iterable[Frame],
    landmarker: Landmarker,
    classify: Callable[[np.ndarray], Scores],
    *,
    window: float,
    every: float,
) -> Iterator[tuple[float, Scores]]:
    """What the last `window` seconds show, every `every` seconds.

    Args:
        frames: Of a camera or a video.
        landmarker: Finds their landmarks.
        classify: (T, 543, 2) landmarks -> labels and scores, the likeliest first.
        window: Seconds that are looked at; nothing is said before they are full.
        every: Seconds between two answers.

    Yields:
        Seconds since the first frame, and the scores; none where nobody was seen.
    """
    seen: deque[tuple[float, np.ndarray]] = deque()
    due = window
    for frame in frames:
        now = frame.milliseconds / 1000
        seen.append((now, landmarker.find(frame)))
        while seen[0][0] <= now - window:
            seen.popleft()
        if now < due or len(seen) < 2:
            continue
        due = now + every
        landmarks = np.stack([found for _, found in seen])
        yield now, classify(landmarks) if landmarks.any() else []

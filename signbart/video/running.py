"""Labels while somebody signs: of the last seconds, again and again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from signbart.video.frames import Frame
from signbart.video.holistic import Landmarker


def running_scores(
    frames: Iterable[Frame],
    landmarker: Landmarker,
    classify: Callable[[np.ndarray], list[tuple[str, float]]],
    *,
    window: float,
    every: float,
) -> Iterator[tuple[float, list[tuple[str, float]]]]:
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

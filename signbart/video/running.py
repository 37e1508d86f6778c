"""Signs before a camera, as somebody makes them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from signbart.errors import ConfigError
from signbart.recordings.clip import Clip
from signbart.recordings.recording import Changes
from signbart.streaming.rule import Event, Spotter, StreamRule, describe_event, windows
from signbart.video.clips import as_clip
from signbart.video.frames import Frame, read_camera
from signbart.video.holistic import Landmarker, native_noise


def follow_camera(
    number: int,
    task: str | None,
    probabilities: Callable[[Clip], np.ndarray],
    class_names: Sequence[str],
    *,
    changes: Changes,
    rule: StreamRule,
) -> None:
    """Prints the signs that are made before a camera, until Ctrl-C.

    On a terminal a last line says what the windows show.

    Args:
        number: Of the camera, from 0.
        task: The HolisticLandmarker's model file.
        probabilities: Gives (C,) of a window.
        class_names: C labels.
        changes: What is to be put right about the landmarks.
        rule: Makes events of windows.

    Raises:
        SignBartError: The camera cannot be opened, or `task` is none.
    """
    if task is None:
        raise ConfigError("--camera needs --task holistic_landmarker.task, see docs/data.md")
    spotter = Spotter(rule, class_names)
    interactive = sys.stdout.isatty()
    try:
        with native_noise(None), Landmarker(Path(task)) as landmarker:
            for now, event in running_events(
                read_camera(number),
                landmarker,
                lambda landmarks: probabilities(as_clip(landmarks, "the camera", changes)),
                spotter,
            ):
                if event is not None:
                    print(f"{describe_event(event):<50}", flush=True)
                if interactive:
                    averaged = spotter.averaged
                    best = int(averaged.argmax())
                    text = f"{class_names[best]}  {averaged[best]:.0%}"
                    text = text if averaged.any() else "nobody is seen"
                    print(f"{now:6.1f} s  {text:<40}", end="\r", flush=True)
    except KeyboardInterrupt:
        pass
    finally:
        event = spotter.finish()
        print(f"{describe_event(event):<50}" if event else "")


def running_events(
    frames: Iterable[Frame],
    landmarker: Landmarker,
    probabilities: Callable[[np.ndarray], np.ndarray],
    spotter: Spotter,
) -> Iterator[tuple[float, Event | None]]:
    """A camera's or a video's windows, one after the other.

    Args:
        frames: Of a camera or a video.
        landmarker: Finds their landmarks.
        probabilities: (T, 543, 2) landmarks, some of which are there -> (C,).
        spotter: Is given them; what it knows at the end is not asked for.

    Yields:
        Seconds since the first frame, and the event that has ended, if one has.
    """
    found = ((frame.milliseconds / 1000, landmarker.find(frame)) for frame in frames)
    for now, landmarks in windows(found, spotter.rule):
        nobody = np.zeros(len(spotter.class_names))
        yield now, spotter.add(now, probabilities(landmarks) if landmarks.any() else nobody)

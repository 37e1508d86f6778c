"""``python -m benchmarks.landmarks``: how much of the time of a video's landmarks is MediaPipe's.

Process time of all threads, a frame: what MediaPipe's own calls take, and what decoding and
collecting add. OpenCV decodes in threads of its own, so decoding is also measured alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from signbart.console import at_least, run_command
from signbart.video.frames import Video
from signbart.video.holistic import Landmarker, native_noise


def measure(video: Path, task: Path) -> tuple[float, float, float]:
    """Milliseconds of process time a frame: MediaPipe, all of it, and decoding alone."""
    from mediapipe.tasks.python import vision

    own, detect = [], vision.HolisticLandmarker.detect_for_video

    def timed(self, *arguments):
        begun = time.process_time()
        found = detect(self, *arguments)
        own.append(time.process_time() - begun)
        return found

    with native_noise(None), Landmarker(task) as landmarker:
        vision.HolisticLandmarker.detect_for_video = timed
        try:
            begun = time.process_time()
            for frame in Video(video):
                landmarker.find(frame)
            whole = time.process_time() - begun
        finally:
            vision.HolisticLandmarker.detect_for_video = detect
    begun = time.process_time()
    count = sum(1 for _ in Video(video))
    decoding = time.process_time() - begun
    return tuple(1000 * seconds / count for seconds in (sum(own), whole, decoding))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.landmarks", description=__doc__)
    parser.add_argument("video", type=Path, metavar="VIDEO")
    parser.add_argument("--task", required=True, type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=at_least(1), default=5, help="default: %(default)s")
    options = parser.parse_args(arguments)
    for _ in range(options.rounds):
        own, whole, decoding = measure(options.video, options.task)
        rest = whole - own
        print(
            f"{whole:.1f} ms a frame: MediaPipe {own:.1f}, the rest {rest:.1f} "
            f"({rest / whole:.1%}); decoding alone {decoding:.1f}"
        )
    return 0


if __name__ == "__main__":
    run_command(main)

"""``python -m benchmarks.landmark_folder``: a folder's landmarks, beside MediaPipe's own loop.

Makes short copies of a video, shifted, scaled and cut, and finds their landmarks in two ways by as
many processes: ``signbart landmarks --engine ray``, which is killed in mid-run and started again,
and, of every second video, MediaPipe's own loop, which decodes by OpenCV and saves what is found.
They take turns of some seconds, so that whatever else runs on the machine slows both. Compared are
frames a second of processor time of the processes that find landmarks, from start to end.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.loopback import kill, processes_of, workers_of
from signbart.console import at_least, run_command
from signbart.errors import SignBartError

_TURN = 5.0  # seconds
_LOOK = 0.1  # seconds between looks at what processes took
_TICK = os.sysconf("SC_CLK_TCK")


def make_videos(video: Path, folder: Path, count: int) -> None:
    """Copies of 20 to 30 frames of a video, each another part, shifted and scaled."""
    import cv2

    capture = cv2.VideoCapture(str(video))
    pictures = []
    while (read := capture.read())[0]:
        pictures.append(read[1])
    height, width = pictures[0].shape[:2]
    folder.mkdir(parents=True)
    chosen = random.Random(0)
    for number in range(count):
        length = chosen.randint(20, min(30, len(pictures)))
        begin = chosen.randint(0, len(pictures) - length)
        scale = chosen.uniform(0.8, 1.2)
        x, y = (chosen.uniform(-0.05, 0.05) * size for size in (width, height))
        map_to = np.float32(
            [[scale, 0, x + (1 - scale) * width / 2], [0, scale, y + (1 - scale) * height / 2]]
        )
        writer = cv2.VideoWriter(
            str(folder / f"{number:03}.mp4"),
            cv2.VideoWriter.fourcc(*"mp4v"),
            capture.get(cv2.CAP_PROP_FPS),
            (width, height),
        )
        for picture in pictures[begin : begin + length]:
            writer.write(cv2.warpAffine(picture, map_to, (width, height)))
        writer.release()


def own_loop(videos: Sequence[Path], task: Path, output: Path) -> None:
    """MediaPipe's own loop; writes what it found, and prints its processor time."""
    from signbart.video.holistic import import_mediapipe

    mediapipe = import_mediapipe()
    import cv2
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.HolisticLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(task)),
        running_mode=vision.RunningMode.VIDEO,
    )
    output.mkdir(exist_ok=True)
    count = 0
    for video in videos:
        # One a video: it follows a person from frame to frame.
        with vision.HolisticLandmarker.create_from_options(options) as landmarker:
            capture = cv2.VideoCapture(str(video))
            fps, frames = capture.get(cv2.CAP_PROP_FPS), []
            while True:
                there, picture = capture.read()
                if not there:
                    break
                image = mediapipe.Image(
                    image_format=mediapipe.ImageFormat.SRGB,
                    data=cv2.cvtColor(picture, cv2.COLOR_BGR2RGB),
                )
                frames.append(landmarker.detect_for_video(image, int(len(frames) * 1000 / fps)))
            capture.release()
        np.save(output / f"{video.stem}.npy", np.stack([_points(frame) for frame in frames]))
        count += len(frames)
    print(json.dumps({"seconds": sum(os.times()[:2]), "frames": count}))


def _points(found) -> np.ndarray:
    """(543, 2) float32 of one result, zeros for what was not found."""
    parts = (
        (found.pose_landmarks, 33),
        (found.left_hand_landmarks, 21),
        (found.right_hand_landmarks, 21),
        (found.face_landmarks, 468),
    )
    rows = [[(p.x, p.y) for p in part[:n]] or [(0, 0)] * n for part, n in parts]
    return np.float32([point for part in rows for point in part])


class _Watched:
    """A command in a session of its own: which workers it has, and what they took.

    Args:
        command: The command.
        log: Takes what it prints.
    """

    def __init__(self, command: Sequence[str], log: Path):
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command,
                stdout=out,
                stderr=out,
                start_new_session=True,
                # Else Ray's workers wait for all that runs with the usual niceness.
                env={**os.environ, "RAY_worker_niceness": "0"},
            )
        self.workers: dict[int, float] = {}
        self.others: dict[int, float] = {}

    def look(self) -> None:
        """Notes what each of its processes has taken up to now, in seconds."""
        workers = workers_of(self.process.pid)
        for number in processes_of(self.process.pid):
            try:
                fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            taken = (int(fields[11]) + int(fields[12])) / _TICK
            if number in workers or number in self.workers:
                self.workers[number] = taken
            else:
                self.others[number] = taken

    def signal(self, number: int) -> None:
        """Sends a signal to its workers."""
        for worker in workers_of(self.process.pid):
            os.kill(worker, number)


def _take_turns(loops: Sequence[subprocess.Popen], ours: list[_Watched]) -> None:
    """Lets the loops and the last of ours run in turn, as long as the loops do."""
    theirs = False
    while any(loop.poll() is None for loop in loops):
        theirs = not theirs
        until = time.monotonic() + (_TURN if theirs else 2 * _TURN)
        while time.monotonic() < until:
            working = bool(ours) and bool(workers_of(ours[-1].process.pid))
            # Where ours only starts or has ended, nobody need wait for it.
            for loop in loops:
                if loop.poll() is None:
                    loop.send_signal(signal.SIGCONT if theirs or not working else signal.SIGSTOP)
            if working:
                ours[-1].signal(signal.SIGSTOP if theirs else signal.SIGCONT)
            time.sleep(_LOOK)
    ours[-1].signal(signal.SIGCONT)


def _made(folder: Path) -> dict[str, int]:
    """Name -> when it was written, in nanoseconds."""
    return {path.stem: path.stat().st_mtime_ns for path in folder.glob("*.npy")}


def _say(what: str, frames: int, seconds: float, wall: float, workers: int) -> float:
    """Prints and returns frames a second of processor time."""
    print(
        f"{what}: {frames} frames, {seconds:.1f} s of processor time in {workers} processes, "
        f"{wall:.0f} s with its turns: {frames / seconds:.2f} frames a second of a core",
        flush=True,
    )
    return frames / seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0 if all was found once, as MediaPipe does."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.landmark_folder", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("video", type=Path, metavar="VIDEO")
    add("--task", required=True, type=Path, metavar="FILE")
    add("--folder", required=True, type=Path, help="receives all files; must not exist")
    add("--count", type=at_least(4), default=200, help="of videos (default: %(default)s)")
    add("--workers", type=at_least(1), default=2, help="default: %(default)s")
    add("--own", type=int, help=argparse.SUPPRESS)  # the number of a loop, in its process
    options = parser.parse_args(arguments)
    videos, output, loop = (options.folder / name for name in ("videos", "landmarks", "own"))
    if options.own is not None:
        half = sorted(videos.iterdir())[::2]
        own_loop(half[options.own :: options.workers], options.task, loop)
        return 0
    make_videos(options.video, videos, options.count)
    own = [sys.executable, "-m", "benchmarks.landmark_folder", str(options.video)]
    own += ["--task", str(options.task), "--folder", str(options.folder)]
    own += ["--workers", str(options.workers)]
    began = time.monotonic()
    loops = [
        subprocess.Popen(
            [*own, "--own", str(number)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for number in range(options.workers)
    ]
    command = [sys.executable, "-m", "signbart.video", str(videos), "--task", str(options.task)]
    command += ["--output", str(output), "--engine", "ray", "--jobs", str(options.workers)]
    log = options.folder / "command.log"
    ours = [_Watched(command, log)]
    turns = threading.Thread(target=_take_turns, args=(loops, ours), daemon=True)
    turns.start()
    while len(_made(output)) < options.count // 3:
        ours[0].look()
        if ours[0].process.poll() is not None:
            raise SignBartError(f"signbart landmarks ended too early; {log} says why")
        time.sleep(_LOOK)
    kill(ours[0].process.pid)
    ours[0].process.wait()
    before, first = _made(output), time.monotonic()
    ours.append(_Watched(command, log))
    while ours[1].process.poll() is None:
        ours[1].look()
        time.sleep(_LOOK)
    ended = time.monotonic()
    turns.join()
    results = [json.loads(each.communicate()[0]) for each in loops]
    whole = time.monotonic() - began
    after = _made(output)
    frames = {name: len(np.load(output / f"{name}.npy")) for name in after}
    lost = _say("killed", sum(frames[n] for n in before), sum(ours[0].workers.values()),
                first - began, options.workers)  # fmt: skip
    rate = _say("resumed", sum(frames[n] for n in after if n not in before),
                sum(ours[1].workers.values()), ended - first, options.workers)  # fmt: skip
    theirs = _say("MediaPipe's own loop", sum(each["frames"] for each in results),
                  sum(each["seconds"] for each in results), whole, options.workers)  # fmt: skip
    print(f"share of MediaPipe's own: killed {lost / theirs:.3f}, resumed {rate / theirs:.3f}")
    print(
        "beside the workers, Ray and the command took "
        + " and ".join(f"{sum(each.others.values()):.1f}" for each in ours)
        + " s of processor time"
    )
    begun = Path(f"{output}.log").read_text(encoding="utf-8", errors="replace").count("== worker")
    again = [name for name in before if after.get(name) != before[name]]
    compared = sorted(path.stem for path in loop.iterdir())
    equal = sum(
        np.array_equal(np.load(output / f"{name}.npy"), np.load(loop / f"{name}.npy"))
        for name in compared
        if name in after
    )
    print(
        f"{len(before)} videos done when it was killed, {len(again)} of them made again; "
        f"{begun} begun for {len(after)} of {options.count}; {equal} of {len(compared)} equal to "
        "the own loop's"
    )
    return int(bool(again) or len(after) < options.count or equal < len(compared))


if __name__ == "__main__":
    run_command(main)

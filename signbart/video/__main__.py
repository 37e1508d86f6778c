"""``python -m signbart.video``, ``signbart landmarks``: landmarks of videos and of a camera."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from signbart.console import at_least, next_command, printable, program_name, run_command
from signbart.engines import Engine
from signbart.engines.options import add_engine_arguments, engine_of
from signbart.errors import ConfigError
from signbart.files import make_folder
from signbart.video.extraction import (
    default_processes,
    extract_folder,
    write_landmarks,
)
from signbart.video.frames import read_camera
from signbart.video.holistic import Landmarker, describe_found, import_mediapipe, native_noise
from signbart.video.one_video import landmarks_of_video, stacked
from signbart.video.task_file import assemble_task, check_task

_LISTED = 5  # failures on the screen


def main(arguments: Sequence[str] | None = None) -> int:
    """Finds the landmarks of a video, of a folder of videos, or of a camera."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart.video"),
        description="Find the landmarks of a video, of a folder of videos, or of a camera.",
        epilog="exit status: 0 done, 1 some videos of the folder failed, 2 bad input",
    )
    parser.add_argument(
        "source",
        nargs="?",
        metavar="VIDEO|FOLDER|CAMERA",
        help="a file, a folder (its videos, in whatever folders), or the number of a camera",
    )
    parser.add_argument(
        "--task",
        required=True,
        metavar="FILE",
        help="MediaPipe's model, holistic_landmarker.task; docs/data.md says where it comes from",
    )
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="the .npy to write, of shape (frames, 543, 2); for a folder of videos a folder",
    )
    parser.add_argument(
        "--draw",
        metavar="PATH",
        help="write the video with its landmarks here, as .mp4; for a folder of videos a folder",
    )
    parser.add_argument(
        "--jobs",
        type=at_least(1),
        metavar="N",
        help=f"videos at a time (default: {default_processes()}, as many as there are cores; "
        "with --engine ray as many as there is room for)",
    )
    add_engine_arguments(parser, "videos of a folder")
    parser.add_argument(
        "--seconds",
        type=at_least(1),
        metavar="S",
        help="how long a camera records (default: until Ctrl-C)",
    )
    parser.add_argument(
        "--assemble-task",
        metavar="WHEEL",
        help="first write --task, from the parts that MediaPipe's wheel of version 0.10.21 has",
    )
    options = parser.parse_args(arguments)
    engine = engine_of(options)
    import_mediapipe()  # whoever lacks it need not look for its model file first
    task = Path(options.task)
    if options.assemble_task:
        assemble_task(Path(options.assemble_task), task)
        print(f"wrote      {task}, {task.stat().st_size} bytes")
        if options.source is None:
            return 0
    if options.source is None or options.output is None:
        raise ConfigError("name a VIDEO, FOLDER or CAMERA, and with --output where to write")
    check_task(task)
    source, output = Path(options.source), Path(options.output)
    drawn = Path(options.draw) if options.draw else None
    if source.is_dir():
        jobs = options.jobs or (None if options.engine == "ray" else default_processes())
        return _folder(source, task, output, drawn, jobs, engine)
    if output.suffix != ".npy":
        raise ConfigError(f"--output {output}: must end in .npy, of one recording")
    if drawn is not None and drawn.exists() and source.exists() and drawn.samefile(source):
        raise ConfigError(f"--draw {drawn}: is the video itself; name another file")
    log = output.with_suffix(".log")
    make_folder(output.parent)
    if options.source.isdecimal() and not source.exists():
        landmarks = _record(int(options.source), task, log, options.seconds)
    elif not source.is_file():
        raise ConfigError(f"{source}: no such video, folder or camera")
    else:
        landmarks = landmarks_of_video(source, task, drawn=drawn, log=log)
    write_landmarks(landmarks, output, source)
    print(f"{source}: {describe_found(landmarks)}")
    print(f"wrote      {output}; what MediaPipe said is in {log}")
    print(f"next       {next_command('signbart.clips')} show {output}")
    return 0


def _folder(
    source: Path,
    task: Path,
    output: Path,
    drawn: Path | None,
    jobs: int | None,
    engine: Engine | None,
) -> int:
    failed = extract_folder(source, task, output, drawn=drawn, processes=jobs, engine=engine)
    print(f"wrote      {output}; what MediaPipe said is in {output}.log")
    if failed:
        print(f"{len(failed)} videos failed; {output}.failed.txt lists them:")
        for reason in failed[:_LISTED]:
            print(printable(f"  {reason}"))
    print(f"next       {next_command('signbart.clips')} info {output}")
    return 1 if failed else 0


def _record(number: int, task: Path, log: Path, seconds: int | None) -> np.ndarray:
    """Landmarks of a camera's frames, until it is enough or Ctrl-C ends it."""
    print("recording; Ctrl-C ends it" if seconds is None else f"recording {seconds} s", flush=True)
    found = []
    with native_noise(log), Landmarker(task) as landmarker:
        try:
            for frame in read_camera(number):
                if seconds is not None and frame.milliseconds >= 1000 * seconds:
                    break
                found.append(landmarker.find(frame))
        except KeyboardInterrupt:
            print()
    return stacked(found)


if __name__ == "__main__":
    run_command(main)

"""Landmarks of videos, one file a video; folders by several processes, resumed where they ended."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signbart.engines import Engine, run_tasks
from signbart.errors import ClipError, SignBartError
from signbart.files import (
    atomic_write,
    file_sha256,
    folder_lock,
    make_folder,
    remove_left_overs,
    write_text,
)
from signbart.json_text import read_json_file
from signbart.recordings.folders import Folder, ignored_note, list_folder, some
from signbart.video.frames import is_video
from signbart.video.holistic import describe_found
from signbart.video.one_video import landmarks_of_video

_SUFFIX = ".npy"
_SHARE = 32  # videos a task of a cluster, which loads MediaPipe once for them
_PAPERS = (".json", ".csv")  # labels and indexes, which say what the clips are


@dataclass(frozen=True)
class Job:
    """One video of a folder, and what is made of it."""

    video: Path
    target: Path
    drawn: Path | None = None

    @property
    def is_done(self) -> bool:
        """Whether an earlier run made it."""
        return self.target.is_file() and (self.drawn is None or self.drawn.is_file())


@dataclass(frozen=True)
class _Worker:
    """Some of a folder's videos, one after the other; can be pickled.

    What is there already is not made again, so it may be called again after its process was killed.
    """

    number: int
    jobs: tuple[tuple[int, Job], ...]
    total: int
    task: Path
    log: Path

    def __call__(self) -> list[tuple[int, str]]:
        """Makes what is missing; (place, reason) of each video that failed."""
        failed = []
        for place, job in self.jobs:
            if job.is_done:
                continue
            with self.log.open("a", encoding="utf-8") as log:
                log.write(f"{self._mark}{place}\n")
            number = f"{place + 1} of {self.total}  "
            try:
                landmarks = landmarks_of_video(job.video, self.task, drawn=job.drawn, log=self.log)
                write_landmarks(landmarks, job.target, job.video)
            except SignBartError as error:
                failed.append((place, str(error)))
                _say(f"{number}failed: {error}")
                continue
            _say(f"{number}{job.video}: {describe_found(landmarks)}")
        return failed

    @property
    def _mark(self) -> str:
        return f"== worker {self.number}, video "

    def last_begun(self, since: int) -> int:
        """The place of the video that was begun last.

        Args:
            since: Bytes of the log that were there before: an earlier run's.

        Raises:
            SignBartError: None was.
        """
        lines = self.log.read_bytes()[since:].decode("utf-8", errors="replace").splitlines()
        begun = [line for line in lines if line.startswith(self._mark)]
        if not begun:
            raise SignBartError(
                f"{self.jobs[0][1].video}: processes were killed before they began with it; "
                f"{self.log} may say why; try again, with fewer --jobs"
            )
        return int(begun[-1].removeprefix(self._mark))


def _say(text: str) -> None:
    print(text, flush=True)


def write_landmarks(landmarks: np.ndarray, target: Path, video: object) -> None:
    """Writes the landmarks of a video, whole or not at all; says where nobody is in them."""
    make_folder(target.parent)
    with atomic_write(target) as beside:
        np.save(beside, landmarks)
    if not landmarks.any():
        _say(f"warning: {video}: nobody was found; look whether it shows a person")


def plan(
    source: Folder, ignored: Counter[str], output: Path, drawn: Path | None
) -> tuple[list[Job], list[str]]:
    """The videos of a folder, where their landmarks go, and notes about what else is there.

    Args:
        source: The folder.
        ignored: What was left out of it as an operating system's.
        output: Folder of the landmarks.
        drawn: Folder of the drawn videos.

    Raises:
        ClipError: There is no video, or two would write one file.
    """
    jobs, others = [], []
    for folder in source.walk():
        for name in folder.files:
            path = folder.path / name
            if is_video(path):
                place = path.relative_to(source.path)
                target = output / place.with_suffix(_SUFFIX)
                over = None if drawn is None else drawn / place.with_suffix(".mp4")
                jobs.append(Job(path, target, over))
            elif not _is_paper(name):
                others.append(str(path))
    if not jobs:
        raise ClipError(f"{source.path}: holds no video; files are told by how they begin")
    twice = [target for target, count in Counter(job.target for job in jobs).items() if count > 1]
    if twice:
        raise ClipError(f"{source.path}: two videos would both become {twice[0]}; rename one")
    for beside, option in ((output, "--output"), (drawn, "--draw")):
        if beside is not None and beside.resolve() == source.path.resolve():
            raise ClipError(f"{option} {beside}: is the folder of the videos; name another")
    notes = [f"{len(others)} files are no videos: {some(others)}"] if others else []
    return jobs, [*notes, *ignored_note(ignored)]


def extract_folder(
    source: Path,
    task: Path,
    output: Path,
    *,
    drawn: Path | None = None,
    processes: int | None = 1,
    engine: Engine | None = None,
) -> list[str]:
    """Writes the landmarks of every video of a folder, in folders of the same names.

    What an earlier run wrote is kept. Beside `output` stand ``NAME.json`` (what made it),
    ``NAME.log`` and, if there were any, ``NAME.failed.txt``; labels and indexes at the top of
    `source` are copied.

    Args:
        source: The folder.
        task: The HolisticLandmarker's model file.
        output: Folder of the .npy files.
        drawn: Folder of the videos with landmarks drawn over them.
        processes: How many videos at a time; None: as many as the engine has room for.
        engine: Runs them; see `run_tasks`. Its machines must see all of these folders.

    Returns:
        What failed, a line a video.

    Raises:
        SignBartError: There is nothing to do, or `output` was made with another task file.
    """
    ignored: Counter[str] = Counter()
    folder = list_folder(source, ignored)
    jobs, notes = plan(folder, ignored, output, drawn)
    for note in notes:
        _say(f"note: {note}")
    make_folder(output)
    with folder_lock(output):
        _check_same_maker(output, task)
        for place in {job.target.parent for job in jobs}:
            remove_left_overs(place)
        for name in folder.files:
            if _is_paper(name):
                with atomic_write(output / name) as beside:
                    shutil.copyfile(source / name, beside)
        failed = _run(jobs, task, Path(f"{output}.log"), processes, engine)
    listing = Path(f"{output}.failed.txt")
    if failed:
        write_text(listing, "".join(f"{reason}\n" for reason in failed))
    else:
        listing.unlink(missing_ok=True)
    return failed


def _is_paper(name: str) -> bool:
    return Path(name).suffix.lower() in _PAPERS


def _check_same_maker(output: Path, task: Path) -> None:
    """Records what makes the landmarks; refuses to go on with something else."""
    from importlib.metadata import version

    record = Path(f"{output}.json")
    begun = any(n.endswith(_SUFFIX) for folder in list_folder(output).walk() for n in folder.files)
    # MediaPipe's tracking heeds the times of frames: landmarks are others if they were counted.
    maker = {
        "task_sha256": file_sha256(task),
        "mediapipe": version("mediapipe"),
        "times": "of the video",
    }
    if begun:
        try:
            made_by = read_json_file(record)
        except (OSError, ValueError):
            made_by = None
        if isinstance(made_by, dict) and made_by == {k: maker[k] for k in maker if k != "times"}:
            _say(
                f"{record}: made by a version that counted frames instead of asking the video when "
                "they are shown; landmarks of videos whose rate varies differ, so make those anew"
            )
        elif made_by != maker:
            raise SignBartError(
                f"{record}: the landmarks there were made by another task file, version of "
                f"MediaPipe or rule for the times of frames ({str(made_by)[:200]}); name another "
                "--output"
            )
    write_text(record, json.dumps(maker, indent=2) + "\n")


def _run(
    jobs: Sequence[Job], task: Path, log: Path, processes: int | None, engine: Engine | None
) -> list[str]:
    """Does what is left; a video that kills its process is failed, and the others go on."""
    failed: dict[int, str] = {}
    done = sum(job.is_done for job in jobs)
    if done:
        _say(f"{done} of {len(jobs)} videos are done already")
    log.touch()
    while True:
        left = [(at, job) for at, job in enumerate(jobs) if at not in failed and not job.is_done]
        if not left:
            return [reason for _, reason in sorted(failed.items())]
        count = min(processes or math.ceil(len(left) / _SHARE), len(left))
        workers = [
            _Worker(number, tuple(left[number::count]), len(jobs), task, log)
            for number in range(count)
        ]
        since = log.stat().st_size
        # One thread each, of those that MediaPipe leaves to others: cores are shared out already.
        outcomes = run_tasks(
            workers,
            processes and count,
            engine=engine,
            apart=True,
            threads=1,
            crashed=lambda at: None,
            name="share of the videos",
            folder=log.with_suffix(""),
            travels=False,
        )
        for at, found in outcomes:
            if found is None:
                place = workers[at].last_begun(since)
                failed[place] = f"{jobs[place].video}: kills its process; see {log}"
            else:
                failed |= dict(found)


def default_processes() -> int:
    """One a core that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1

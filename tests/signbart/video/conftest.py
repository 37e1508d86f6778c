"""The model file, assembled once, and videos of a portrait that Matplotlib brings along."""

import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from signbart.video.task_file import WHEEL_COMMAND, assemble_task

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def selfie() -> Path:
    folder = Path(os.environ.get("SIGNBART_DATA", REPOSITORY.parent / "shared" / "data"))
    path = folder / "videos" / "selfie_portrait.mp4"
    if not path.is_file():
        pytest.skip(f"no {path}; SIGNBART_DATA names the folder of the data sets")
    return path


@pytest.fixture(scope="session")
def wheel(shared) -> Path:
    """MediaPipe's older package, which carries the parts of the model file."""

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", *WHEEL_COMMAND.split(), "--quiet", "--dest", str(folder)]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode:
            lines = ended.stderr.strip().splitlines() or ["no reason given"]
            (folder / "failed.txt").write_text(lines[-1], encoding="utf-8")

    folder = shared("mediapipe-wheel", make)
    if (folder / "failed.txt").is_file():
        pytest.skip(f"{WHEEL_COMMAND}: {(folder / 'failed.txt').read_text(encoding='utf-8')}")
    (found,) = folder.glob("mediapipe-*.whl")
    return found


@pytest.fixture(scope="session")
def task(shared, wheel) -> Path:
    folder = shared("task", lambda folder: assemble_task(wheel, folder / "holistic.task"))
    return folder / "holistic.task"


def write_video(path: Path, frames: list[np.ndarray], fps: float = 25) -> Path:
    """Pictures (H, W, 3), red, green, blue, as a video."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, (width, height))
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def write_timed_video(
    path: Path, frames: Sequence[np.ndarray], ticks: Sequence[int], fps: float = 30
) -> Path:
    """Pictures as VP9, each at a time of its own, as recorders write them that leave frames out.

    OpenCV times only what is compressed already: the frames are written evenly, and taken over.

    Args:
        path: Ends in .webm, .mkv or .mp4.
        frames: (H, W, 3), red, green, blue.
        ticks: When each is shown, in frames of `fps`.
        fps: What the file gives as its rate.
    """
    import cv2

    even, size = path.with_name(f"{path.name}.even.webm"), frames[0].shape[1::-1]
    writer = cv2.VideoWriter(str(even), cv2.VideoWriter_fourcc(*"VP90"), fps, size)
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    packets = cv2.VideoCapture(str(even))
    packets.set(cv2.CAP_PROP_FORMAT, -1)
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, int(packets.get(cv2.CAP_PROP_FOURCC)), fps, size,
        [cv2.VIDEOWRITER_PROP_RAW_VIDEO, 1],
    )  # fmt: skip
    for tick in ticks:
        there, packet = packets.read()
        assert there
        writer.set(cv2.VIDEOWRITER_PROP_PTS, tick)
        writer.write(packet)
    writer.release()
    packets.release()
    even.unlink()
    return path


def index_first(content: bytes) -> bytes:
    """An .mp4 that can be read as far as it goes: its table of frames before the frames."""
    boxes, at = [], 0
    while at < len(content):
        length = struct.unpack_from(">I", content, at)[0]
        boxes.append(content[at : at + length])
        at += length
    (table,) = [box for box in boxes if box[4:8] == b"moov"]
    rest = [box for box in boxes if box is not table]
    assert boxes[-1] is table
    offsets = table.index(b"stco") + 8
    (count,) = struct.unpack_from(">I", table, offsets)
    chunks = struct.unpack_from(f">{count}I", table, offsets + 4)
    moved = bytearray(table)
    struct.pack_into(f">{count}I", moved, offsets + 4, *(chunk + len(table) for chunk in chunks))
    return b"".join([rest[0], bytes(moved), *rest[1:]])


def portrait_frames() -> list[np.ndarray]:
    """A portrait that moves to the right: head and shoulders, no hand. Public domain."""
    from matplotlib.cbook import get_sample_data

    with get_sample_data("grace_hopper.jpg") as file:
        from PIL import Image

        picture = np.asarray(Image.open(file).convert("RGB").resize((384, 450)))
    return [np.roll(picture, 4 * at, axis=1) for at in range(12)]


@pytest.fixture(scope="session")
def portrait() -> list[np.ndarray]:
    return portrait_frames()

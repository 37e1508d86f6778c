"""The model file, assembled once, and videos of a portrait that Matplotlib brings along."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from signbart.video.task_file import WHEEL_COMMAND, assemble_task


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

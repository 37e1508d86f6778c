"""One small SignBART of random weights, its recordings, and one conversion for all tests."""

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from bridge.runtimes import TorchRuntime
from signbart.clips import Clip, ClipSet, write_packed
from signbart.config import RunConfig, from_dict
from signbart.layouts import get_layout
from signbart_torch.checkpoint import Checkpoint, load_model, save_checkpoint
from signbart_torch.model import SignBart

REPOSITORY = Path(__file__).resolve().parents[2]
LABELS = ("hello", "thank you", "naïve", "نعم", "no")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Two threads on two shared cores wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def config() -> RunConfig:
    """T 12, K 41, d_model 24, 4 and 3 heads, 2 + 2 layers, 5 classes: no two sizes alike."""
    return from_dict(
        {
            "name": "small",
            "model": {
                "joint_idx": list(range(5, 46)),
                "num_labels": 5,
                "d_model": 24,
                "encoder_attention_heads": 4,
                "decoder_attention_heads": 3,
                "encoder_ffn_dim": 20,
                "decoder_ffn_dim": 28,
                "max_position_embeddings": 16,
            },
            "data": {"layout": "kp63", "max_frames": 12, "normalization": "bbox_ignore_missing"},
        },
        source="tests",
    )


@pytest.fixture(scope="session")
def recordings() -> ClipSet:
    """Six clips of 3 to 20 frames in image coordinates; some landmarks are missing."""
    rng = np.random.default_rng(5)
    clips = []
    for index, frames in enumerate((3, 5, 9, 12, 13, 20)):
        shape = (frames, get_layout("kp63").num_keypoints, 2)
        landmarks = 0.5 + 0.1 * rng.normal(size=shape).cumsum(axis=0)
        landmarks[rng.random(shape[:2]) < 0.1] = 0.0
        clips.append(Clip(landmarks.astype(np.float32), index % 5, "a", index, f"clip {index}"))
    return ClipSet(tuple(clips), LABELS)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, config) -> Path:
    """A checkpoint file; no bias and no norm is left as it was made, which would hide mistakes."""
    torch.manual_seed(1)
    model = SignBart(config.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    path = tmp_path_factory.mktemp("runs") / "best.safetensors"
    save_checkpoint(Checkpoint(model.state_dict(), config, LABELS), path)
    return path


@pytest.fixture
def model(checkpoint) -> SignBart:
    """A fresh copy, to be altered at will."""
    return load_model(checkpoint)[0]


@pytest.fixture
def reference(model, config) -> TorchRuntime:
    return TorchRuntime(model, config)


@dataclass(frozen=True)
class Converted:
    """What ``python bridge/convert.py`` left behind."""

    folder: Path
    artifact: Path
    output: str

    def plain(self) -> bytes:
        """The artifact before metadata was appended to it."""
        with zipfile.ZipFile(self.artifact) as archive:
            start = min(info.header_offset for info in archive.infolist())
        return self.artifact.read_bytes()[:start]


@pytest.fixture(scope="session")
def converted(tmp_path_factory, checkpoint, recordings) -> Converted:
    """One real conversion, by the command, on recordings. Takes about 15 s: only for slow tests."""
    folder = tmp_path_factory.mktemp("exports") / "small"
    data = folder.parent / "recordings.npz"
    write_packed(recordings, data)
    process = subprocess.run(
        [
            sys.executable, "bridge/convert.py", "--checkpoint", str(checkpoint),
            "--route", "litert", "--output", str(folder), "--data", str(data),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    return Converted(folder, folder / "small_litert_fp32.tflite", process.stdout)

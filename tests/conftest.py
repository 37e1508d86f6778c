"""Fixtures that every package's tests share."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from signbart.configuration.reading import from_dict
from signbart.configuration.schema import RunConfig
from signbart.landmarks.layouts import get_layout
from signbart.recordings.clip import Clip, ClipSet

REPOSITORY = Path(__file__).resolve().parents[1]
# pytest-xdist tells its workers that a line has 80 columns, and tables would be folded to that.
os.environ.pop("COLUMNS", None)


def _data_set(name: str) -> Path:
    """The folder of a real data set; they are not part of the project."""
    root = Path(os.environ.get("SIGNBART_DATA", REPOSITORY.parent / "shared" / "data"))
    folder = root / name
    if not folder.is_dir():
        pytest.skip(f"no {name} recordings at {folder}; set SIGNBART_DATA to the folder above them")
    return folder


@pytest.fixture(scope="session")
def isl_kinect30() -> Path:
    return _data_set("isl_kinect30")


@pytest.fixture(scope="session")
def fsl7_holistic() -> Path:
    return _data_set("fsl7_holistic")


@pytest.fixture(scope="session")
def asl10_pose_hands() -> Path:
    return _data_set("asl10_pose_hands")


@pytest.fixture(scope="session")
def asl16_pose_hands() -> Path:
    return _data_set("asl16_pose_hands")


@pytest.fixture(scope="session")
def tiny_config() -> RunConfig:
    """A whole run on `tiny_clips` in a second; batches of 8 leave a smaller last one."""
    return from_dict(
        {
            "name": "tiny",
            "model": {
                "joint_idx": [4, 5, 6, 7, 8, 9],
                "d_model": 16,
                "encoder_layers": 1,
                "decoder_layers": 1,
                "encoder_attention_heads": 2,
                "decoder_attention_heads": 4,
                "encoder_ffn_dim": 24,
                "decoder_ffn_dim": 20,
                "max_position_embeddings": 20,
            },
            "data": {"layout": "kinect20", "max_frames": 14, "normalization": "body_centred"},
            "train": {
                "epochs": 6,
                "batch_size": 8,
                "lr": 0.01,
                "warmup_epochs": 1,
                "val_signers": 1,
                "patience": 0,
            },
        },
        source="tests",
    )


@pytest.fixture
def with_train(tiny_config):
    """`with_train(epochs=2)`: `tiny_config` with other values of its train section."""

    def changed(**values) -> RunConfig:
        train = dataclasses.replace(tiny_config.train, **values)
        return dataclasses.replace(tiny_config, train=train)

    return changed


@pytest.fixture(scope="session")
def tiny_clips(made_clips) -> ClipSet:
    """Recordings; a module may read its own."""
    return made_clips


@pytest.fixture(scope="session")
def made_clips() -> ClipSet:
    """Three classes by four signers, three times each: which hand moves, or both, and which way."""
    layout = get_layout("kinect20")
    rng = np.random.default_rng(7)
    rest = rng.normal(size=(20, 3)) * 0.1
    for name, place in {
        "Neck": (0, 0.5, 0), "SpineBase": (0, 0, 0),
        "ShoulderLeft": (-0.2, 0.45, 0), "ShoulderRight": (0.2, 0.45, 0),
    }.items():  # fmt: skip
        rest[layout.index(name)] = place
    clips = []
    for signer in ("anna", "ben", "cleo", "dan"):
        build = rng.uniform(0.9, 1.1)
        for label in range(3):
            for repetition in range(3):
                time = np.linspace(0, 1, rng.integers(5, 18))[:, None]
                landmarks = np.repeat(rest[None], len(time), axis=0)
                for side, moves in (("Left", label != 0), ("Right", label != 1)):
                    for joint in (f"Hand{side}", f"Wrist{side}"):
                        landmarks[:, layout.index(joint)] += moves * time * [0.2, 0.6, 0.0]
                landmarks = build * landmarks + rng.normal(scale=0.01, size=landmarks.shape)
                clips.append(
                    Clip(landmarks.astype(np.float32), label, signer, repetition, f"[{len(clips)}]")
                )
    return ClipSet(tuple(clips), ("left", "right", "both"))

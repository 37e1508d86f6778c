"""A small model whose sizes all differ, and recordings small enough to train on within a second."""

import dataclasses

import numpy as np
import pytest
import torch

from signbart.clips import Clip, ClipSet
from signbart.config import ModelConfig, RunConfig, from_dict
from signbart.layouts import get_layout
from signbart_torch.model import SignBart

# T ≠ K ≠ D, heads ≠ layers, encoder ≠ decoder: a mix-up of any two cannot go unnoticed.
SMALL = ModelConfig(
    joint_idx=(0, 2, 3, 5, 8),
    num_labels=7,
    d_model=12,
    encoder_layers=3,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=6,
    encoder_ffn_dim=10,
    decoder_ffn_dim=14,
    max_position_embeddings=16,
    dropout=0.0,
    activation_dropout=0.0,
    attention_dropout=0.0,
    classifier_dropout=0.0,
)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Two threads on two shared cores wait for each other, and may order sums differently."""
    torch.set_num_threads(1)


@pytest.fixture
def model() -> SignBart:
    """In inference mode, every parameter random: untouched biases and norms would hide mix-ups."""
    torch.manual_seed(3)
    model = SignBart(SMALL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def keypoints() -> torch.Tensor:
    """(6, 11, 5, 2), one row for each row of `mask`."""
    return torch.randn(6, 11, 5, 2, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def mask() -> torch.Tensor:
    """(6, 11): full, prefixes, and three that are none."""
    rows = (
        "11111111111",
        "11110000000",
        "10000000000",
        "01101001000",
        "00000010000",
        "00000111111",
    )
    return torch.tensor([[int(digit) for digit in row] for row in rows], dtype=torch.int32)


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

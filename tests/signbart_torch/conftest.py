"""A small model whose sizes all differ."""

import pytest
import torch

from signbart.models.signbart import SignBartConfig
from signbart_torch.models.signbart.model import SignBart

# T ≠ K ≠ D, heads ≠ layers, encoder ≠ decoder: a mix-up of any two cannot go unnoticed.
SMALL = SignBartConfig(
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

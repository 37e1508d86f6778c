"""A small pair of models with the same weights; all sizes differ, encoder and decoder too."""

import numpy as np
import pytest
import torch

from bridge.weights.port import build_twin
from signbart.configuration.reading import from_dict
from signbart.configuration.schema import RunConfig
from signbart_torch.models import new_model
from signbart_torch.models.signbart.model import SignBart


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def config() -> RunConfig:
    return from_dict(
        {
            "name": "tiny",
            "model": {
                "joint_idx": [0, 2, 3, 5, 8],
                "num_labels": 7,
                "d_model": 12,
                "encoder_layers": 3,
                "decoder_layers": 2,
                "encoder_attention_heads": 4,
                "decoder_attention_heads": 6,
                "encoder_ffn_dim": 10,
                "decoder_ffn_dim": 14,
                "max_position_embeddings": 16,
                "dropout": 0.25,
                "activation_dropout": 0.5,
                "attention_dropout": 0.2,
                "classifier_dropout": 0.4,
            },
            "data": {"layout": "kp63", "max_frames": 11, "normalization": "bbox"},
        },
        source="tests",
    )


@pytest.fixture(scope="session")
def original(config) -> SignBart:
    """In inference mode, every parameter random: untouched biases and norms would hide mix-ups."""
    torch.manual_seed(3)
    model = SignBart(config.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def twin(original):
    return build_twin(original)


@pytest.fixture(scope="session")
def make_inputs():
    """`make_inputs(batch, frames)`: masks with holes, no two rows alike, NaN behind."""

    def inputs(batch: int = 6, frames: int = 11) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(batch * 100 + frames)
        mask = (rng.random((batch, frames)) < 0.6).astype(np.int32)
        mask[np.arange(batch), rng.integers(frames, size=batch)] = 1
        keypoints = rng.normal(size=(batch, frames, 5, 2)).astype(np.float32)
        keypoints[mask == 0] = np.nan
        return {"keypoints": keypoints, "attention_mask": mask}

    return inputs


@pytest.fixture(scope="session")
def small_conv() -> RunConfig:
    """A ConvSignBART without dropout and depth."""
    return from_dict(
        {
            "name": "conv",
            "model": {
                "kind": "conv_signbart",
                "joint_idx": [0, 2, 3, 5, 8],
                "num_labels": 3,
                "coordinates": 2,
                "d_model": 12,
                "blocks_before": 2,
                "blocks_after": 1,
                "kernel_size": 5,
                "attention_heads": 3,
                "ffn_dim": 10,
                "max_position_embeddings": 16,
                "dropout": 0.0,
                "classifier_dropout": 0.0,
            },
            "data": {"layout": "kinect20", "max_frames": 11, "normalization": "body_centred"},
        },
        source="tests",
    )


@pytest.fixture(scope="session")
def conv_network(small_conv) -> torch.nn.Module:
    """In inference mode, nothing left as it was made."""
    torch.manual_seed(3)
    model = new_model(small_conv.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            buffer.uniform_(0.5, 1.5) if name.endswith("var") else buffer.uniform_(-0.3, 0.3)
    return model.eval()

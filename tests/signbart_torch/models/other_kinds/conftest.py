"""Small models in which no two sizes are equal, with every weight away from its start value."""

import pytest
import torch

from signbart.models.mediapipe_gru import MediapipeGruConfig
from signbart.models.sign_transformer import SignTransformerConfig
from signbart_torch.models.mediapipe_gru.model import MediapipeGru
from signbart_torch.models.sign_transformer.model import SignTransformer

SIZES = {"num_features": 14, "max_frames": 12, "num_labels": 7, "num_categories": 4}
CONFIGS = {
    f"transformer-{pooling}": SignTransformerConfig(
        **SIZES, d_model=24, encoder_layers=2, attention_heads=3, ffn_dim=20, pooling=pooling
    )
    for pooling in ("mean", "max", "cls")
} | {
    "gru": MediapipeGruConfig(**SIZES, hidden1=10, hidden2=6),
    "gru-projected": MediapipeGruConfig(**SIZES, hidden1=10, hidden2=6, projection_dim=9),
    "gru-bidirectional": MediapipeGruConfig(**SIZES, hidden1=10, hidden2=6, bidirectional=True),
}


def build(config):
    """A model of `config` whose biases, gammas and gates matter."""
    torch.manual_seed(5)
    kind = SignTransformer if isinstance(config, SignTransformerConfig) else MediapipeGru
    model = kind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(params=list(CONFIGS))
def model(request):
    """Each of the small models in turn."""
    return build(CONFIGS[request.param])


@pytest.fixture
def clip():
    """(1, 11, 14): as long as the class token leaves room for."""
    return torch.randn(1, 11, 14, generator=torch.Generator().manual_seed(2))

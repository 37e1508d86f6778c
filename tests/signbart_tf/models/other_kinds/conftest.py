"""Small twins in which no two sizes are equal, with every weight away from its start value."""

import keras
import numpy as np
import pytest

from signbart.models.mediapipe_gru import MediapipeGruConfig
from signbart.models.sign_transformer import SignTransformerConfig
from signbart_tf.models.mediapipe_gru.model import MediapipeGru
from signbart_tf.models.sign_transformer.model import SignTransformer

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


@pytest.fixture(params=list(CONFIGS))
def model(request):
    """Each of the small models in turn."""
    config = CONFIGS[request.param]
    keras.utils.set_random_seed(5)
    twin = (SignTransformer if isinstance(config, SignTransformerConfig) else MediapipeGru)(config)
    rng = np.random.default_rng(5)
    for variable in twin.trainable_variables:
        variable.assign_add(0.3 * rng.normal(size=variable.shape).astype(np.float32))
    return twin


@pytest.fixture
def clip():
    """(1, 11, 14): as long as the class token leaves room for."""
    return np.random.default_rng(2).normal(size=(1, 11, 14)).astype(np.float32)

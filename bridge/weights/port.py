"""Models built from each other by the weight map, between PyTorch and Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from signbart.weights.port import keras_to_torch, torch_to_keras
from signbart.weights.rules import rules_of

if TYPE_CHECKING:
    import keras
    from torch import nn


def torch_arrays(model: nn.Module) -> dict[str, np.ndarray]:
    """A PyTorch model's state dict as arrays, by torch key."""
    return {key: tensor.numpy() for key, tensor in model.state_dict().items()}


def build_twin(model: nn.Module) -> keras.Model:
    """The Keras twin of a PyTorch model, with its weights.

    Raises:
        WeightMapError: There is none, or the map does not pair the two.
    """
    rules = rules_of(model.config)
    from signbart_tf.models import new_model

    twin = new_model(model.config)
    torch_to_keras(rules, torch_arrays(model), twin)
    return twin


def build_original(twin: keras.Model) -> nn.Module:
    """The PyTorch model of a Keras twin, with its weights, in inference mode.

    Raises:
        WeightMapError: The map does not pair the two.
    """
    import torch

    from signbart_torch.models import new_model

    model = new_model(twin.config)
    arrays = keras_to_torch(rules_of(twin.config), twin, torch_arrays(model))
    model.load_state_dict({key: torch.from_numpy(array) for key, array in arrays.items()})
    return model.eval()

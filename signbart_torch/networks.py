"""Which network a configuration describes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from signbart.config import ModelConfig
from signbart.zoo_config import MediapipeGruConfig, SignTransformerConfig
from signbart_torch.model import SignBart
from signbart_torch.zoo.mediapipe_gru import MediapipeGru
from signbart_torch.zoo.sign_transformer import SignTransformer

NETWORKS: dict[type, Callable[[Any], nn.Module]] = {
    ModelConfig: SignBart,
    SignTransformerConfig: SignTransformer,
    MediapipeGruConfig: MediapipeGru,
}


def new_model(config: Any) -> nn.Module:
    """The network with fresh weights."""
    return NETWORKS[type(config)](config)


def class_scores(outputs: Any) -> Any:
    """Logits (B, C) of the classes, of a model with one output or with ``gloss`` among several."""
    return outputs["gloss"] if isinstance(outputs, dict) else outputs


def num_parameters(model: nn.Module) -> int:
    """Values that training may change, shared ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())

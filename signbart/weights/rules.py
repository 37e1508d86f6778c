"""One rule of a weight map, and the rules of the layers that many models have.

A map is a list of `Rule`s expanded from the configuration: torch key ↔ Keras path ↔ how one becomes
the other. Nothing is reshaped to make it fit.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np

from signbart.errors import WeightMapError
from signbart.models import kind_of
from signbart.models.kind import ModelKind

IDENTITY, TRANSPOSE, DEPTHWISE, ABSENT = "IDENTITY", "TRANSPOSE", "DEPTHWISE", "ABSENT"


@dataclass(frozen=True)
class Rule:
    """One tensor on both sides, or a PyTorch tensor that has no partner.

    Attributes:
        torch_key: Of PyTorch's state dict.
        keras_path: Attribute path in the twin; empty where the tensor is `ABSENT` there.
        transform: `IDENTITY`; `TRANSPOSE`, all axes turned round, as for a Linear (out, in) and a
            convolution (out, in, width); `DEPTHWISE`, for a convolution of each channel by itself:
            (channels, 1, width) and Keras's (width, channels, 1); or `ABSENT`.
    """

    torch_key: str
    keras_path: str
    transform: str

    def to_keras(self, array: np.ndarray) -> np.ndarray:
        """PyTorch's array as Keras's."""
        axes = {TRANSPOSE: None, DEPTHWISE: (2, 0, 1)}
        if self.transform not in axes or (self.transform == DEPTHWISE and array.ndim != 3):
            return array  # the audit finds what has another number of axes
        return np.ascontiguousarray(np.transpose(array, axes[self.transform]))

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """Keras's array as PyTorch's."""
        axes = {TRANSPOSE: None, DEPTHWISE: (1, 2, 0)}
        if self.transform not in axes:
            return array
        return np.ascontiguousarray(np.transpose(array, axes[self.transform]))


def linear(name: str, transform: str = TRANSPOSE) -> list[Rule]:
    """A weight and a bias at the same attribute path: a Linear and its Dense."""
    path = name.replace(".", "/")
    return [
        Rule(f"{name}.weight", f"{path}/kernel", transform),
        Rule(f"{name}.bias", f"{path}/bias", IDENTITY),
    ]


def convolution(name: str, *, depthwise: bool = False) -> list[Rule]:
    """A Conv1d and its Conv1D, or one of each channel by itself and its DepthwiseConv1D."""
    return linear(name, DEPTHWISE if depthwise else TRANSPOSE)


def layer_norm(name: str, weights: tuple[str, str] = ("weight", "bias")) -> list[Rule]:
    """A LayerNorm on both sides.

    Args:
        name: Its torch key, without the weight's.
        weights: What PyTorch calls the two; Keras calls them gamma and beta.
    """
    path = name.replace(".", "/")
    return [
        Rule(f"{name}.{weight}", f"{path}/{keras_name}", IDENTITY)
        for weight, keras_name in zip(weights, ("gamma", "beta"), strict=True)
    ]


def batch_norm(name: str, *, counted: bool = True) -> list[Rule]:
    """A BatchNorm on both sides.

    Args:
        name: Its torch key, without the weight's.
        counted: Whether PyTorch's counts the batches it has seen, as `torch.nn`'s do.
    """
    path = name.replace(".", "/")
    return [
        *layer_norm(name),
        Rule(f"{name}.running_mean", f"{path}/moving_mean", IDENTITY),
        Rule(f"{name}.running_var", f"{path}/moving_variance", IDENTITY),
        *([Rule(f"{name}.num_batches_tracked", "", ABSENT)] if counted else []),
    ]


def has_twin(kind: ModelKind) -> bool:
    """Whether a kind of model has a Keras twin."""
    return importlib.util.find_spec(f"signbart_tf.models.{kind.name}") is not None


def rules_of(config: Any) -> list[Rule]:
    """The map of a model with this configuration.

    Raises:
        WeightMapError: Its kind has no Keras twin.
    """
    kind = kind_of(config)
    if not has_twin(kind):
        raise WeightMapError(
            f"{kind.title} has no Keras twin; convert it by the routes that need none"
        )
    return importlib.import_module(f"signbart.weights.{kind.name}").rules(config)

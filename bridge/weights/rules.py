"""One rule of a weight map, and the rules of the layers that many models have.

A map is a list of `Rule`s expanded from the configuration: torch key ↔ Keras path ↔ `IDENTITY` or
`TRANSPOSE` (a Linear's weight is (out, in), a Dense's kernel (in, out)). Nothing is reshaped to
make it fit.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np

from bridge.errors import WeightMapError
from signbart.models import kind_of
from signbart.models.kind import ModelKind

IDENTITY, TRANSPOSE = "IDENTITY", "TRANSPOSE"


@dataclass(frozen=True)
class Rule:
    """One tensor on both sides."""

    torch_key: str
    keras_path: str
    transform: str

    def apply(self, array: np.ndarray) -> np.ndarray:
        """One side's array as the other's; both transforms are their own inverse."""
        return np.ascontiguousarray(array.T) if self.transform == TRANSPOSE else array


def linear(name: str) -> list[Rule]:
    """A Linear and its Dense, at the same attribute path."""
    path = name.replace(".", "/")
    return [
        Rule(f"{name}.weight", f"{path}/kernel", TRANSPOSE),
        Rule(f"{name}.bias", f"{path}/bias", IDENTITY),
    ]


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
    return importlib.import_module(f"bridge.weights.{kind.name}").rules(config)

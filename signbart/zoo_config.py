"""What the other classifiers that the bridge carries are made of: a sign Transformer and a GRU.

Both read one row of x, y pairs a frame and score glosses and categories. Defaults are those of the
published checkpoints. Legend: T frames, F features, D model width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

POOLINGS = ("mean", "max", "cls")

# Of the Transformer's LayerNorm; published models were trained with it.
SIGN_TRANSFORMER_EPSILON = 1e-6

# Added to a GRU's update gate where a frame is padding. sigmoid(100 + anything that a gate reaches)
# is 1 in float32, and a gate of 1 keeps the state. Finite, for what it is added to gets multiplied.
HOLD = 100.0


def _positive() -> dict[str, Any]:
    return {"low": 1, "high": float("inf"), "open_high": False}


_PROBABILITY = {"low": 0.0, "high": 1.0, "open_high": True}


@dataclass(frozen=True)
class SignTransformerConfig:
    """A pre-norm Transformer encoder with a pooled head for glosses and one for categories.

    Attributes:
        num_features: F, the values of a frame: x and y of each landmark in turn.
        max_frames: Positions that exist; `longest` says how many frames that allows.
        num_labels: Glosses. None means as many as the data set has.
        num_categories: Categories.
        pooling: One of `POOLINGS`; ``cls`` prepends a learned token, which takes a position.
    """

    num_features: int = field(default=178, metadata=_positive())
    max_frames: int = field(default=300, metadata=_positive())
    num_labels: int | None = field(default=105, metadata=_positive())
    num_categories: int = field(default=10, metadata=_positive())
    d_model: int = field(default=256, metadata=_positive())
    encoder_layers: int = field(default=4, metadata=_positive())
    attention_heads: int = field(default=8, metadata=_positive())
    ffn_dim: int = field(default=1024, metadata=_positive())
    pooling: str = field(default="mean", metadata={"choices": POOLINGS})
    dropout: float = field(default=0.1, metadata=_PROBABILITY)

    @property
    def longest(self) -> int:
        """Most frames of a clip."""
        return self.max_frames - (self.pooling == "cls")


@dataclass(frozen=True)
class MediapipeGruConfig:
    """Two GRU layers; what the second one knows in the end is scored.

    Attributes:
        num_features: F, the values of a frame: x and y of each landmark in turn.
        max_frames: Frames that artifacts of a fixed length are made for. The network takes any.
        num_labels: Glosses. None means as many as the data set has.
        num_categories: Categories.
        projection_dim: Width of a linear layer in front; None: there is none.
        bidirectional: Whether both layers also read backwards.
    """

    num_features: int = field(default=178, metadata=_positive())
    max_frames: int = field(default=300, metadata=_positive())
    num_labels: int | None = field(default=105, metadata=_positive())
    num_categories: int = field(default=10, metadata=_positive())
    projection_dim: int | None = field(default=None, metadata=_positive())
    hidden1: int = field(default=256, metadata=_positive())
    hidden2: int = field(default=128, metadata=_positive())
    bidirectional: bool = False
    dropout: float = field(default=0.3, metadata=_PROBABILITY)

    @property
    def longest(self) -> int | None:
        """Most frames of a clip; None: any number."""
        return None


def sinusoidal_positions(max_frames: int, d_model: int) -> np.ndarray:
    """The table of "Attention Is All You Need": sines in even columns, cosines in odd ones.

    Returns:
        (max_frames, D) float32.
    """
    column = np.arange(d_model)
    frequency = 10000.0 ** (-(column - column % 2) / d_model)
    angle = np.arange(max_frames)[:, None] * frequency
    return np.where(column % 2 == 0, np.sin(angle), np.cos(angle)).astype(np.float32)

"""The sign Transformer: its configuration, and its inputs and outputs.

It reads one row of x, y pairs a frame and scores glosses and categories. Defaults are those of the
published checkpoints. Legend: T frames, F features, D model width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from signbart.models.fields import DEEPEST, LONGEST, MOST_CLASSES, PROBABILITY, WIDEST, positive
from signbart.models.io_spec import classifier_spec
from signbart.models.kind import FEATURES, Axes, ModelKind, Published, check_features

POOLINGS = ("mean", "max", "cls")

# Of the Transformer's LayerNorm; published models were trained with it.
SIGN_TRANSFORMER_EPSILON = 1e-6


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

    num_features: int = field(default=178, metadata=positive(WIDEST))
    max_frames: int = field(default=300, metadata=positive(LONGEST))
    num_labels: int | None = field(default=105, metadata=positive(MOST_CLASSES))
    num_categories: int = field(default=10, metadata=positive(MOST_CLASSES))
    d_model: int = field(default=256, metadata=positive(WIDEST))
    encoder_layers: int = field(default=4, metadata=positive(DEEPEST))
    attention_heads: int = field(default=8, metadata=positive(WIDEST))
    ffn_dim: int = field(default=1024, metadata=positive(WIDEST))
    pooling: str = field(default="mean", metadata={"choices": POOLINGS})
    dropout: float = field(default=0.1, metadata=PROBABILITY)

    @property
    def longest(self) -> int:
        """Most frames of a clip."""
        return self.max_frames - (self.pooling == "cls")


def sinusoidal_positions(max_frames: int, d_model: int) -> np.ndarray:
    """The table of "Attention Is All You Need": sines in even columns, cosines in odd ones.

    Returns:
        (max_frames, D) float32.
    """
    column = np.arange(d_model)
    frequency = 10000.0 ** (-(column - column % 2) / d_model)
    angle = np.arange(max_frames)[:, None] * frequency
    return np.where(column % 2 == 0, np.sin(angle), np.cos(angle)).astype(np.float32)


KIND = ModelKind(
    name="sign_transformer",
    title="sign Transformer",
    config=SignTransformerConfig,
    io_spec=classifier_spec,
    check=check_features,
    frame=FEATURES,
    published=Published(
        option="transformer",
        file="Transformer.pt",
        asks=("attention_heads", "pooling", "max_frames"),
    ),
    axes=Axes(
        classes="gloss_head.3",
        heads=("gloss_head", "category_head"),
        landmarks=("embedding.weight",),
        positions=("pos_encoder.pe",),
        categories="category_head.3",
        interleaved=True,
    ),
)

"""The MediaPipe GRU: its configuration, and its inputs and outputs.

It reads one row of x, y pairs a frame and scores glosses and categories. Defaults are those of the
published checkpoints. Legend: F features.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from signbart.models.fields import LONGEST, MOST_CLASSES, PROBABILITY, WIDEST, not_stored, positive
from signbart.models.io_spec import classifier_spec
from signbart.models.kind import FEATURES, Axes, ModelKind, Published, check_features

# Added to a GRU's update gate where a frame is padding. sigmoid(100 + anything that a gate reaches)
# is 1 in float32, and a gate of 1 keeps the state. Finite, for what it is added to gets multiplied.
HOLD = 100.0


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

    num_features: int = field(default=178, metadata=positive(WIDEST))
    max_frames: int = field(default=300, metadata=not_stored(positive(LONGEST)))
    num_labels: int | None = field(default=105, metadata=positive(MOST_CLASSES))
    num_categories: int = field(default=10, metadata=positive(MOST_CLASSES))
    projection_dim: int | None = field(default=None, metadata=positive(WIDEST))
    hidden1: int = field(default=256, metadata=positive(WIDEST))
    hidden2: int = field(default=128, metadata=positive(WIDEST))
    bidirectional: bool = False
    dropout: float = field(default=0.3, metadata=PROBABILITY)

    @property
    def longest(self) -> int | None:
        """Most frames of a clip; None: any number."""
        return None


KIND = ModelKind(
    name="mediapipe_gru",
    title="MediaPipe GRU",
    config=MediapipeGruConfig,
    io_spec=classifier_spec,
    check=check_features,
    frame=FEATURES,
    default_route="keras",
    published=Published(option="gru", file="GRU.pt"),
    axes=Axes(
        classes="gloss_head",
        heads=("gloss_head", "category_head"),
        landmarks=("input_projection.weight", "gru1.weight_ih_l0", "gru1.weight_ih_l0_reverse"),
        categories="category_head",
        interleaved=True,
    ),
)

"""ConvSignBART: its configuration, and its inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass, field

from signbart.errors import ConfigError
from signbart.models.fields import (
    DEEPEST,
    LONGEST,
    MOST_CLASSES,
    PROBABILITY,
    WIDEST,
    in_range,
    positive,
)
from signbart.models.io_spec import points_spec
from signbart.models.kind import Axes, ModelKind, Widths, check_joints
from signbart.models.motion import num_inputs

BATCH_NORM_EPSILON = 1e-5  # PyTorch's default
BATCH_NORM_MOMENTUM = 0.1  # the share of each batch in the running statistics; likewise
# Stands where a padded frame's number would be, for the maximum over frames. Finite, for what it is
# added to gets multiplied.
BELOW_ALL = -1e9


@dataclass(frozen=True)
class ConvSignBartConfig:
    """1-D convolutions over frames around one Transformer layer.

    Attributes:
        joint_idx: Indices into the landmark layout that the model sees, in order; K = their number.
            None in a file means every landmark of the layout.
        num_labels: Number of classes C. None means as many as the data set has.
        coordinates: Of each landmark: 2 (x, y) or 3 (x, y, z). None in a file means 3 where the
            layout has a depth.
        motion: Whether frames also hold how coordinates change; see `models.motion`.
        blocks_before: Convolution blocks in front of the Transformer layer.
        blocks_after: Likewise behind it.
        kernel_size: Frames that a convolution sees, an odd number.
        expansion: Width of the convolutions, in D.
        dropout: Behind each block, and behind attention and feed-forward.
        classifier_dropout: In front of the head.
    """

    joint_idx: tuple[int, ...] | None = None
    num_labels: int | None = field(default=None, metadata=positive(MOST_CLASSES))
    coordinates: int | None = field(default=None, metadata=in_range(2, 3))
    motion: bool = True
    d_model: int = field(default=144, metadata=positive(WIDEST))
    blocks_before: int = field(default=3, metadata=positive(DEEPEST))
    blocks_after: int = field(default=2, metadata=positive(DEEPEST))
    kernel_size: int = field(default=9, metadata=positive(WIDEST))
    expansion: int = field(default=2, metadata=positive(WIDEST))
    attention_heads: int = field(default=4, metadata=positive(WIDEST))
    ffn_dim: int = field(default=288, metadata=positive(WIDEST))
    max_position_embeddings: int = field(default=256, metadata=positive(LONGEST))
    dropout: float = field(default=0.3, metadata=PROBABILITY)
    classifier_dropout: float = field(default=0.5, metadata=PROBABILITY)

    def __post_init__(self):
        if self.d_model % self.attention_heads:
            raise ConfigError(
                f"model.d_model ({self.d_model}) is not divisible by "
                f"model.attention_heads ({self.attention_heads})"
            )
        if self.kernel_size % 2 == 0:
            raise ConfigError(
                f"model.kernel_size is {self.kernel_size}; it must be odd, with as many frames "
                "before as behind"
            )

    @property
    def num_keypoints(self) -> int:
        """K, the number of landmarks that the model sees."""
        if self.joint_idx is None:
            raise ConfigError("model.joint_idx is not set: load the file with load_config()")
        return len(self.joint_idx)

    @property
    def num_inputs(self) -> int:
        """F, how many numbers a frame has for the first layer."""
        if self.coordinates is None:
            raise ConfigError("model.coordinates is not set: load the file with load_config()")
        return num_inputs(self.num_keypoints * self.coordinates, self.motion)

    @property
    def width(self) -> int:
        """W, the channels of a convolution."""
        return self.expansion * self.d_model


KIND = ModelKind(
    name="conv_signbart",
    title="ConvSignBART",
    config=ConvSignBartConfig,
    io_spec=points_spec,
    check=check_joints,
    coordinates=None,
    length_key="model.max_position_embeddings",
    quantized_operators=("FULLY_CONNECTED", "DEPTHWISE_CONV_2D"),
    trained_in=("torch", "keras"),
    fake_quantized=True,
    widths=Widths(feed_forward=("ffn_dim",), heads=("attention_heads",)),
    axes=Axes(
        classes="head.out_proj",
        heads=("head",),
        landmarks=("input_projection.weight",),
        positions=("embed_positions.weight",),
        interleaved=True,
    ),
)

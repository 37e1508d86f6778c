"""SignBART: its configuration, and its inputs and outputs."""

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
    unless_default,
)
from signbart.models.io_spec import points_spec
from signbart.models.kind import Axes, ModelKind, Widths, check_joints
from signbart.models.motion import num_inputs

# What both implementations of the model agree on.
#
# Added to an attention score to forbid it. Finite and small on purpose: finfo.min overflows when
# two biases are added and gives static int8 a scale that flattens every other score, while
# exp(-100) already lies below the smallest normal float32.
MASK_BIAS = -100.0
# BART keeps two rows in front of the positions (padding and a legacy offset); published
# checkpoints have them.
POSITION_OFFSET = 2
LAYER_NORM_EPSILON = 1e-5  # PyTorch's default, which the published checkpoints were trained with
# BART's standard deviation for new embeddings. PyTorch's is 1, against which the projected
# coordinates are small: after 5 epochs on isl_kinect30 without S04 (seed 0, dropout 0.1) training
# accuracy was 55 % with 1 and 75 % with 0.02.
POSITION_INIT_STD = 0.02


@dataclass(frozen=True)
class SignBartConfig:
    """The network. Attribute names and defaults are the published configuration's.

    Attributes:
        joint_idx: Indices into the landmark layout that the model sees, in order; K = their number.
            None in a file means every landmark of the layout.
        num_labels: Number of classes C. None means as many as the data set has.
        pe: Kind of position embedding; only ``learn`` exists.
        coordinates: Of each landmark: 2 as published, x for the encoder and y for the decoder; or
            3, where the layout has a depth z, which then goes to both.
        motion: Whether each side also reads how its coordinates change; see `models.motion`.
    """

    joint_idx: tuple[int, ...] | None = None
    num_labels: int | None = field(default=None, metadata=positive(MOST_CLASSES))
    d_model: int = field(default=144, metadata=positive(WIDEST))
    encoder_layers: int = field(default=2, metadata=positive(DEEPEST))
    decoder_layers: int = field(default=2, metadata=positive(DEEPEST))
    encoder_attention_heads: int = field(default=8, metadata=positive(WIDEST))
    decoder_attention_heads: int = field(default=8, metadata=positive(WIDEST))
    encoder_ffn_dim: int = field(default=144, metadata=positive(WIDEST))
    decoder_ffn_dim: int = field(default=144, metadata=positive(WIDEST))
    max_position_embeddings: int = field(default=256, metadata=positive(LONGEST))
    dropout: float = field(default=0.1, metadata=PROBABILITY)
    activation_dropout: float = field(default=0.1, metadata=PROBABILITY)
    attention_dropout: float = field(default=0.0, metadata=PROBABILITY)
    classifier_dropout: float = field(default=0.1, metadata=PROBABILITY)
    pe: str = field(default="learn", metadata={"choices": ("learn",)})
    coordinates: int = field(default=2, metadata=unless_default(in_range(2, 3)))
    motion: bool = field(default=False, metadata=unless_default({}))

    def __post_init__(self):
        for side in ("encoder", "decoder"):
            heads = getattr(self, f"{side}_attention_heads")
            if self.d_model % heads:
                raise ConfigError(
                    f"model.d_model ({self.d_model}) is not divisible by "
                    f"model.{side}_attention_heads ({heads})"
                )

    @property
    def num_keypoints(self) -> int:
        """K, the number of landmarks that the model sees."""
        if self.joint_idx is None:
            raise ConfigError("model.joint_idx is not set: load the file with load_config()")
        return len(self.joint_idx)

    @property
    def num_inputs(self) -> int:
        """How many numbers a frame has for each side, encoder and decoder."""
        return num_inputs(self.num_keypoints * (self.coordinates - 1), self.motion)


KIND = ModelKind(
    name="signbart",
    title="SignBART",
    config=SignBartConfig,
    io_spec=points_spec,
    check=check_joints,
    coordinates=None,
    length_key="model.max_position_embeddings",
    trained_in=("torch", "keras"),
    fake_quantized=True,
    widths=Widths(
        feed_forward=("encoder_ffn_dim", "decoder_ffn_dim"),
        heads=("encoder_attention_heads", "decoder_attention_heads"),
    ),
    # BART's layer drop is never applied.
    ignored_keys=("encoder_layerdrop", "decoder_layerdrop"),
    axes=Axes(
        classes="classification_head.out_proj",
        heads=("classification_head",),
        landmarks=("projection.proj_x1.weight", "projection.proj_y1.weight"),
        positions=("encoder.embed_positions.weight", "decoder.embed_positions.weight"),
    ),
)

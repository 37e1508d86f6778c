"""The small parts: position embedding, coordinate projection, head, and the two mask biases.

Each layer builds its variables when it is constructed, from the configuration alone, so that a
model's weights exist, and can be assigned, before it has seen an input.

Legend: B batch, T frames, K keypoints, F numbers a frame, D model width, C classes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import keras
from keras import ops

from signbart.models.signbart import (
    LAYER_NORM_EPSILON,
    MASK_BIAS,
    POSITION_INIT_STD,
    POSITION_OFFSET,
    SignBartConfig,
)
from signbart_tf.models.motion import with_motion

PACKAGE = "signbart"


_DENSE: ContextVar[type[keras.layers.Dense]] = ContextVar("dense", default=keras.layers.Dense)


@contextmanager
def dense_layers(kind: type[keras.layers.Dense]) -> Iterator[None]:
    """Inside the block, models are built with `kind` for each of their Dense layers."""
    before = _DENSE.set(kind)
    try:
        yield
    finally:
        _DENSE.reset(before)


def dense(units: int, inputs: int, name: str) -> keras.layers.Dense:
    """A Dense layer with PyTorch's default initial values, built."""
    # nn.Linear draws weights and biases from ±1/sqrt(inputs): kaiming_uniform with a = sqrt(5).
    bound = inputs**-0.5
    layer = _DENSE.get()(
        units,
        kernel_initializer=keras.initializers.RandomUniform(-bound, bound),
        bias_initializer=keras.initializers.RandomUniform(-bound, bound),
        name=name,
    )
    layer.build((None, inputs))
    return layer


def layer_norm(d_model: int, name: str) -> keras.layers.LayerNormalization:
    """LayerNorm with PyTorch's epsilon, built; Keras's own default is 1e-3."""
    layer = keras.layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, name=name)
    layer.build((None, d_model))
    return layer


@keras.saving.register_keras_serializable(PACKAGE)
class PositionalEmbedding(keras.layers.Layer):
    """Learned positions 0 … P-1, stored behind `POSITION_OFFSET` unused rows."""

    def __init__(self, max_position_embeddings: int, d_model: int, **kwargs):
        super().__init__(**kwargs)
        self.embeddings = self.add_weight(
            shape=(max_position_embeddings + POSITION_OFFSET, d_model),
            initializer=keras.initializers.RandomNormal(stddev=POSITION_INIT_STD),
            name="embeddings",
        )
        self.built = True

    def call(self, states):
        """Adds to each frame of (B, T, D) its position's embedding."""
        num_frames = ops.shape(states)[1]
        return states + self.embeddings[POSITION_OFFSET : POSITION_OFFSET + num_frames]


@keras.saving.register_keras_serializable(PACKAGE)
class Projection(keras.layers.Layer):
    """Embeds each frame's x coordinates and y coordinates apart from each other.

    Where there are three, depth goes with both; and so does the motion of each side's own.
    """

    def __init__(self, config: SignBartConfig, **kwargs):
        super().__init__(**kwargs)
        self.motion = config.motion
        self.proj_x1 = dense(config.d_model, config.num_inputs, "proj_x1")
        self.proj_y1 = dense(config.d_model, config.num_inputs, "proj_y1")
        self.built = True

    def call(self, keypoints, attention_mask):
        """(B, T, K, 2 or 3), zero in padded frames, and (B, T) -> two of (B, T, D)."""
        axes = [keypoints[..., axis] for axis in range(keypoints.shape[-1])]
        x, y = sides(axes, attention_mask[:, :, None], self.motion)
        return self.proj_x1(x), self.proj_y1(y)


def sides(axes: Sequence, present, motion: bool) -> tuple:
    """What encoder and decoder read of each frame; the twin of `signbart_torch`'s `sides`.

    Args:
        axes: x, y and perhaps z, each (…, T, K), zero in padded frames.
        present: (…, T, 1), 1 a frame and 0 padding.
        motion: Whether it is added; see `with_motion`.

    Returns:
        Two of (…, T, F).
    """
    x, y, *depth = axes
    if depth:
        x, y = (ops.concatenate([side, *depth], axis=-1) for side in (x, y))
    return (with_motion(x, present), with_motion(y, present)) if motion else (x, y)


@keras.saving.register_keras_serializable(PACKAGE)
class ClassificationHead(keras.layers.Layer):
    """Dropout and one linear layer."""

    def __init__(self, d_model: int, num_labels: int, dropout: float, **kwargs):
        super().__init__(**kwargs)
        self.dropout = keras.layers.Dropout(dropout, name="dropout")
        self.out_proj = dense(num_labels, d_model, "out_proj")
        self.built = True

    def call(self, hidden_states, training=None):
        """(B, D) -> (B, C)."""
        return self.out_proj(self.dropout(hidden_states, training=training))


def padding_bias(attention_mask, dtype):
    """(B, T) 1 / 0 -> (B, 1, 1, T): 0 for a frame, `MASK_BIAS` for padding, for every query."""
    return (1.0 - ops.cast(attention_mask, dtype)[:, None, None, :]) * MASK_BIAS


def causal_bias(num_frames, dtype):
    """(T, T): query t sees the keys up to t."""
    index = ops.arange(num_frames)
    return ops.cast(index[None, :] > index[:, None], dtype) * MASK_BIAS


def last_frame_selector(attention_mask, dtype):
    """(B, T) 1 / 0 -> (B, 1, T), one-hot at each row's last frame.

    The last *index* that holds 1, since masks need not be a prefix. A row without any frame
    selects 0.
    """
    index = ops.arange(ops.shape(attention_mask)[1], dtype=attention_mask.dtype)
    last = ops.max(attention_mask * index, axis=1, keepdims=True)
    return ops.cast(index[None, :] == last, dtype)[:, None, :]

"""Convolution blocks, the Transformer layer between them, and the head.

Each layer builds its variables when it is constructed, as in `signbart_tf.models.signbart.layers`.
Legend: B batch, T frames, D model width, W channels of a convolution, C classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import keras
from keras import ops

from signbart.models.conv_signbart import (
    BATCH_NORM_EPSILON,
    BATCH_NORM_MOMENTUM,
    BELOW_ALL,
    ConvSignBartConfig,
)
from signbart_tf.models.signbart.attention import Attention
from signbart_tf.models.signbart.layers import PACKAGE, dense, layer_norm


@keras.saving.register_keras_serializable(PACKAGE)
class BatchNorm(keras.layers.Layer):
    """Normalises each channel over all frames of a batch that are there.

    In inference mode, and while it is frozen, by its running statistics. Padded frames get 0 while
    it trains. Not Keras's own, whose running variance is another one than PyTorch's.
    """

    def __init__(self, channels: int, **kwargs):
        super().__init__(**kwargs)

        def variable(name: str, value: str, trainable: bool) -> keras.Variable:
            return self.add_weight(
                shape=(channels,), initializer=value, trainable=trainable, name=name
            )

        self.gamma = variable("gamma", "ones", True)
        self.beta = variable("beta", "zeros", True)
        self.moving_mean = variable("moving_mean", "zeros", False)
        self.moving_variance = variable("moving_variance", "ones", False)
        self.built = True

    def call(self, states, present, training=None):
        """(B, T, W) and (B, T, 1), 1 a frame and 0 padding -> (B, T, W)."""
        scale, shift = self.affine()
        if not training or not self.gamma.trainable:
            return states * scale + shift
        count = ops.sum(present)
        mean = ops.sum(states * present, axis=(0, 1)) / ops.maximum(count, 1.0)
        centred = (states - mean) * present
        variance = ops.sum(centred * centred, axis=(0, 1)) / ops.maximum(count, 1.0)
        # PyTorch's: the batch by its own variance, and by the sample's in the running one.
        sample = variance * count / ops.maximum(count - 1.0, 1.0)
        several = count > 1.0  # a lone frame has no variance
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, sample)):
            kept = moving + BATCH_NORM_MOMENTUM * (new - moving)
            moving.assign(ops.where(several, kept, moving))
        normed = centred * ops.rsqrt(variance + BATCH_NORM_EPSILON) * self.gamma
        return ops.where(several, (normed + self.beta) * present, states * scale + shift)

    def affine(self):
        """Scale and shift (W,) that it is in inference mode."""
        scale = self.gamma * ops.rsqrt(self.moving_variance + BATCH_NORM_EPSILON)
        return scale, self.beta - self.moving_mean * scale


@keras.saving.register_keras_serializable(PACKAGE)
class DepthwiseConv(keras.layers.Layer):
    """Each channel's own convolution over frames, and BatchNorm; the norm's shift is the bias."""

    def __init__(self, channels: int, kernel_size: int, **kwargs):
        super().__init__(**kwargs)
        bound = kernel_size**-0.5  # nn.Conv1d's initial values
        self.kernel = self.add_weight(
            shape=(kernel_size, channels, 1),
            initializer=keras.initializers.RandomUniform(-bound, bound),
            name="kernel",
        )
        self.norm = BatchNorm(channels, name="norm")
        self.built = True

    def call(self, states, present, training=None):
        """(B, T, W), zero in padded frames, and (B, T, 1) -> (B, T, W)."""
        return self.norm(convolve(states, self.kernel), present, training=training)

    def folded(self):
        """Kernel (frames, W, 1) and bias (W,) of the convolution that it is in inference mode."""
        scale, shift = self.norm.affine()
        return self.kernel * scale[None, :, None], shift


_DEPTHWISE: ContextVar[type[DepthwiseConv]] = ContextVar("depthwise", default=DepthwiseConv)


@contextmanager
def depthwise_layers(kind: type[DepthwiseConv]) -> Iterator[None]:
    """Inside the block, models are built with `kind` for each of their depthwise convolutions."""
    before = _DEPTHWISE.set(kind)
    try:
        yield
    finally:
        _DEPTHWISE.reset(before)


def convolve(states, kernel):
    """A convolution of each channel by itself, zeros before and behind.

    (B, T, W) and (frames, W, 1) -> (B, T, W). Two-dimensional, as LiteRT has it.
    """
    maps = ops.expand_dims(states, axis=1)
    kernel = ops.expand_dims(ops.convert_to_tensor(kernel), axis=0)
    return ops.squeeze(ops.depthwise_conv(maps, kernel, padding="same"), axis=1)


@keras.saving.register_keras_serializable(PACKAGE)
class ConvBlock(keras.layers.Layer):
    """LayerNorm, expansion, depthwise convolution, contraction, and a residual around it all."""

    def __init__(self, config: ConvSignBartConfig, **kwargs):
        super().__init__(**kwargs)
        d_model, width = config.d_model, config.width
        self.layer_norm = layer_norm(d_model, "layer_norm")
        self.expand = dense(width, d_model, "expand")
        self.depthwise = _DEPTHWISE.get()(width, config.kernel_size, name="depthwise")
        self.contract = dense(d_model, width, "contract")
        self.dropout = keras.layers.Dropout(config.dropout, name="dropout")
        self.built = True

    def call(self, hidden_states, present, training=None):
        """(B, T, D) and (B, T, 1), 1 a frame and 0 padding -> (B, T, D)."""
        expanded = ops.gelu(self.expand(self.layer_norm(hidden_states)), approximate=False)
        # What a convolution sees of padding is what it sees beyond the clip: zeros.
        convolved = self.depthwise(expanded * present, present, training=training)
        contracted = self.contract(ops.gelu(convolved, approximate=False))
        return hidden_states + self.dropout(contracted, training=training)


@keras.saving.register_keras_serializable(PACKAGE)
class AttentionLayer(keras.layers.Layer):
    """Self-attention and feed-forward, each behind a LayerNorm and with a residual around it."""

    def __init__(self, config: ConvSignBartConfig, **kwargs):
        super().__init__(**kwargs)
        d_model = config.d_model
        self.self_attn_layer_norm = layer_norm(d_model, "self_attn_layer_norm")
        self.self_attn = Attention(d_model, config.attention_heads, 0.0, name="self_attn")
        self.final_layer_norm = layer_norm(d_model, "final_layer_norm")
        self.fc1 = dense(config.ffn_dim, d_model, "fc1")
        self.fc2 = dense(d_model, config.ffn_dim, "fc2")
        self.dropout = keras.layers.Dropout(config.dropout, name="dropout")
        self.built = True

    def call(self, hidden_states, padding, training=None):
        """(B, T, D) with the bias of `padding_bias` -> (B, T, D)."""
        normed = self.self_attn_layer_norm(hidden_states)
        attended = self.self_attn(normed, normed, padding, training=training)
        hidden_states = hidden_states + self.dropout(attended, training=training)
        fed = ops.gelu(self.fc1(self.final_layer_norm(hidden_states)), approximate=False)
        return hidden_states + self.dropout(self.fc2(fed), training=training)


@keras.saving.register_keras_serializable(PACKAGE)
class Head(keras.layers.Layer):
    """Mean and maximum over the frames that are there, LayerNorm, dropout and one linear layer."""

    def __init__(self, config: ConvSignBartConfig, **kwargs):
        super().__init__(**kwargs)
        self.layer_norm = layer_norm(2 * config.d_model, "layer_norm")
        self.dropout = keras.layers.Dropout(config.classifier_dropout, name="dropout")
        self.out_proj = dense(config.num_labels, 2 * config.d_model, "out_proj")
        self.built = True

    def call(self, hidden_states, present, training=None):
        """(B, T, D) and (B, T, 1) -> (B, C)."""
        pooled = self.layer_norm(pool(hidden_states, present))
        return self.out_proj(self.dropout(pooled, training=training))


def pool(hidden_states, present):
    """(…, T, D), finite, and (…, T, 1) -> (…, 2 D), mean and maximum over frames."""
    there = hidden_states * present
    mean = ops.sum(there, axis=-2) / ops.maximum(ops.sum(present, axis=-2), 1.0)
    largest = ops.max(there + (1.0 - present) * BELOW_ALL, axis=-2)
    return ops.concatenate([mean, largest], axis=-1)

"""The Keras twin of `signbart_torch`'s: same classes and attribute names.

Legend: B batch, T frames, S tokens (T, or T + 1 behind a class token), F features, D model width,
H heads, C glosses, G categories.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from signbart.errors import ConfigError
from signbart.models.sign_transformer import (
    SIGN_TRANSFORMER_EPSILON,
    SignTransformerConfig,
    sinusoidal_positions,
)
from signbart_tf.models.signbart.layers import PACKAGE, dense, padding_bias


@keras.saving.register_keras_serializable(PACKAGE)
class SignTransformer(keras.Model):
    """Classifies a sign twice: its gloss, and the category that the gloss belongs to.

    Raises:
        ConfigError: `config` does not say how many glosses there are, or the heads do not divide
            the model's width.
    """

    def __init__(self, config: SignTransformerConfig, name: str = "sign_transformer", **kwargs):
        super().__init__(name=name, **kwargs)
        if config.num_labels is None:
            raise ConfigError("model.num_labels is not set: say how many glosses there are")
        if config.d_model % config.attention_heads:
            raise ConfigError(
                f"model.d_model ({config.d_model}) is not divisible by model.attention_heads "
                f"({config.attention_heads})"
            )
        self.config = config
        self.embedding = dense(config.d_model, config.num_features, "embedding")
        self.pos_encoder = PositionalEncoding(config, name="pos_encoder")
        self.input_norm = _layer_norm(config.d_model, "input_norm")
        self.encoder_layers = [
            EncoderLayer(config, name=f"encoder_layers_{i}") for i in range(config.encoder_layers)
        ]
        # Published checkpoints hold it whatever they pool by.
        self.cls_token = self.add_weight(
            shape=(1, 1, config.d_model),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="cls_token",
        )
        self.dropout = keras.layers.Dropout(config.dropout, name="dropout")
        self.gloss_head = _head(config, config.num_labels, "gloss_head")
        self.category_head = _head(config, config.num_categories, "category_head")
        self.built = True

    def call(self, inputs: Mapping[str, Any], training: bool | None = None) -> dict[str, Any]:
        """Scores each gloss and each category.

        Args:
            inputs: Dict of ``keypoints`` (B, T, F) float, preprocessed, and ``attention_mask``
                (B, T) int, 1 a frame and 0 padding, which need not be a prefix. What padded frames
                hold, NaN included, is never read.
            training: Whether dropout is active.

        Returns:
            Dict of logits: ``gloss`` (B, C) and ``category`` (B, G).
        """
        keypoints, attention_mask = inputs["keypoints"], inputs["attention_mask"]
        # A select and not a product: NaN * 0 is NaN.
        present = attention_mask[:, :, None] > 0
        states = self.embedding(ops.where(present, keypoints, ops.zeros_like(keypoints)))
        if self.config.pooling == "cls":
            token = ops.repeat(self.cls_token, ops.shape(states)[0], axis=0)
            states = ops.concatenate([token, states], axis=1)
            attention_mask = ops.pad(attention_mask, ((0, 0), (1, 0)), constant_values=1)
        states = self.dropout(self.pos_encoder(states), training=training)
        states = self.input_norm(states)
        bias = padding_bias(attention_mask, states.dtype)
        for layer in self.encoder_layers:
            states = layer(states, bias, training=training)
        pooled = pool_frames(states, present, self.config.pooling)
        pooled = self.dropout(pooled, training=training)
        return {
            "gloss": score_heads(self.gloss_head, pooled, training),
            "category": score_heads(self.category_head, pooled, training),
        }

    @property
    def num_parameters(self) -> int:
        """Trainable values."""
        return sum(int(ops.size(variable)) for variable in self.trainable_variables)

    def get_config(self):
        """What `from_config` builds the same model from."""
        return {"config": dataclasses.asdict(self.config), "name": self.name}

    @classmethod
    def from_config(cls, config):
        """The model that `get_config` described."""
        return cls(SignTransformerConfig(**config["config"]), name=config["name"])


@keras.saving.register_keras_serializable(PACKAGE)
class PositionalEncoding(keras.layers.Layer):
    """Fixed positions; a weight, for published checkpoints hold it."""

    def __init__(self, config: SignTransformerConfig, **kwargs):
        super().__init__(**kwargs)
        table = sinusoidal_positions(config.max_frames, config.d_model)[None]
        self.pe = self.add_weight(
            shape=table.shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(table, dtype),
            trainable=False,
            name="pe",
        )
        self.built = True

    def call(self, states):
        """Adds to each token of (B, S, D) its position."""
        return states + self.pe[:, : ops.shape(states)[1]]


@keras.saving.register_keras_serializable(PACKAGE)
class Attention(keras.layers.Layer):
    """Scaled dot-product self-attention; the scale multiplies q, as in this project's SignBART."""

    def __init__(self, config: SignTransformerConfig, **kwargs):
        super().__init__(**kwargs)
        self.d_model = config.d_model
        self.num_heads = config.attention_heads
        self.head_dim = config.d_model // config.attention_heads
        self.scaling = self.head_dim**-0.5
        self.W_q = dense(config.d_model, config.d_model, "W_q")
        self.W_k = dense(config.d_model, config.d_model, "W_k")
        self.W_v = dense(config.d_model, config.d_model, "W_v")
        self.W_o = dense(config.d_model, config.d_model, "W_o")
        self.dropout = keras.layers.Dropout(config.dropout, name="dropout")
        self.built = True

    def call(self, states, bias, training=None):
        """(B, S, D) and (B, 1, 1, S), which is added to the scores -> (B, S, D)."""
        query = self._split_heads(self.W_q(states) * self.scaling)
        key, value = self._split_heads(self.W_k(states)), self._split_heads(self.W_v(states))
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) + bias
        weights = self.dropout(ops.softmax(scores, axis=-1), training=training)
        context = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))  # (B, S, H, D / H)
        return self.W_o(ops.reshape(context, (-1, ops.shape(context)[1], self.d_model)))

    def _split_heads(self, states):
        """(B, S, D) -> (B, H, S, D / H)."""
        shape = (-1, ops.shape(states)[1], self.num_heads, self.head_dim)
        return ops.transpose(ops.reshape(states, shape), (0, 2, 1, 3))


@keras.saving.register_keras_serializable(PACKAGE)
class FeedForward(keras.layers.Layer):
    """Two linear layers with ReLU between them."""

    def __init__(self, config: SignTransformerConfig, **kwargs):
        super().__init__(**kwargs)
        self.linear1 = dense(config.ffn_dim, config.d_model, "linear1")
        self.linear2 = dense(config.d_model, config.ffn_dim, "linear2")
        self.dropout = keras.layers.Dropout(config.dropout, name="dropout")
        self.built = True

    def call(self, states, training=None):
        """(…, D) -> (…, D)."""
        return self.linear2(self.dropout(ops.relu(self.linear1(states)), training=training))


@keras.saving.register_keras_serializable(PACKAGE)
class Residual(keras.layers.Layer):
    """Holds the LayerNorm in front of a branch; published names say ``residual1.norm``."""

    def __init__(self, config: SignTransformerConfig, **kwargs):
        super().__init__(**kwargs)
        self.norm = _layer_norm(config.d_model, "norm")
        self.built = True

    def call(self, states):
        """(…, D) -> (…, D)."""
        return self.norm(states)


@keras.saving.register_keras_serializable(PACKAGE)
class EncoderLayer(keras.layers.Layer):
    """Self-attention and feed-forward, each with a LayerNorm in front and a residual around."""

    def __init__(self, config: SignTransformerConfig, **kwargs):
        super().__init__(**kwargs)
        self.attention = Attention(config, name="attention")
        self.feed_forward = FeedForward(config, name="feed_forward")
        self.residual1 = Residual(config, name="residual1")
        self.residual2 = Residual(config, name="residual2")
        self.dropout = keras.layers.Dropout(config.dropout, name="dropout")
        self.built = True

    def call(self, states, bias, training=None):
        """(B, S, D) with the bias of `padding_bias` -> (B, S, D)."""
        attended = self.attention(self.residual1(states), bias, training=training)
        states = states + self.dropout(attended, training=training)
        fed = self.feed_forward(self.residual2(states), training=training)
        return states + self.dropout(fed, training=training)


def _layer_norm(d_model: int, name: str) -> keras.layers.LayerNormalization:
    layer = keras.layers.LayerNormalization(epsilon=SIGN_TRANSFORMER_EPSILON, name=name)
    layer.build((None, d_model))
    return layer


def _head(config: SignTransformerConfig, classes: int, name: str) -> list[keras.layers.Layer]:
    """In the order of PyTorch's Sequential, whose indices stand in the checkpoints."""
    return [
        dense(config.d_model // 2, config.d_model, f"{name}_0"),
        keras.layers.ReLU(name=f"{name}_1"),
        keras.layers.Dropout(config.dropout, name=f"{name}_2"),
        dense(classes, config.d_model // 2, f"{name}_3"),
    ]


def score_heads(head: list[keras.layers.Layer], pooled, training):
    """(B, D) -> (B, C)."""
    first, activation, dropout, last = head
    return last(dropout(activation(first(pooled)), training=training))


def pool_frames(states, present, pooling: str):
    """(B, S, D) and (B, T, 1), true where a frame is -> (B, D)."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "max":
        # The least of all stands in for padding: it wins nowhere, and overflows in no precision.
        least = ops.min(states, axis=1, keepdims=True)
        return ops.max(ops.where(present, states, least), axis=1)
    weights = ops.cast(present, states.dtype)
    return ops.sum(states * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1.0)

"""The same network, spelt for the CPU runtimes that exports end up in.

The twin of `signbart_torch.export_graph`, which says what differs from the plain model, and why.

Legend: T frames, Q queries, D model width, H heads, K keypoints, C classes.
"""

from __future__ import annotations

import functools

import keras
import numpy as np
from keras import ops

from signbart_tf.attention import Attention
from signbart_tf.decoder import DecoderLayer
from signbart_tf.encoder import EncoderLayer
from signbart_tf.layers import (
    PositionalEmbedding,
    causal_bias,
    last_frame_selector,
    padding_bias,
)
from signbart_tf.model import SignBart


def for_export(model: SignBart) -> keras.Model:
    """The model for inference on one clip at a time: same inputs, same logits, a faster graph.

    Args:
        model: Is not changed, and lends its variables.
    """
    return _ExportGraph(model)


class _ExportGraph(keras.Model):
    """See `for_export`."""

    def __init__(self, model: SignBart):
        super().__init__(name="export_graph")
        self.model = model
        # (H, D), 1 where a column of the last layer's belongs to the head.
        heads = model.config.decoder_attention_heads
        own_columns = np.eye(heads, dtype="float32").repeat(model.config.d_model // heads, axis=1)
        self.attend_once = functools.partial(_attend_once, own_columns)
        self.built = True

    def call(self, inputs, training=None):
        """(1, T, K, 2) and (1, T) -> logits (1, C), in dicts; see `SignBart.call`."""
        keypoints, attention_mask = inputs["keypoints"], inputs["attention_mask"]
        if keypoints.shape[0] not in (1, None):
            raise ValueError(f"the graph for export takes one clip, and not {keypoints.shape[0]}")
        model, dtype = self.model, keypoints.dtype
        num_frames = attention_mask.shape[1]
        x, y = _coordinates(keypoints, attention_mask)
        # (1, keys, 1) and (1, keys, queries).
        padding = ops.reshape(padding_bias(attention_mask, dtype), (1, num_frames, 1))
        causal = padding + ops.transpose(causal_bias(num_frames, dtype))

        encoder, decoder = model.encoder, model.decoder
        encoded = _embed(encoder.embed_positions, model.projection.proj_x1(x))
        encoded = _layer_norm(encoder.layernorm_embedding, encoded)
        for layer in encoder.layers:
            encoded = _encoder_layer(layer, encoded, padding)

        states = _embed(decoder.embed_positions, model.projection.proj_y1(y))
        states = _layer_norm(decoder.layernorm_embedding, states)
        *layers, last_layer = decoder.layers
        for layer in layers:
            states = _decoder_layer(layer, states, states, causal, encoded, padding, _attend)
        selector = last_frame_selector(attention_mask, dtype)
        query = ops.matmul(selector, ops.expand_dims(states, axis=0))
        query = ops.squeeze(query, axis=0)  # (1, D)
        # No valid frame comes after the last one, so padding alone is its causal mask.
        decoded = _decoder_layer(
            last_layer, query, states, padding, encoded, padding, self.attend_once
        )
        return {"logits": model.classification_head.out_proj(decoded)}


def _coordinates(keypoints, attention_mask):
    """(1, T, K, 2) -> x and y, each (T, K), zero in padded frames."""
    _, num_frames, num_keypoints, _ = keypoints.shape
    frames = ops.reshape(keypoints, (num_frames, num_keypoints * 2))
    # A select and not a product: NaN * 0 is NaN.
    present = ops.reshape(attention_mask, (num_frames, 1)) > 0
    frames = ops.where(present, frames, ops.zeros_like(frames))
    frames = ops.transpose(ops.reshape(frames, (num_frames * num_keypoints, 2)))
    frames = ops.reshape(frames, (2, num_frames, num_keypoints))
    return tuple(ops.squeeze(part, axis=0) for part in ops.split(frames, 2))


def _embed(embed_positions: PositionalEmbedding, states):
    """(T, D) -> (T, D)."""
    return ops.squeeze(embed_positions(ops.expand_dims(states, axis=0)), axis=0)


def _encoder_layer(layer: EncoderLayer, states, padding):
    """(T, D) -> (T, D)."""
    attended = _attend(layer.self_attn, states, states, padding)
    states = _layer_norm(layer.self_attn_layer_norm, states + attended)
    return _feed_forward(layer, states)


def _decoder_layer(layer: DecoderLayer, queries, states, self_bias, encoded, encoder_bias, attend):
    """(Q, D), which attend to the decoder's (T, D) and the encoder's -> (Q, D)."""
    attended = attend(layer.self_attn, queries, states, self_bias)
    queries = _layer_norm(layer.self_attn_layer_norm, queries + attended)
    attended = attend(layer.encoder_attn, queries, encoded, encoder_bias)
    queries = _layer_norm(layer.encoder_attn_layer_norm, queries + attended)
    return _feed_forward(layer, queries)


def _feed_forward(layer: EncoderLayer | DecoderLayer, states):
    fed = layer.fc2(ops.gelu(layer.fc1(states), approximate=False))
    return _layer_norm(layer.final_layer_norm, states + fed)


def _layer_norm(norm: keras.layers.LayerNormalization, states):
    centred = states - ops.mean(states, axis=-1, keepdims=True)
    variance = ops.mean(centred * centred, axis=-1, keepdims=True)
    # Of rank 2, so that no converter folds them into the FULLY_CONNECTED behind; see the mirror.
    gamma, beta = ops.expand_dims(norm.gamma, axis=0), ops.expand_dims(norm.beta, axis=0)
    return centred * ops.rsqrt(variance + norm.epsilon) * gamma + beta


def _attend(attention: Attention, states, key_values, bias):
    """(Q, D) ask (T, D), with a bias broadcastable to (H, T, Q) -> (Q, D)."""
    heads, width, d_model = attention.num_heads, attention.head_dim, attention.d_model
    query = ops.transpose(attention.q_proj(states) * attention.scaling)
    query = ops.reshape(query, (heads, width, -1))
    key = ops.reshape(attention.k_proj(key_values), (-1, heads, width))
    key = ops.transpose(key, (1, 0, 2))
    value = ops.reshape(ops.transpose(attention.v_proj(key_values)), (heads, width, -1))
    scores = ops.matmul(key, query) + bias  # (H, T, Q)
    # The largest first, as in any softmax: no weights make it overflow, or divide by zero.
    weights = ops.exp(scores - ops.max(scores, axis=1, keepdims=True))
    context = ops.matmul(value, weights) / ops.sum(weights, axis=1, keepdims=True)
    return attention.out_proj(ops.transpose(ops.reshape(context, (d_model, -1))))


def _attend_once(own_columns, attention: Attention, states, key_values, bias):
    """(1, D) asks (T, D), with a bias (1, T, 1) -> (1, D); no keys or values are computed.

    Args:
        own_columns: (H, D), 1 where a column belongs to the head.
        attention: Whose weights to use.
        states: (1, D), what asks.
        key_values: (T, D), what is asked.
        bias: (1, T, 1).
    """
    heads, width, d_model = attention.num_heads, attention.head_dim, attention.d_model
    query = attention.q_proj(states) * attention.scaling * own_columns
    query = ops.matmul(query, ops.transpose(attention.k_proj.kernel))
    # Transposed by way of the heads, and with a batch axis in the products: otherwise the converter
    # makes linear layers of them, with computed weights; see the PyTorch graph.
    frames = ops.transpose(ops.reshape(key_values, (-1, heads, width)), (1, 2, 0))
    frames = ops.reshape(frames, (1, d_model, -1))
    scores = ops.matmul(ops.expand_dims(query, axis=0), frames) + ops.reshape(bias, (1, 1, -1))
    weights = ops.softmax(scores, axis=-1)  # (1, H, T)
    context = ops.matmul(weights, ops.expand_dims(key_values, axis=0))
    context = attention.v_proj(ops.squeeze(context, axis=0)) * own_columns
    return attention.out_proj(ops.sum(context, axis=0, keepdims=True))

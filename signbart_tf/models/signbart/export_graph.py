"""The same network, spelt for the CPU runtimes that exports end up in.

The twin of `signbart_torch`'s, which says what differs from the plain model, and why.

Legend: T frames, Q queries, D model width, H heads, K keypoints, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
from keras import ops

from signbart.models.signbart import POSITION_OFFSET
from signbart_tf.models.signbart.attention import Attention, own_parts
from signbart_tf.models.signbart.decoder import DecoderLayer
from signbart_tf.models.signbart.encoder import EncoderLayer
from signbart_tf.models.signbart.layers import (
    PositionalEmbedding,
    causal_bias,
    last_frame_selector,
    padding_bias,
    sides,
)
from signbart_tf.models.signbart.model import SignBart


def for_export(model: SignBart) -> keras.Model:
    """The model for inference on one clip at a time: same inputs, same logits, a faster graph.

    Args:
        model: Is not changed. It lends its variables; what is joined or transposed are
            copies, made now.
    """
    return _ExportGraph(model)


def joined_projections(model: SignBart) -> Iterator[tuple[Attention, tuple[str, ...]]]:
    """Attentions of many queries, and which projections are one product there, in that order."""
    for layer in model.encoder.layers:
        yield layer.self_attn, ("q_proj", "k_proj", "v_proj")
    for layer in model.decoder.layers[:-1]:
        yield layer.self_attn, ("q_proj", "k_proj", "v_proj")
        yield layer.encoder_attn, ("k_proj", "v_proj")


def one_query_attentions(model: SignBart) -> tuple[Attention, Attention]:
    """The attentions that ask for one frame: the last decoder layer's."""
    last_layer = model.decoder.layers[-1]
    return last_layer.self_attn, last_layer.encoder_attn


class _ExportGraph(keras.Model):
    """See `for_export`."""

    def __init__(self, model: SignBart):
        super().__init__(name="export_graph")
        self.model = model
        self.attentions = [JoinedAttention(*joined) for joined in joined_projections(model)]
        self.attentions += [_OneQuery(attention) for attention in one_query_attentions(model)]
        self.built = True

    def call(self, inputs, training=None):
        """(1, T, K, 2) and (1, T) -> logits (1, C), in dicts; see `SignBart.call`."""
        keypoints, attention_mask = inputs["keypoints"], inputs["attention_mask"]
        if keypoints.shape[0] not in (1, None):
            raise ValueError(f"the graph for export takes one clip, and not {keypoints.shape[0]}")
        model, dtype = self.model, keypoints.dtype
        num_frames = attention_mask.shape[1]
        axes, present = _coordinates(keypoints, attention_mask)
        x, y = sides(axes, present, model.config.motion)
        # (1, keys, 1) and (1, keys, queries).
        padding = ops.reshape(padding_bias(attention_mask, dtype), (1, num_frames, 1))
        causal = padding + ops.transpose(causal_bias(num_frames, dtype))

        attentions = iter(self.attentions)  # in the order of their use
        encoder, decoder = model.encoder, model.decoder
        encoded = _embed(encoder.embed_positions, model.projection.proj_x1, x)
        encoded = layer_norm(encoder.layernorm_embedding, encoded)
        for layer in encoder.layers:
            encoded = _encoder_layer(layer, next(attentions), encoded, padding)

        states = _embed(decoder.embed_positions, model.projection.proj_y1, y)
        states = layer_norm(decoder.layernorm_embedding, states)
        *layers, last_layer = decoder.layers
        for layer in layers:
            states = _decoder_layer(layer, attentions, states, states, causal, encoded, padding)
        selector = last_frame_selector(attention_mask, dtype)
        query = ops.matmul(selector, ops.expand_dims(states, axis=0))
        query = ops.squeeze(query, axis=0)  # (1, D)
        # No valid frame comes after the last one, so padding alone is its causal mask.
        decoded = _decoder_layer(last_layer, attentions, query, states, padding, encoded, padding)
        # The converter would merge the last LayerNorm with the head, and no search for a wrong
        # layer could tell them apart. A sum over one row keeps it from that.
        decoded = ops.sum(ops.expand_dims(decoded, axis=0), axis=0)
        return {"logits": model.classification_head.out_proj(decoded)}


class JoinedAttention:
    """`Attention.call` with joined projections and transposed scores.

    Args:
        attention: Whose weights to use.
        joined: Which projections are one product; q is among them, or read by itself.
    """

    def __init__(self, attention: Attention, joined: tuple[str, ...]):
        self.attention = attention
        self._q_proj = None if "q_proj" in joined else _join(attention, ("q_proj",))
        self._joined, self._parts = _join(attention, joined), len(joined)

    def attend(self, states, key_values, bias):
        """(Q, D) ask (T, D), with a bias broadcastable to (H, T, Q) -> (Q, D).

        Where q is joined, the two are the same.
        """
        attention = self.attention
        heads, width, d_model = attention.num_heads, attention.head_dim, attention.d_model
        products = ops.split(_product(self._joined, key_values), self._parts, axis=1)
        if self._q_proj is not None:
            products = [_product(self._q_proj, states), *products]
        query, key, value = products
        query = ops.reshape(ops.transpose(query), (heads, width, -1))
        key = ops.transpose(ops.reshape(key, (-1, heads, width)), (1, 0, 2))
        value = ops.reshape(ops.transpose(value), (heads, width, -1))
        scores = ops.matmul(key, query) + bias  # (H, T, Q)
        # The largest first, as in any softmax: no weights make it overflow, or divide by zero.
        weights = ops.exp(scores - ops.max(scores, axis=1, keepdims=True))
        context = ops.matmul(value, weights) / ops.sum(weights, axis=1, keepdims=True)
        return attention.out_proj(ops.transpose(ops.reshape(context, (d_model, -1))))


class _OneQuery:
    """The attention of one query, without the term that softmax drops; see the mirror.

    Args:
        attention: Whose weights to use.
    """

    def __init__(self, attention: Attention):
        self.attention = attention
        self._q_proj = _join(attention, ("q_proj",))
        self._keys = attention.k_proj.kernel.numpy().T.copy()

    def attend(self, states, key_values, bias):
        """(1, D) asks (T, D), with a bias of (1, T, 1) -> (1, D)."""
        attention = self.attention
        heads = own_parts(attention)
        queries = ops.matmul(_product(self._q_proj, states) * heads, self._keys)  # (H, D)
        parts = ops.reshape(queries, (-1, attention.num_heads, attention.head_dim))
        parts = ops.reshape(ops.transpose(parts, (1, 2, 0)), (1, attention.d_model, -1))
        key_values = ops.expand_dims(key_values, axis=0)
        scores = ops.matmul(key_values, parts) + bias  # (1, T, H)
        weights = ops.softmax(ops.transpose(scores, (0, 2, 1)), axis=-1)
        mixed = ops.squeeze(ops.matmul(weights, key_values), axis=0)
        context = ops.sum(attention.v_proj(mixed) * heads, axis=0, keepdims=True)
        return attention.out_proj(context)


def _join(attention: Attention, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """One kernel and bias with the outputs of several, behind each other; q's are scaled."""
    parts = [getattr(attention, name) for name in names]
    factors = [np.float32(attention.scaling if name == "q_proj" else 1.0) for name in names]
    pairs = list(zip(parts, factors, strict=True))
    return (
        np.concatenate([part.kernel.numpy() * factor for part, factor in pairs], axis=1),
        np.concatenate([part.bias.numpy() * factor for part, factor in pairs]),
    )


def _product(joined: tuple[np.ndarray, np.ndarray], states):
    kernel, bias = joined
    return ops.matmul(states, kernel) + bias


def _coordinates(keypoints, attention_mask):
    """(1, T, K, 2 or 3) -> x, y and perhaps z, each (T, K), zero in padded frames; mask (T, 1)."""
    _, num_frames, num_keypoints, coordinates = keypoints.shape
    frames = ops.reshape(keypoints, (num_frames, num_keypoints * coordinates))
    # A select and not a product: NaN * 0 is NaN.
    present = ops.reshape(attention_mask, (num_frames, 1))
    frames = ops.where(present > 0, frames, ops.zeros_like(frames))
    frames = ops.transpose(ops.reshape(frames, (num_frames * num_keypoints, coordinates)))
    frames = ops.reshape(frames, (coordinates, num_frames, num_keypoints))
    return [ops.squeeze(part, axis=0) for part in ops.split(frames, coordinates)], present


def _embed(embed_positions: PositionalEmbedding, projection: keras.layers.Dense, points):
    """(T, K) -> (T, D), projected and with positions."""
    num_frames = points.shape[0]
    positions = embed_positions.embeddings[POSITION_OFFSET : POSITION_OFFSET + num_frames]
    return ops.matmul(points, projection.kernel) + (positions + projection.bias)


def _encoder_layer(layer: EncoderLayer, self_attn: JoinedAttention, states, padding):
    """(T, D) -> (T, D)."""
    attended = self_attn.attend(states, states, padding)
    states = layer_norm(layer.self_attn_layer_norm, states + attended)
    return _feed_forward(layer, states)


def _decoder_layer(
    layer: DecoderLayer,
    attentions: Iterator[JoinedAttention | _OneQuery],
    queries,
    states,
    self_bias,
    encoded,
    encoder_bias,
):
    """(Q, D), which attend to the decoder's (T, D) and the encoder's -> (Q, D)."""
    attended = next(attentions).attend(queries, states, self_bias)
    queries = layer_norm(layer.self_attn_layer_norm, queries + attended)
    attended = next(attentions).attend(queries, encoded, encoder_bias)
    queries = layer_norm(layer.encoder_attn_layer_norm, queries + attended)
    return _feed_forward(layer, queries)


def _feed_forward(layer: EncoderLayer | DecoderLayer, states):
    fed = layer.fc2(ops.gelu(layer.fc1(states), approximate=False))
    return layer_norm(layer.final_layer_norm, states + fed)


def layer_norm(norm: keras.layers.LayerNormalization, states):
    """`norm` of (T, D), spelt out."""
    centred = states - ops.mean(states, axis=-1, keepdims=True)
    variance = ops.mean(centred * centred, axis=-1, keepdims=True)
    # Of rank 2, so that no converter folds them into the FULLY_CONNECTED behind; see the mirror.
    gamma, beta = ops.expand_dims(norm.gamma, axis=0), ops.expand_dims(norm.beta, axis=0)
    return centred * ops.rsqrt(variance + norm.epsilon) * gamma + beta

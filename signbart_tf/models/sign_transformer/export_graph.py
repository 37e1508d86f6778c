"""The sign Transformer's twin, spelt for the CPU runtimes that exports end up in.

Legend: T frames, F features, D model width, H heads, C glosses, G categories.
"""

from __future__ import annotations

import keras
from keras import ops

from signbart.models.signbart import MASK_BIAS
from signbart_tf.models.sign_transformer.model import (
    Attention,
    SignTransformer,
    pool_frames,
    score_heads,
)


def for_export(model: SignTransformer) -> keras.Model:
    """The model for inference on one clip at a time: same inputs and outputs, a faster graph.

    Args:
        model: Is not changed, and lends its variables.
    """
    return _ExportGraph(model)


class _ExportGraph(keras.Model):
    """The twin of `signbart_torch.models.sign_transformer.model`'s graph for export."""

    def __init__(self, model: SignTransformer):
        super().__init__(name="export_graph")
        self.model = model
        self.built = True

    def call(self, inputs, training=None):
        """(1, T, F) and (1, T) -> (1, C) and (1, G), in dicts; see `SignTransformer.call`."""
        keypoints, attention_mask = inputs["keypoints"], inputs["attention_mask"]
        if keypoints.shape[0] not in (1, None):
            raise ValueError(f"the graph for export takes one clip, and not {keypoints.shape[0]}")
        model, pooling = self.model, self.model.config.pooling
        num_frames, num_features = keypoints.shape[1:]
        frames = ops.reshape(keypoints, (num_frames, num_features))
        present = ops.reshape(attention_mask, (num_frames, 1)) > 0
        states = model.embedding(ops.where(present, frames, ops.zeros_like(frames)))
        bias = (1.0 - ops.cast(present, states.dtype)) * MASK_BIAS  # (T, 1)
        if pooling == "cls":
            states = ops.concatenate([model.cls_token[0], states], axis=0)
            bias = ops.concatenate([ops.zeros_like(bias[:1]), bias], axis=0)
        states = _normalize(model.input_norm, states + model.pos_encoder.pe[0, : states.shape[0]])
        for layer in model.encoder_layers:
            normed = _normalize(layer.residual1.norm, states)
            states = states + _attend(layer.attention, normed, bias)
            normed = _normalize(layer.residual2.norm, states)
            states = states + layer.feed_forward(normed, training=False)
        pooled = pool_frames(states[None], present[None], pooling)
        return {
            "gloss": score_heads(model.gloss_head, pooled, False),
            "category": score_heads(model.category_head, pooled, False),
        }


def _normalize(norm: keras.layers.LayerNormalization, states):
    centred = states - ops.mean(states, axis=-1, keepdims=True)
    variance = ops.mean(centred * centred, axis=-1, keepdims=True)
    return centred * ops.rsqrt(variance + norm.epsilon) * norm.gamma[None] + norm.beta[None]


def _attend(attention: Attention, states, bias):
    """`Attention.call` on (S, D), with scores (H, keys, queries) and a bias (S, 1)."""
    heads, width = attention.num_heads, attention.head_dim
    query = ops.transpose(attention.W_q(states) * attention.scaling)
    query = ops.reshape(query, (heads, width, -1))
    key = ops.transpose(ops.reshape(attention.W_k(states), (-1, heads, width)), (1, 0, 2))
    value = ops.reshape(ops.transpose(attention.W_v(states)), (heads, width, -1))
    scores = ops.matmul(key, query) + bias
    weights = ops.exp(scores - ops.max(scores, axis=1, keepdims=True))
    context = ops.matmul(value, weights) / ops.sum(weights, axis=1, keepdims=True)
    return attention.W_o(ops.transpose(ops.reshape(context, (heads * width, -1))))

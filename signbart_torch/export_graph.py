"""The same network, spelt for the CPU runtimes that exports end up in.

`for_export` changes no number but by rounding. What it changes is what XNNPACK is slow at, measured
in LiteRT on one thread:

* One clip, and so no batch axis: tensors are (T, D), and no RESHAPE surrounds the linear layers.
* Scores stand as (keys, queries). Queries, values and context then change places by transposing one
  matrix each, and the product with the values fills the registers, which (T, T) x (T, D / H) leaves
  half empty for narrow heads. SOFTMAX only knows the last axis, and is slower than its parts.
* The last decoder layer has one query. Its keys and values are never computed: the query goes
  through the keys' weights instead of every frame, and the mean frame through the values'.
* LayerNorm subtracts the mean once, and XNNPACK fuses the mean of squares.
* x and y part by transposing: a slice of every second number copies them one by one.

Parameters are the model's own, not copies. Legend: T frames, Q queries, D model width, H heads, K
keypoints, C classes.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from signbart_torch.attention import Attention
from signbart_torch.decoder import DecoderLayer
from signbart_torch.encoder import EncoderLayer
from signbart_torch.layers import (
    PositionalEmbedding,
    causal_bias,
    last_frame_selector,
    padding_bias,
)
from signbart_torch.model import SignBart


def for_export(model: SignBart) -> nn.Module:
    """The model for inference on one clip at a time: same inputs, same logits, a faster graph.

    Args:
        model: Is not changed, and lends its parameters.
    """
    return _ExportGraph(model).eval()


class _ExportGraph(nn.Module):
    """See `for_export`."""

    def __init__(self, model: SignBart):
        super().__init__()
        self.model = model
        # (H, D), 1 where a column of the last layer's belongs to the head.
        heads = torch.eye(model.config.decoder_attention_heads)
        width = model.config.d_model // model.config.decoder_attention_heads
        self.register_buffer("own_columns", heads.repeat_interleave(width, dim=1))

    def forward(self, keypoints: Tensor, attention_mask: Tensor) -> Tensor:
        """(1, T, K, 2) and (1, T) -> logits (1, C); see `SignBart.forward`."""
        if keypoints.shape[0] != 1:
            raise ValueError(f"the graph for export takes one clip, and not {keypoints.shape[0]}")
        model, dtype = self.model, keypoints.dtype
        x, y = _coordinates(keypoints, attention_mask)
        num_frames = x.shape[0]
        # (1, keys, 1) and (1, keys, queries).
        padding = padding_bias(attention_mask, dtype).reshape(1, num_frames, 1)
        causal = padding + causal_bias(num_frames, dtype, keypoints.device).t()

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
        query = torch.matmul(selector, states.unsqueeze(0)).squeeze(0)  # (1, D)
        # No valid frame comes after the last one, so padding alone is its causal mask.
        attend_once = functools.partial(_attend_once, self.own_columns)
        decoded = _decoder_layer(last_layer, query, states, padding, encoded, padding, attend_once)
        return model.classification_head.out_proj(decoded)


def _coordinates(keypoints: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """(1, T, K, 2) -> x and y, each (T, K), zero in padded frames."""
    _, num_frames, num_keypoints, _ = keypoints.shape
    frames = keypoints.reshape(num_frames, num_keypoints * 2)
    # A select and not a product: NaN * 0 is NaN.
    present = attention_mask.reshape(num_frames, 1) > 0
    frames = torch.where(present, frames, torch.zeros_like(frames))
    frames = frames.reshape(num_frames * num_keypoints, 2).t()
    x, y = frames.reshape(2, num_frames, num_keypoints).split(1)
    return x.squeeze(0), y.squeeze(0)


def _embed(embed_positions: PositionalEmbedding, states: Tensor) -> Tensor:
    """(T, D) -> (T, D)."""
    return embed_positions(states.unsqueeze(0)).squeeze(0)


def _encoder_layer(layer: EncoderLayer, states: Tensor, padding: Tensor) -> Tensor:
    """(T, D) -> (T, D)."""
    attended = _attend(layer.self_attn, states, states, padding)
    states = _layer_norm(layer.self_attn_layer_norm, states + attended)
    return _feed_forward(layer, states)


def _decoder_layer(
    layer: DecoderLayer,
    queries: Tensor,
    states: Tensor,
    self_bias: Tensor,
    encoded: Tensor,
    encoder_bias: Tensor,
    attend,
) -> Tensor:
    """(Q, D), which attend to the decoder's (T, D) and the encoder's -> (Q, D)."""
    attended = attend(layer.self_attn, queries, states, self_bias)
    queries = _layer_norm(layer.self_attn_layer_norm, queries + attended)
    attended = attend(layer.encoder_attn, queries, encoded, encoder_bias)
    queries = _layer_norm(layer.encoder_attn_layer_norm, queries + attended)
    return _feed_forward(layer, queries)


def _feed_forward(layer: EncoderLayer | DecoderLayer, states: Tensor) -> Tensor:
    fed = layer.fc2(F.gelu(layer.fc1(states)))
    return _layer_norm(layer.final_layer_norm, states + fed)


def _layer_norm(norm: nn.LayerNorm, states: Tensor) -> Tensor:
    centred = states - states.mean(dim=-1, keepdim=True)
    variance = (centred * centred).mean(dim=-1, keepdim=True)
    # Of rank 2: converters fold factors of rank 1 into the FULLY_CONNECTED behind them, though the
    # residual needs the product too. That saves nothing, and puts int8 weights on another grid than
    # the checkpoint's, which is the one that quantization-aware training trains for.
    weight, bias = norm.weight.unsqueeze(0), norm.bias.unsqueeze(0)
    return centred * torch.rsqrt(variance + norm.eps) * weight + bias


def _attend(attention: Attention, states: Tensor, key_values: Tensor, bias: Tensor) -> Tensor:
    """`Attention.forward` with transposed scores.

    Args:
        attention: Whose weights to use.
        states: (Q, D), what asks.
        key_values: (T, D), what is asked.
        bias: Broadcastable to (H, T, Q).

    Returns:
        (Q, D).
    """
    heads, width = attention.num_heads, attention.head_dim
    query = attention.q_proj(states) * attention.scaling
    query = query.t().reshape(heads, width, -1)
    key = attention.k_proj(key_values).reshape(-1, heads, width).transpose(0, 1)
    value = attention.v_proj(key_values).t().reshape(heads, width, -1)
    scores = torch.matmul(key, query) + bias  # (H, T, Q)
    # The largest first, as in any softmax: no weights make it overflow, or divide by zero.
    weights = (scores - scores.amax(dim=1, keepdim=True)).exp()
    context = torch.matmul(value, weights) / weights.sum(dim=1, keepdim=True)  # (H, D / H, Q)
    return attention.out_proj(context.reshape(heads * width, -1).t())


def _attend_once(
    own_columns: Tensor, attention: Attention, states: Tensor, key_values: Tensor, bias: Tensor
) -> Tensor:
    """`Attention.forward` for one query, without keys and values.

    A score is q · (W x + b) = (q W) · x + q · b, and softmax takes out what all frames share. The
    weights of a head sum to 1, so that it gives W (mean of x) + b.

    Heads are told apart by masks: H rows are as fast as H small matrices, and these stay linear
    layers, which quantization knows.

    Args:
        own_columns: (H, D), 1 where a column belongs to the head.
        attention: Whose weights to use.
        states: (1, D), what asks.
        key_values: (T, D), what is asked.
        bias: (1, T, 1).

    Returns:
        (1, D).
    """
    heads, width = attention.num_heads, attention.head_dim
    query = attention.q_proj(states) * attention.scaling * own_columns
    query = F.linear(query, attention.k_proj.weight.t())
    # Transposed by way of the heads, and with a batch axis in the products: otherwise converters
    # make linear layers of them with computed weights, which XNNPACK leaves to a slower runtime,
    # and which would get quantized.
    frames = key_values.reshape(-1, heads, width).permute(1, 2, 0).reshape(1, heads * width, -1)
    scores = torch.matmul(query.unsqueeze(0), frames) + bias.reshape(1, 1, -1)
    weights = scores.softmax(dim=-1)  # (1, H, T)
    context = torch.matmul(weights, key_values.unsqueeze(0)).squeeze(0)
    context = attention.v_proj(context) * own_columns
    return attention.out_proj(context.sum(dim=0, keepdim=True))

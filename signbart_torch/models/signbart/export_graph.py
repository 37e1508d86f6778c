"""The same network, spelt for the CPU runtimes that exports end up in.

`for_export` changes no number but by rounding. What it changes is what XNNPACK is slow at, measured
in LiteRT on one thread:

* One clip, and so no batch axis: tensors are (T, D), and no RESHAPE surrounds the linear layers.
* What reads the same input is one product: q, k and v in self-attention, k and v elsewhere. In
  dynamic int8 an input is then quantized once and not three times.
* One query, as the last layer of the decoder has it, is multiplied into k's weights, and v's are
  multiplied by the mean of the frames that it attends to: no frame is projected to either.
* Scores stand as (keys, queries). Queries, values and context then change places by transposing one
  matrix each, and the product with the values fills the registers, which (T, T) x (T, D / H) leaves
  half empty for narrow heads. SOFTMAX only knows the last axis, and is slower than its parts.
* LayerNorm subtracts the mean once, and XNNPACK fuses the mean of squares.
* x and y part by transposing: a slice of every second number copies them one by one.

Parameters are the model's own but for projections that are joined or transposed, which are copies.
Legend: T frames,
Q queries, D model width, H heads, K keypoints, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from signbart.models.signbart import POSITION_OFFSET
from signbart_torch.models.signbart.attention import Attention, own_parts
from signbart_torch.models.signbart.decoder import DecoderLayer
from signbart_torch.models.signbart.encoder import EncoderLayer
from signbart_torch.models.signbart.layers import (
    PositionalEmbedding,
    causal_bias,
    last_frame_selector,
    padding_bias,
    sides,
)
from signbart_torch.models.signbart.model import SignBart


def for_export(model: SignBart) -> nn.Module:
    """The model for inference on one clip at a time: same inputs, same logits, a faster graph.

    Args:
        model: Is not changed. It lends its parameters; what is joined or transposed are
            copies, made now.
    """
    return _ExportGraph(model).eval()


def joined_projections(model: SignBart) -> Iterator[tuple[Attention, tuple[str, ...]]]:
    """Attentions of many queries, and which projections are one product there, in that order."""
    for layer in model.encoder.layers:
        yield layer.self_attn, ("q_proj", "k_proj", "v_proj")
    for layer in model.decoder.layers[:-1]:
        yield layer.self_attn, ("q_proj", "k_proj", "v_proj")
        yield layer.encoder_attn, ("k_proj", "v_proj")


def one_query_attentions(model: SignBart) -> tuple[str, ...]:
    """Paths of the attentions that ask for one frame: the last decoder layer's."""
    last_layer = f"decoder.layers.{len(model.decoder.layers) - 1}"
    return f"{last_layer}.self_attn", f"{last_layer}.encoder_attn"


class _ExportGraph(nn.Module):
    """See `for_export`."""

    def __init__(self, model: SignBart):
        super().__init__()
        self.model = model
        self.attentions = nn.ModuleList(
            JoinedAttention(*joined) for joined in joined_projections(model)
        )
        self.attentions.extend(
            _OneQuery(model.get_submodule(path)) for path in one_query_attentions(model)
        )

    def forward(self, keypoints: Tensor, attention_mask: Tensor) -> Tensor:
        """(1, T, K, 2) and (1, T) -> logits (1, C); see `SignBart.forward`."""
        if keypoints.shape[0] != 1:
            raise ValueError(f"the graph for export takes one clip, and not {keypoints.shape[0]}")
        model, dtype = self.model, keypoints.dtype
        axes, present = _coordinates(keypoints, attention_mask)
        num_frames = len(present)
        x, y = sides(axes, present, model.config.motion)
        # (1, keys, 1) and (1, keys, queries).
        padding = padding_bias(attention_mask, dtype).reshape(1, num_frames, 1)
        causal = padding + causal_bias(num_frames, dtype, keypoints.device).t()

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
        query = torch.matmul(selector, states.unsqueeze(0)).squeeze(0)  # (1, D)
        # No valid frame comes after the last one, so padding alone is its causal mask.
        decoded = _decoder_layer(last_layer, attentions, query, states, padding, encoded, padding)
        return model.classification_head.out_proj(decoded)


class JoinedAttention(nn.Module):
    """`Attention.forward` with joined projections and transposed scores.

    Args:
        attention: Whose weights to use.
        joined: Which projections are one product; q is among them, or read by itself.
    """

    def __init__(self, attention: Attention, joined: tuple[str, ...]):
        super().__init__()
        self.attention = attention
        self.q_proj = None if "q_proj" in joined else _join(attention, ("q_proj",))
        self.joined = _join(attention, joined)

    def forward(self, states: Tensor, key_values: Tensor, bias: Tensor) -> Tensor:
        """Attends.

        Args:
            states: (Q, D), what asks.
            key_values: (T, D), what is asked; `states` itself where q is joined.
            bias: Broadcastable to (H, T, Q).

        Returns:
            (Q, D).
        """
        attention = self.attention
        heads, width = attention.num_heads, attention.head_dim
        products = self.joined(key_values).split(heads * width, dim=1)
        query, key, value = products if self.q_proj is None else (self.q_proj(states), *products)
        query = query.t().reshape(heads, width, -1)
        key = key.reshape(-1, heads, width).transpose(0, 1)
        value = value.t().reshape(heads, width, -1)
        scores = torch.matmul(key, query) + bias  # (H, T, Q)
        # The largest first, as in any softmax: no weights make it overflow, or divide by zero.
        weights = (scores - scores.amax(dim=1, keepdim=True)).exp()
        context = torch.matmul(value, weights) / weights.sum(dim=1, keepdim=True)  # (H, D / H, Q)
        return attention.out_proj(context.reshape(heads * width, -1).t())


class _OneQuery(nn.Module):
    """`OneQueryAttention.forward` without a batch axis, and without the term that softmax drops.

    Args:
        attention: Whose weights to use.
    """

    def __init__(self, attention: Attention):
        super().__init__()
        self.attention = attention
        self.q_proj = _join(attention, ("q_proj",))
        weight = attention.k_proj.weight.detach()
        # Contiguous: LiteRT Torch 0.10 knows constants by the address of a contiguous copy, which
        # is gone when it copies the next one, and would take the first layer's for the second's.
        self.keys = nn.Parameter(weight.t().contiguous(), requires_grad=False)
        # Made here: converters would have every call make it.
        self.register_buffer("heads", own_parts(attention, weight.dtype), persistent=False)

    def forward(self, states: Tensor, key_values: Tensor, bias: Tensor) -> Tensor:
        """(1, D) asks (T, D), with a bias of (1, T, 1) -> (1, D)."""
        attention = self.attention
        queries = F.linear(self.q_proj(states) * self.heads, self.keys)  # (H, D)
        # By heads: converters would take a plain transpose for a FULLY_CONNECTED without weights.
        parts = queries.reshape(-1, attention.num_heads, attention.head_dim).permute(1, 2, 0)
        key_values = key_values.unsqueeze(0)
        scores = torch.matmul(key_values, parts.reshape(1, *queries.shape[::-1])) + bias
        weights = scores.transpose(1, 2).softmax(dim=-1)  # (1, H, T)
        mixed = torch.matmul(weights, key_values).squeeze(0)  # (H, D)
        context = (attention.v_proj(mixed) * self.heads).sum(dim=0, keepdim=True)
        return attention.out_proj(context)


def _join(attention: Attention, names: tuple[str, ...]) -> nn.Linear:
    """One layer with the outputs of several, behind each other; the scale is in q's weights."""
    parts = [getattr(attention, name) for name in names]
    factors = [attention.scaling if name == "q_proj" else 1.0 for name in names]
    first = parts[0].weight
    linear = nn.Linear(first.shape[1], len(names) * first.shape[0], device="meta")
    with torch.no_grad():
        weights = [part.weight * factor for part, factor in zip(parts, factors, strict=True)]
        biases = [part.bias * factor for part, factor in zip(parts, factors, strict=True)]
        linear.weight = nn.Parameter(torch.cat(weights), requires_grad=False)
        linear.bias = nn.Parameter(torch.cat(biases), requires_grad=False)
    return linear


def _coordinates(keypoints: Tensor, attention_mask: Tensor) -> tuple[list[Tensor], Tensor]:
    """(1, T, K, 2 or 3) -> x, y and perhaps z, each (T, K), zero in padded frames; mask (T, 1)."""
    _, num_frames, num_keypoints, coordinates = keypoints.shape
    frames = keypoints.reshape(num_frames, num_keypoints * coordinates)
    # A select and not a product: NaN * 0 is NaN.
    present = attention_mask.reshape(num_frames, 1)
    frames = torch.where(present > 0, frames, torch.zeros_like(frames))
    frames = frames.reshape(num_frames * num_keypoints, coordinates).t()
    axes = frames.reshape(coordinates, num_frames, num_keypoints).split(1)
    return [axis.squeeze(0) for axis in axes], present


def _embed(embed_positions: PositionalEmbedding, projection: nn.Linear, points: Tensor) -> Tensor:
    """(T, K) -> (T, D), projected and with positions."""
    positions = embed_positions.weight[POSITION_OFFSET : POSITION_OFFSET + len(points)]
    # One constant. Some converters would make it themselves, others not, and int8 products with and
    # without the bias have other ranges.
    return F.linear(points, projection.weight) + (positions + projection.bias)


def _encoder_layer(
    layer: EncoderLayer, self_attn: JoinedAttention, states: Tensor, padding: Tensor
) -> Tensor:
    """(T, D) -> (T, D)."""
    attended = self_attn(states, states, padding)
    states = layer_norm(layer.self_attn_layer_norm, states + attended)
    return _feed_forward(layer, states)


def _decoder_layer(
    layer: DecoderLayer,
    attentions: Iterator[JoinedAttention | _OneQuery],
    queries: Tensor,
    states: Tensor,
    self_bias: Tensor,
    encoded: Tensor,
    encoder_bias: Tensor,
) -> Tensor:
    """(Q, D), which attend to the decoder's (T, D) and the encoder's -> (Q, D)."""
    attended = next(attentions)(queries, states, self_bias)
    queries = layer_norm(layer.self_attn_layer_norm, queries + attended)
    attended = next(attentions)(queries, encoded, encoder_bias)
    queries = layer_norm(layer.encoder_attn_layer_norm, queries + attended)
    return _feed_forward(layer, queries)


def _feed_forward(layer: EncoderLayer | DecoderLayer, states: Tensor) -> Tensor:
    fed = layer.fc2(F.gelu(layer.fc1(states)))
    return layer_norm(layer.final_layer_norm, states + fed)


def layer_norm(norm: nn.LayerNorm, states: Tensor) -> Tensor:
    """`norm` of (T, D), spelt out."""
    centred = states - states.mean(dim=-1, keepdim=True)
    variance = (centred * centred).mean(dim=-1, keepdim=True)
    # Of rank 2: converters fold factors of rank 1 into the FULLY_CONNECTED behind them, though the
    # residual needs the product too. That saves nothing, and puts int8 weights on another grid than
    # the checkpoint's, which is the one that quantization-aware training trains for.
    weight, bias = norm.weight.unsqueeze(0), norm.bias.unsqueeze(0)
    return centred * torch.rsqrt(variance + norm.eps) * weight + bias

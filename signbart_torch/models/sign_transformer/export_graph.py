"""The sign Transformer, spelt for the CPU runtimes that exports end up in.

Legend: T frames, F features, D model width, H heads, C glosses, G categories.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from signbart.models.sign_transformer import (
    SIGN_TRANSFORMER_EPSILON,
)
from signbart.models.signbart import MASK_BIAS
from signbart_torch.models.sign_transformer.model import (
    Attention,
    LayerNorm,
    SignTransformer,
    pool_frames,
)


def for_export(model: SignTransformer) -> nn.Module:
    """The model for inference on one clip at a time: same inputs and outputs, a faster graph.

    Spelt in the way that SignBART's `export_graph` gives reasons for: no batch axis, every
    linear layer on (T, D), scores as (H, keys, queries).

    Args:
        model: Is not changed, and lends its parameters.
    """
    return _ExportGraph(model).eval()


class _ExportGraph(nn.Module):
    """See `for_export`."""

    def __init__(self, model: SignTransformer):
        super().__init__()
        self.model = model

    def forward(self, keypoints: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """(1, T, F) and (1, T) -> (1, C) and (1, G); see `SignTransformer.forward`."""
        if keypoints.shape[0] != 1:
            raise ValueError(f"the graph for export takes one clip, and not {keypoints.shape[0]}")
        model, pooling = self.model, self.model.config.pooling
        frames = keypoints.squeeze(0)
        present = attention_mask.reshape(-1, 1) > 0  # (T, 1)
        states = model.embedding(torch.where(present, frames, torch.zeros_like(frames)))
        bias = (1.0 - present.to(states.dtype)) * MASK_BIAS  # (T, 1)
        if pooling == "cls":
            states = torch.cat([model.cls_token[0], states], dim=0)
            bias = torch.cat([torch.zeros_like(bias[:1]), bias], dim=0)
        states = _layer_norm(model.input_norm, states + model.pos_encoder.pe[0, : len(states)])
        for layer in model.encoder_layers:
            attended = _attend(layer.attention, _layer_norm(layer.residual1.norm, states), bias)
            states = states + attended
            states = states + layer.feed_forward(_layer_norm(layer.residual2.norm, states))
        pooled = pool_frames(states.unsqueeze(0), present.unsqueeze(0), pooling)
        return {"gloss": model.gloss_head(pooled), "category": model.category_head(pooled)}


def _layer_norm(norm: LayerNorm, states: Tensor) -> Tensor:
    centred = states - states.mean(dim=-1, keepdim=True)
    variance = (centred * centred).mean(dim=-1, keepdim=True)
    gamma, beta = norm.gamma.unsqueeze(0), norm.beta.unsqueeze(0)
    return centred * torch.rsqrt(variance + SIGN_TRANSFORMER_EPSILON) * gamma + beta


def _attend(attention: Attention, states: Tensor, bias: Tensor) -> Tensor:
    """`Attention.forward` on (S, D), with scores (H, keys, queries) and a bias (S, 1)."""
    heads, width = attention.num_heads, attention.head_dim
    query = (attention.W_q(states) * attention.scaling).t().reshape(heads, width, -1)
    key = attention.W_k(states).reshape(-1, heads, width).transpose(0, 1)
    value = attention.W_v(states).t().reshape(heads, width, -1)
    scores = torch.matmul(key, query) + bias
    weights = (scores - scores.amax(dim=1, keepdim=True)).exp()
    context = torch.matmul(value, weights) / weights.sum(dim=1, keepdim=True)  # (H, D / H, S)
    return attention.W_o(context.reshape(heads * width, -1).t())

"""A pre-norm Transformer that scores glosses and categories from MediaPipe landmarks.

Parameter names are those of the published checkpoints, which load unchanged.
Legend: B batch, T frames, S tokens (T, or T + 1 behind a class token), F features, D model width,
H heads, C glosses, G categories.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from signbart.errors import ConfigError
from signbart.models.sign_transformer import (
    SIGN_TRANSFORMER_EPSILON,
    SignTransformerConfig,
    sinusoidal_positions,
)
from signbart_torch.models.signbart.dropout import Dropout, dropout
from signbart_torch.models.signbart.layers import padding_bias


class SignTransformer(nn.Module):
    """Classifies a sign twice: its gloss, and the category that the gloss belongs to.

    Raises:
        ConfigError: `config` does not say how many glosses there are, or the heads do not divide
            the model's width.
    """

    def __init__(self, config: SignTransformerConfig):
        super().__init__()
        if config.num_labels is None:
            raise ConfigError("model.num_labels is not set: say how many glosses there are")
        if config.d_model % config.attention_heads:
            raise ConfigError(
                f"model.d_model ({config.d_model}) is not divisible by model.attention_heads "
                f"({config.attention_heads})"
            )
        self.config = config
        self.embedding = nn.Linear(config.num_features, config.d_model)
        self.pos_encoder = PositionalEncoding(config)
        self.input_norm = LayerNorm(config.d_model)
        self.encoder_layers = nn.ModuleList(
            EncoderLayer(config) for _ in range(config.encoder_layers)
        )
        # Published checkpoints hold it whatever they pool by.
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.d_model).normal_(std=0.02))
        self.dropout = Dropout(config.dropout)
        self.gloss_head = _head(config, config.num_labels)
        self.category_head = _head(config, config.num_categories)

    def forward(self, keypoints: Tensor, attention_mask: Tensor | None = None) -> dict[str, Tensor]:
        """Scores each gloss and each category.

        Args:
            keypoints: (B, T, F) float, preprocessed; T at most `config.longest`. What padded frames
                hold, NaN included, is never read.
            attention_mask: (B, T) int, 1 a frame and 0 padding; need not be a prefix. None: every
                frame counts. A row without any frame gives finite logits that mean nothing.

        Returns:
            Logits: ``gloss`` (B, C) and ``category`` (B, G).
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(keypoints[..., 0], dtype=torch.int32)
        # A select and not a product: NaN * 0 is NaN.
        present = attention_mask[:, :, None] > 0
        states = self.embedding(torch.where(present, keypoints, torch.zeros_like(keypoints)))
        if self.config.pooling == "cls":
            token = self.cls_token.expand(states.shape[0], -1, -1)
            states = torch.cat([token, states], dim=1)
            attention_mask = F.pad(attention_mask, (1, 0), value=1)
        states = self.input_norm(self.dropout(self.pos_encoder(states)))
        bias = padding_bias(attention_mask, states.dtype)
        for layer in self.encoder_layers:
            states = layer(states, bias)
        pooled = self.dropout(pool_frames(states, present, self.config.pooling))
        return {"gloss": self.gloss_head(pooled), "category": self.category_head(pooled)}

    @property
    def num_parameters(self) -> int:
        """Trainable values."""
        return sum(parameter.numel() for parameter in self.parameters())


class PositionalEncoding(nn.Module):
    """Fixed positions; a buffer, for published checkpoints hold it."""

    pe: Tensor

    def __init__(self, config: SignTransformerConfig):
        super().__init__()
        table = torch.from_numpy(sinusoidal_positions(config.max_frames, config.d_model))
        self.register_buffer("pe", table.unsqueeze(0))

    def forward(self, states: Tensor) -> Tensor:
        """Adds to each token of (B, S, D) its position."""
        return states + self.pe[:, : states.shape[1]]


class LayerNorm(nn.Module):
    """Over the last axis, with biased variance, under the published names."""

    def __init__(self, d_model: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(d_model))
        self.beta = nn.Parameter(torch.zeros(d_model))

    def forward(self, states: Tensor) -> Tensor:
        """(…, D) -> (…, D)."""
        return F.layer_norm(
            states, self.gamma.shape, self.gamma, self.beta, SIGN_TRANSFORMER_EPSILON
        )


class Attention(nn.Module):
    """Scaled dot-product self-attention; the scale multiplies q, as in this project's SignBART."""

    def __init__(self, config: SignTransformerConfig):
        super().__init__()
        self.num_heads = config.attention_heads
        self.head_dim = config.d_model // config.attention_heads
        self.scaling = self.head_dim**-0.5
        self.dropout = config.dropout
        self.W_q = nn.Linear(config.d_model, config.d_model)
        self.W_k = nn.Linear(config.d_model, config.d_model)
        self.W_v = nn.Linear(config.d_model, config.d_model)
        self.W_o = nn.Linear(config.d_model, config.d_model)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """(B, S, D) and (B, 1, 1, S), which is added to the scores -> (B, S, D)."""
        query = self._split_heads(self.W_q(states) * self.scaling)
        key, value = self._split_heads(self.W_k(states)), self._split_heads(self.W_v(states))
        weights = (torch.matmul(query, key.transpose(-1, -2)) + bias).softmax(dim=-1)
        weights = dropout(weights, self.dropout, self.training)
        context = torch.matmul(weights, value)  # (B, H, S, D / H)
        return self.W_o(context.transpose(1, 2).flatten(2))

    def _split_heads(self, states: Tensor) -> Tensor:
        """(B, S, D) -> (B, H, S, D / H)."""
        return states.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers with ReLU between them."""

    def __init__(self, config: SignTransformerConfig):
        super().__init__()
        self.dropout = config.dropout
        self.linear1 = nn.Linear(config.d_model, config.ffn_dim)
        self.linear2 = nn.Linear(config.ffn_dim, config.d_model)

    def forward(self, states: Tensor) -> Tensor:
        """(…, D) -> (…, D)."""
        return self.linear2(dropout(F.relu(self.linear1(states)), self.dropout, self.training))


class Residual(nn.Module):
    """Holds the LayerNorm in front of a branch; published names say ``residual1.norm``."""

    def __init__(self, config: SignTransformerConfig):
        super().__init__()
        self.norm = LayerNorm(config.d_model)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each with a LayerNorm in front and a residual around."""

    def __init__(self, config: SignTransformerConfig):
        super().__init__()
        self.dropout = config.dropout
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)
        self.residual1 = Residual(config)
        self.residual2 = Residual(config)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """(B, S, D) with the bias of `padding_bias` -> (B, S, D)."""
        attended = self.attention(self.residual1.norm(states), bias)
        states = states + dropout(attended, self.dropout, self.training)
        fed = self.feed_forward(self.residual2.norm(states))
        return states + dropout(fed, self.dropout, self.training)


def _head(config: SignTransformerConfig, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(config.d_model, config.d_model // 2),
        nn.ReLU(),
        Dropout(config.dropout),
        nn.Linear(config.d_model // 2, classes),
    )


def pool_frames(states: Tensor, present: Tensor, pooling: str) -> Tensor:
    """(B, S, D) and (B, T, 1), true where a frame is -> (B, D)."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "max":
        # The least of all stands in for padding: it wins nowhere, and overflows in no precision.
        return torch.where(present, states, states.amin(dim=1, keepdim=True)).amax(dim=1)
    weights = present.to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)

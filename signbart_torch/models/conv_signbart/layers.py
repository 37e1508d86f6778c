"""Convolution blocks, the Transformer layer between them, and the head.

Legend: B batch, T frames, D model width, W channels of a convolution, C classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from signbart.models.conv_signbart import (
    BATCH_NORM_EPSILON,
    BATCH_NORM_MOMENTUM,
    BELOW_ALL,
    ConvSignBartConfig,
)
from signbart.models.signbart import LAYER_NORM_EPSILON
from signbart_torch.models.signbart.attention import Attention
from signbart_torch.models.signbart.dropout import dropout


class BatchNorm(nn.Module):
    """Normalises each channel over all frames of a batch that are there.

    In inference mode, and while it is frozen, by its running statistics. Padded frames get 0 while
    it trains.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """(B, T, W) and (B, T, 1), 1 a frame and 0 padding -> (B, T, W)."""
        if not (self.training and self.weight.requires_grad):
            scale, shift = self.affine()
            return states * scale + shift
        if states.device.type != "cpu":
            return self.by_mask(states, present)
        there = present[..., 0] > 0
        whole = bool(there.all())
        frames = states.flatten(0, 1) if whole else states[there]
        if len(frames) < 2:  # a lone frame has no variance
            scale, shift = self.affine()
            return states * scale + shift
        normed = F.batch_norm(
            frames,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            True,
            BATCH_NORM_MOMENTUM,
            BATCH_NORM_EPSILON,
        )
        if whole:
            return normed.view_as(states)
        return torch.zeros_like(states).masked_scatter(there[..., None], normed)

    def by_mask(self, states: Tensor, present: Tensor) -> Tensor:
        """What `forward` does while it trains, by one course whatever the mask holds.

        Asking a GPU how many frames are there would wait for it, and a CUDA graph cannot ask.
        """
        there, wide = (present > 0).float(), states.float()
        count = there.sum()
        mean = (wide * there).sum(dim=(0, 1)) / count.clamp(min=1)
        centred = (wide - mean) * there
        variance = centred.square().sum(dim=(0, 1)) / count.clamp(min=1)
        lone = count < 2  # a lone frame has no variance
        with torch.no_grad():
            momentum = torch.where(lone, 0.0, BATCH_NORM_MOMENTUM)
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), momentum)
        normed = centred * (self.weight * torch.rsqrt(variance + BATCH_NORM_EPSILON))
        scale, shift = self.affine()
        found = torch.where(lone, wide * scale + shift, normed + self.bias * there)
        return found.to(states.dtype)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift (W,) that it is in inference mode."""
        scale = self.weight * torch.rsqrt(self.running_var + BATCH_NORM_EPSILON)
        return scale, self.bias - self.running_mean * scale


class DepthwiseConv(nn.Module):
    """Each channel's own convolution over frames, and BatchNorm; the norm's shift is the bias."""

    def __init__(self, channels: int, kernel_size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, kernel_size))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # as nn.Conv1d does
        self.norm = BatchNorm(channels)

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """(B, T, W), zero in padded frames, and (B, T, 1) -> (B, T, W)."""
        return self.norm(convolve(states, self.weight), present)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight (W, 1, frames) and bias (W,) of the convolution that it is in inference mode."""
        scale, shift = self.norm.affine()
        return self.weight * scale[:, None, None], shift


def convolve(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A convolution of each channel by itself, zeros before and behind.

    Two-dimensional, of height 1, over channels that stay last in memory, where LiteRT has them: so
    every converter writes one DEPTHWISE_CONV_2D. Of a `conv1d`, or of maps in the usual order,
    LiteRT Torch makes two TRANSPOSE more, and onnx2tf a CONV_2D of groups, or nothing.

    Args:
        states: (B, T, W).
        weight: (W, 1, frames).
        bias: (W,).

    Returns:
        (B, T, W).
    """
    channels, _, frames = weight.shape
    maps = states.unsqueeze(1).permute(0, 3, 1, 2)  # (B, W, 1, T)
    padding = (0, frames // 2)
    maps = F.conv2d(maps, weight.unsqueeze(2), bias, padding=padding, groups=channels)
    return maps.permute(0, 2, 3, 1).squeeze(1)


class ConvBlock(nn.Module):
    """LayerNorm, expansion, depthwise convolution, contraction, and a residual around it all."""

    def __init__(self, config: ConvSignBartConfig):
        super().__init__()
        self.dropout = config.dropout
        self.layer_norm = nn.LayerNorm(config.d_model, LAYER_NORM_EPSILON)
        self.expand = nn.Linear(config.d_model, config.width)
        self.depthwise = DepthwiseConv(config.width, config.kernel_size)
        self.contract = nn.Linear(config.width, config.d_model)

    def forward(self, hidden_states: Tensor, present: Tensor) -> Tensor:
        """(B, T, D) and (B, T, 1), 1 a frame and 0 padding -> (B, T, D)."""
        # What a convolution sees of padding is what it sees beyond the clip: zeros.
        expanded = F.gelu(self.expand(self.layer_norm(hidden_states))) * present
        contracted = self.contract(F.gelu(self.depthwise(expanded, present)))
        return hidden_states + dropout(contracted, self.dropout, self.training)


class AttentionLayer(nn.Module):
    """Self-attention and feed-forward, each behind a LayerNorm and with a residual around it."""

    def __init__(self, config: ConvSignBartConfig):
        super().__init__()
        self.dropout = config.dropout
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model, LAYER_NORM_EPSILON)
        self.self_attn = Attention(config.d_model, config.attention_heads, 0.0)
        self.final_layer_norm = nn.LayerNorm(config.d_model, LAYER_NORM_EPSILON)
        self.fc1 = nn.Linear(config.d_model, config.ffn_dim)
        self.fc2 = nn.Linear(config.ffn_dim, config.d_model)

    def forward(self, hidden_states: Tensor, padding: Tensor) -> Tensor:
        """(B, T, D) with the bias of `padding_bias` -> (B, T, D)."""
        normed = self.self_attn_layer_norm(hidden_states)
        attended = self.self_attn(normed, normed, padding)
        hidden_states = hidden_states + dropout(attended, self.dropout, self.training)
        fed = self.fc2(F.gelu(self.fc1(self.final_layer_norm(hidden_states))))
        return hidden_states + dropout(fed, self.dropout, self.training)


class Head(nn.Module):
    """Mean and maximum over the frames that are there, LayerNorm, dropout and one linear layer."""

    def __init__(self, config: ConvSignBartConfig):
        super().__init__()
        self.dropout = config.classifier_dropout
        self.layer_norm = nn.LayerNorm(2 * config.d_model, LAYER_NORM_EPSILON)
        self.out_proj = nn.Linear(2 * config.d_model, config.num_labels)

    def forward(self, hidden_states: Tensor, present: Tensor) -> Tensor:
        """(B, T, D) and (B, T, 1) -> (B, C)."""
        pooled = self.layer_norm(pool(hidden_states, present))
        return self.out_proj(dropout(pooled, self.dropout, self.training))


def pool(hidden_states: Tensor, present: Tensor) -> Tensor:
    """(…, T, D), finite, and (…, T, 1) -> (…, 2 D), mean and maximum over frames."""
    there = hidden_states * present
    mean = there.sum(dim=-2) / present.sum(dim=-2).clamp(min=1)
    largest = (there + (1 - present) * BELOW_ALL).amax(dim=-2)
    return torch.cat([mean, largest], dim=-1)

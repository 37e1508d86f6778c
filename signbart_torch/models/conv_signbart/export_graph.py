"""The same network, spelt for the CPU runtimes that exports end up in.

`for_export` changes no number but by rounding: BatchNorm is part of the convolution in front of it,
and one clip has no batch axis, as in `signbart_torch.models.signbart.export_graph`, whose attention
and LayerNorm it takes. Convolutions are (1, 1, T, W), DEPTHWISE_CONV_2D on every route.

Legend: T frames, F numbers a frame, D model width, W channels of a convolution, C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from signbart.models.signbart import POSITION_OFFSET
from signbart_torch.models.conv_signbart.layers import ConvBlock, DepthwiseConv, convolve, pool
from signbart_torch.models.conv_signbart.model import ConvSignBart
from signbart_torch.models.motion import with_motion
from signbart_torch.models.signbart.attention import Attention
from signbart_torch.models.signbart.export_graph import JoinedAttention, layer_norm
from signbart_torch.models.signbart.layers import padding_bias


def for_export(model: ConvSignBart) -> nn.Module:
    """The model for inference on one clip at a time: same inputs, same logits, a faster graph.

    Args:
        model: Is not changed. What is joined or folded are copies, made now.
    """
    return _ExportGraph(folded(model)).eval()


def folded(model: ConvSignBart) -> ConvSignBart:
    """A copy for inference alone, with each BatchNorm in the convolution in front of it."""
    model = copy.deepcopy(model).eval()
    for part in list(model.modules()):
        if isinstance(part, ConvBlock):
            part.depthwise = _FoldedConv(part.depthwise)
    return model


def joined_projections(model: ConvSignBart) -> Iterator[tuple[Attention, tuple[str, ...]]]:
    """Every attention, and which of its projections are one product in the graph for export."""
    yield model.attention.self_attn, ("q_proj", "k_proj", "v_proj")


class _FoldedConv(nn.Module):
    """`DepthwiseConv` in inference mode, as one convolution with a bias."""

    def __init__(self, conv: DepthwiseConv):
        super().__init__()
        with torch.no_grad():
            weight, bias = conv.folded()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        return convolve(states, self.weight, self.bias)


class _ExportGraph(nn.Module):
    """See `for_export`."""

    def __init__(self, model: ConvSignBart):
        super().__init__()
        self.model = model
        ((attention, names),) = joined_projections(model)
        self.self_attn = JoinedAttention(attention, names)

    def forward(self, keypoints: Tensor, attention_mask: Tensor) -> Tensor:
        """(1, T, K, 2 or 3) and (1, T) -> logits (1, C); see `ConvSignBart.forward`."""
        if keypoints.shape[0] != 1:
            raise ValueError(f"the graph for export takes one clip, and not {keypoints.shape[0]}")
        model, num_frames = self.model, keypoints.shape[1]
        frames = keypoints.reshape(num_frames, -1)
        mask = attention_mask.reshape(num_frames, 1)
        # A select and not a product: NaN * 0 is NaN.
        frames = torch.where(mask > 0, frames, torch.zeros_like(frames))
        if model.config.motion:
            frames = with_motion(frames, mask)
        present = mask.to(frames.dtype)
        states = model.input_projection(frames)
        for block in model.blocks_before:
            states = _block(block, states, present)
        positions = model.embed_positions.weight[POSITION_OFFSET : POSITION_OFFSET + num_frames]
        padding = padding_bias(attention_mask, frames.dtype).reshape(1, num_frames, 1)
        states = self._attention_layer(states + positions, padding)
        for block in model.blocks_after:
            states = _block(block, states, present)
        head = model.head
        return head.out_proj(layer_norm(head.layer_norm, pool(states, present).unsqueeze(0)))

    def _attention_layer(self, states: Tensor, padding: Tensor) -> Tensor:
        """(T, D) -> (T, D)."""
        layer = self.model.attention
        normed = layer_norm(layer.self_attn_layer_norm, states)
        states = states + self.self_attn(normed, normed, padding)
        normed = layer_norm(layer.final_layer_norm, states)
        return states + layer.fc2(F.gelu(layer.fc1(normed)))


def _block(block: ConvBlock, states: Tensor, present: Tensor) -> Tensor:
    """(T, D) and (T, 1) -> (T, D)."""
    expanded = F.gelu(block.expand(layer_norm(block.layer_norm, states))) * present
    convolved = block.depthwise(expanded.unsqueeze(0), present).squeeze(0)
    return states + block.contract(F.gelu(convolved))

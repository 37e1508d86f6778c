"""The small parts: position embedding, coordinate projection, head, and the two mask biases.

Legend: B batch, T frames, K keypoints, F numbers a frame, D model width, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from signbart.models.signbart import (
    MASK_BIAS,
    POSITION_INIT_STD,
    POSITION_OFFSET,
    SignBartConfig,
)
from signbart_torch.models.motion import with_motion
from signbart_torch.models.signbart.dropout import dropout


class PositionalEmbedding(nn.Embedding):
    """Learned positions 0 … P-1, stored behind `POSITION_OFFSET` unused rows."""

    def __init__(self, max_position_embeddings: int, d_model: int):
        super().__init__(max_position_embeddings + POSITION_OFFSET, d_model)
        nn.init.normal_(self.weight, std=POSITION_INIT_STD)

    def forward(self, states: Tensor) -> Tensor:
        """Adds to each frame of (B, T, D) its position's embedding."""
        return states + self.weight[POSITION_OFFSET : POSITION_OFFSET + states.shape[1]]


class Projection(nn.Module):
    """Embeds each frame's x coordinates and y coordinates apart from each other.

    Where there are three, depth goes with both; and so does the motion of each side's own.
    """

    def __init__(self, config: SignBartConfig):
        super().__init__()
        self.motion = config.motion
        self.proj_x1 = nn.Linear(config.num_inputs, config.d_model)
        self.proj_y1 = nn.Linear(config.num_inputs, config.d_model)

    def forward(self, keypoints: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, K, 2 or 3), zero in padded frames, and (B, T) -> two of (B, T, D)."""
        axes = [keypoints[..., axis] for axis in range(keypoints.shape[-1])]
        x, y = sides(axes, attention_mask[:, :, None], self.motion)
        return self.proj_x1(x), self.proj_y1(y)


def sides(axes: Sequence[Tensor], present: Tensor, motion: bool) -> tuple[Tensor, Tensor]:
    """What encoder and decoder read of each frame.

    Args:
        axes: x, y and perhaps z, each (…, T, K), zero in padded frames.
        present: (…, T, 1), 1 a frame and 0 padding.
        motion: Whether it is added; see `with_motion`.

    Returns:
        Two of (…, T, F).
    """
    x, y, *depth = axes
    if depth:
        x, y = torch.cat([x, *depth], dim=-1), torch.cat([y, *depth], dim=-1)
    return (with_motion(x, present), with_motion(y, present)) if motion else (x, y)


class ClassificationHead(nn.Module):
    """Dropout and one linear layer."""

    def __init__(self, d_model: int, num_labels: int, dropout_rate: float):
        super().__init__()
        self.dropout = dropout_rate
        self.out_proj = nn.Linear(d_model, num_labels)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(B, D) -> (B, C)."""
        return self.out_proj(dropout(hidden_states, self.dropout, self.training))


def padding_bias(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, T) 1 / 0 -> (B, 1, 1, T): 0 for a frame, `MASK_BIAS` for padding, for every query."""
    return (1.0 - attention_mask[:, None, None, :].to(dtype)) * MASK_BIAS


def causal_bias(num_frames: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(T, T): query t sees the keys up to t."""
    index = torch.arange(num_frames, dtype=torch.int32, device=device)
    return (index > index[:, None]).to(dtype) * MASK_BIAS


def last_frame_selector(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, T) 1 / 0 -> (B, 1, T), one-hot at each row's last frame.

    The last *index* that holds 1, since masks need not be a prefix. Multiplying by it is exact, and
    every runtime has a matrix product, while gathers differ. A row without any frame selects 0.
    """
    frames = attention_mask.shape[1]
    index = torch.arange(frames, dtype=torch.int32, device=attention_mask.device)
    last = (attention_mask * index.to(attention_mask.dtype)).amax(dim=1, keepdim=True)
    return (index == last).to(dtype)[:, None, :]

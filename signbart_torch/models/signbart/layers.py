"""The small parts: position embedding, coordinate projection, head, and the two mask biases.

Legend: B batch, T frames, K keypoints, D model width, C classes.
"""

import torch
from torch import Tensor, nn

from signbart.models.signbart import MASK_BIAS, POSITION_INIT_STD, POSITION_OFFSET
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
    """Embeds each frame's x coordinates and y coordinates apart from each other."""

    def __init__(self, num_keypoints: int, d_model: int):
        super().__init__()
        self.proj_x1 = nn.Linear(num_keypoints, d_model)
        self.proj_y1 = nn.Linear(num_keypoints, d_model)

    def forward(self, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, K, 2) -> two of (B, T, D)."""
        return self.proj_x1(keypoints[..., 0]), self.proj_y1(keypoints[..., 1])


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
    index = torch.arange(num_frames, device=device)
    return (index > index[:, None]).to(dtype) * MASK_BIAS


def last_frame_selector(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, T) 1 / 0 -> (B, 1, T), one-hot at each row's last frame.

    The last *index* that holds 1, since masks need not be a prefix. Multiplying by it is exact, and
    every runtime has a matrix product, while gathers differ. A row without any frame selects 0.
    """
    index = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    last = (attention_mask * index.to(attention_mask.dtype)).amax(dim=1, keepdim=True)
    return (index == last).to(dtype)[:, None, :]

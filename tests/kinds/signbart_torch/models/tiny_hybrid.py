"""Legend: B batch, T frames, K keypoints, D model width, C classes."""

import torch
from torch import nn
from torch.nn import functional as F

from signbart.models.signbart import MASK_BIAS


class TinyHybrid(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        width, padding = config.d_model, config.width // 2
        self.embedding = nn.Linear(3 * config.num_keypoints, width)
        self.depthwise = nn.Conv1d(width, width, config.width, padding=padding, groups=width)
        self.pointwise = nn.Conv1d(width, 2 * width, config.width, padding=padding)
        self.norm = nn.BatchNorm1d(2 * width)
        self.q_proj, self.k_proj = nn.Linear(2 * width, width), nn.Linear(2 * width, width)
        self.v_proj = nn.Linear(2 * width, width)
        self.head = nn.Linear(width, config.num_labels)

    def forward(self, keypoints, attention_mask):
        """(B, T, K, 3) and (B, T) -> (B, C)."""
        mask = attention_mask[:, :, None]
        present = mask.to(keypoints.dtype)
        frames = keypoints.flatten(2)
        frames = torch.where(mask > 0, frames, torch.zeros_like(frames))
        # Zeros behind the clip: a convolution must not see how much padding there is.
        states = (self.embedding(frames) * present).transpose(1, 2)
        states = F.relu(self.depthwise(states)) * present.transpose(1, 2)
        states = F.relu(self.norm(self.pointwise(states))).transpose(1, 2)
        scores = self.q_proj(states) @ self.k_proj(states).transpose(1, 2)
        # Of the mask itself: TensorFlow's converter makes x - 1 of 1 - transpose(x).
        bias = (1 - attention_mask[:, None].to(scores.dtype)) * MASK_BIAS
        scores = scores * self.config.d_model**-0.5 + bias
        attended = scores.softmax(dim=-1) @ self.v_proj(states)
        pooled = (attended * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)
        return self.head(pooled)


Network = TinyHybrid


def for_export(model):
    return model

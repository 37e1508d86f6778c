"""Two GRU layers that score glosses and categories from MediaPipe landmarks.

Parameter names are those of the published checkpoints, which load unchanged.
Legend: B batch, T frames, F features, U a GRU's units, C glosses, G categories.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from signbart.errors import ConfigError
from signbart.models.mediapipe_gru import HOLD, MediapipeGruConfig
from signbart_torch.models.signbart.dropout import Dropout


class MediapipeGru(nn.Module):
    """Classifies a sign twice: its gloss, and the category that the gloss belongs to.

    Raises:
        ConfigError: `config` does not say how many glosses there are.
    """

    def __init__(self, config: MediapipeGruConfig):
        super().__init__()
        if config.num_labels is None:
            raise ConfigError("model.num_labels is not set: say how many glosses there are")
        self.config = config
        features, directions = config.num_features, 1 + config.bidirectional
        self.input_projection = None
        if config.projection_dim is not None:
            self.input_projection = nn.Linear(features, config.projection_dim)
            features = config.projection_dim
        self.gru1 = _gru(features, config.hidden1, config.bidirectional)
        self.gru2 = _gru(config.hidden1 * directions, config.hidden2, config.bidirectional)
        self.dropout = Dropout(config.dropout)
        self.gloss_head = nn.Linear(config.hidden2 * directions, config.num_labels)
        self.category_head = nn.Linear(config.hidden2 * directions, config.num_categories)

    def forward(self, keypoints: Tensor, attention_mask: Tensor | None = None) -> dict[str, Tensor]:
        """Scores each gloss and each category.

        Args:
            keypoints: (B, T, F) float, preprocessed. What padded frames hold, NaN included, is
                never read.
            attention_mask: (B, T) int, 1 a frame and 0 padding; need not be a prefix: padding
                leaves the state as it is. None: every frame counts. A row without any frame gives
                finite logits that mean nothing.

        Returns:
            Logits: ``gloss`` (B, C) and ``category`` (B, G).
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(keypoints[..., 0], dtype=torch.int32)
        # A select and not a product: NaN * 0 is NaN.
        present = attention_mask[:, :, None] > 0
        states = torch.where(present, keypoints, torch.zeros_like(keypoints))
        if self.input_projection is not None:
            states = self.input_projection(states)
        padding = 1.0 - present.to(states.dtype)
        states, _ = run_gru(self.gru1, states, padding)
        _, last = run_gru(self.gru2, self.dropout(states), padding)
        last = self.dropout(last)
        return {"gloss": self.gloss_head(last), "category": self.category_head(last)}

    @property
    def num_parameters(self) -> int:
        """Trainable values."""
        return sum(parameter.numel() for parameter in self.parameters())


def _gru(features: int, units: int, bidirectional: bool) -> nn.GRU:
    gru = nn.GRU(features, units, batch_first=True, bidirectional=bidirectional)
    for name, parameter in gru.named_parameters():
        if name.startswith("weight_hh"):
            # Products of an orthogonal matrix neither grow nor vanish over 300 frames.
            nn.init.orthogonal_(parameter)
        elif name.startswith("weight_ih"):
            nn.init.xavier_uniform_(parameter)
        else:
            nn.init.zeros_(parameter)
    return gru


def directions_of(gru: nn.GRU) -> list[list[Tensor]]:
    """weight_ih (3U, F), weight_hh (3U, U), bias_ih and bias_hh (3U) of each direction.

    Rows are the gates r, z, n.
    """
    suffixes = ("", "_reverse") if gru.bidirectional else ("",)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return [[getattr(gru, name + suffix) for name in names] for suffix in suffixes]


def holding(weight_ih: Tensor) -> Tensor:
    """(3U, F) -> (3U, F + 1): how a frame's padding, 1 or 0, is told to one GRU operator.

    The new feature opens the update gate z so far that the state is kept. No operator of any
    runtime takes a mask with holes, and they all take one more feature.
    """
    units = weight_ih.shape[0] // 3
    column = torch.zeros_like(weight_ih[:, :1])
    column[units : 2 * units] = HOLD
    return torch.cat([weight_ih, column], dim=1)


def run_gru(gru: nn.GRU, inputs: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
    """Runs a layer that leaves its state as it is in padded frames.

    Args:
        gru: One layer, of one or both directions.
        inputs: (B, T, F), finite.
        padding: (B, T, 1), 1 in padded frames and 0 in others.

    Returns:
        States (B, T, directions * U), and each direction's last one (B, directions * U).
    """
    directions = directions_of(gru)
    weights = [
        tensor for weight_ih, *others in directions for tensor in (holding(weight_ih), *others)
    ]
    start = inputs.new_zeros(len(directions), inputs.shape[0], gru.hidden_size)
    states, last = torch.gru(
        torch.cat([inputs, padding], dim=-1),
        start,
        weights,
        has_biases=True,
        num_layers=1,
        dropout=0.0,
        train=gru.training,
        bidirectional=gru.bidirectional,
        batch_first=True,
    )
    return states, last.transpose(0, 1).flatten(1)

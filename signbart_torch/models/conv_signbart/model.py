"""ConvSignBART: SignBART's attention between 1-D convolutions, over all coordinates and motion.

Legend: B batch, T frames, K keypoints, D model width, C classes.
"""

import torch
from torch import Tensor, nn

from signbart.errors import ConfigError
from signbart.models.conv_signbart import ConvSignBartConfig
from signbart_torch.models.conv_signbart.layers import AttentionLayer, ConvBlock, Head
from signbart_torch.models.motion import with_motion
from signbart_torch.models.signbart.layers import PositionalEmbedding, padding_bias


class ConvSignBart(nn.Module):
    """Classifies a sign from keypoints.

    Raises:
        ConfigError: `config` does not say how many classes, keypoints or coordinates there are.
    """

    def __init__(self, config: ConvSignBartConfig):
        super().__init__()
        if config.num_labels is None:
            raise ConfigError("model.num_labels is not set: say how many classes there are")
        self.config = config
        self.input_projection = nn.Linear(config.num_inputs, config.d_model)
        self.blocks_before = nn.ModuleList(ConvBlock(config) for _ in range(config.blocks_before))
        self.embed_positions = PositionalEmbedding(config.max_position_embeddings, config.d_model)
        self.attention = AttentionLayer(config)
        self.blocks_after = nn.ModuleList(ConvBlock(config) for _ in range(config.blocks_after))
        self.head = Head(config)

    def forward(self, keypoints: Tensor, attention_mask: Tensor) -> Tensor:
        """Scores each class.

        Args:
            keypoints: (B, T, K, 2 or 3) float, preprocessed, by `config.coordinates`; T at most
                `config.max_position_embeddings`. What padded frames hold, NaN included, is never
                read.
            attention_mask: (B, T) int, 1 a frame and 0 padding; need not be a prefix. A row
                without any frame gives finite logits that mean nothing.

        Returns:
            Logits (B, C).
        """
        frames = keypoints.flatten(2)
        mask = attention_mask[:, :, None]
        # A select and not a product: NaN * 0 is NaN.
        frames = torch.where(mask > 0, frames, torch.zeros_like(frames))
        if self.config.motion:
            frames = with_motion(frames, mask)
        present = mask.to(frames.dtype)
        hidden_states = self.input_projection(frames)
        for block in self.blocks_before:
            hidden_states = block(hidden_states, present)
        padding = padding_bias(attention_mask, frames.dtype)
        hidden_states = self.attention(self.embed_positions(hidden_states), padding)
        for block in self.blocks_after:
            hidden_states = block(hidden_states, present)
        return self.head(hidden_states, present)

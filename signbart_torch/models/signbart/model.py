"""SignBART (arXiv:2506.21592): x goes through the encoder, y through the decoder.

Parameter names are those of the published checkpoints, which load unchanged.
Legend: B batch, T frames, K keypoints, D model width, C classes.
"""

import torch
from torch import Tensor, nn

from signbart.errors import ConfigError
from signbart.models.signbart import SignBartConfig
from signbart_torch.models.signbart.decoder import Decoder
from signbart_torch.models.signbart.encoder import Encoder
from signbart_torch.models.signbart.layers import ClassificationHead, Projection


class SignBart(nn.Module):
    """Classifies a sign from keypoints.

    Raises:
        ConfigError: `config` does not say how many classes or keypoints there are.
    """

    def __init__(self, config: SignBartConfig):
        super().__init__()
        if config.num_labels is None:
            raise ConfigError("model.num_labels is not set: say how many classes there are")
        self.config = config
        self.projection = Projection(config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.classification_head = ClassificationHead(
            config.d_model, config.num_labels, config.classifier_dropout
        )

    def forward(self, keypoints: Tensor, attention_mask: Tensor) -> Tensor:
        """Scores each class.

        Args:
            keypoints: (B, T, K, 2) float, preprocessed x and y, or (B, T, K, 3) with z where
                `config.coordinates` is 3; T at most `config.max_position_embeddings`. What padded
                frames hold, NaN included, is never read.
            attention_mask: (B, T) int, 1 a frame and 0 padding; need not be a prefix. A row
                without any frame gives finite logits that mean nothing.

        Returns:
            Logits (B, C).
        """
        # A select and not a product: NaN * 0 is NaN.
        present = attention_mask[:, :, None, None] > 0
        keypoints = torch.where(present, keypoints, torch.zeros_like(keypoints))
        x_embed, y_embed = self.projection(keypoints, attention_mask)
        encoded = self.encoder(x_embed, attention_mask)
        decoded = self.decoder(y_embed, encoded, attention_mask)  # (B, 1, D)
        return self.classification_head(decoded[:, 0])

    @property
    def num_parameters(self) -> int:
        """Trainable values, shared ones counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

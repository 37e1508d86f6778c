"""SignBART (arXiv:2506.21592) in Keras 3: x through the encoder, y through the decoder.

Legend: B batch, T frames, K keypoints, D model width, C classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from signbart.configuration.reading import model_from_dict
from signbart.errors import ConfigError
from signbart.models.signbart import SignBartConfig
from signbart_tf.models.signbart.decoder import Decoder
from signbart_tf.models.signbart.encoder import Encoder
from signbart_tf.models.signbart.layers import PACKAGE, ClassificationHead, Projection


@keras.saving.register_keras_serializable(PACKAGE)
class SignBart(keras.Model):
    """Classifies a sign from keypoints; the twin of `signbart_torch`'s `SignBart`.

    Raises:
        ConfigError: `config` does not say how many classes or keypoints there are.
    """

    def __init__(self, config: SignBartConfig, name: str = "sign_bart", **kwargs):
        super().__init__(name=name, **kwargs)
        if config.num_labels is None:
            raise ConfigError("model.num_labels is not set: say how many classes there are")
        self.config = config
        self.projection = Projection(config, name="projection")
        self.encoder = Encoder(config, name="encoder")
        self.decoder = Decoder(config, name="decoder")
        self.classification_head = ClassificationHead(
            config.d_model,
            config.num_labels,
            config.classifier_dropout,
            name="classification_head",
        )
        self.built = True

    def call(self, inputs: Mapping[str, Any], training: bool | None = None) -> dict[str, Any]:
        """Scores each class.

        Args:
            inputs: Dict of ``keypoints`` (B, T, K, 2) float, preprocessed x and y, or
                (B, T, K, 3) with z where `config.coordinates` is 3, and ``attention_mask`` (B, T)
                int, 1 a frame and 0 padding, which need not be a prefix. What padded frames hold,
                NaN included, is never read.
            training: Whether dropout is active.

        Returns:
            Dict of ``logits`` (B, C): exports name their output by its key.
        """
        keypoints, attention_mask = inputs["keypoints"], inputs["attention_mask"]
        # A select and not a product: NaN * 0 is NaN.
        present = attention_mask[:, :, None, None] > 0
        keypoints = ops.where(present, keypoints, ops.zeros_like(keypoints))
        x_embed, y_embed = self.projection(keypoints, attention_mask)
        encoded = self.encoder(x_embed, attention_mask, training=training)
        decoded = self.decoder(y_embed, encoded, attention_mask, training=training)  # (B, 1, D)
        return {"logits": self.classification_head(decoded[:, 0], training=training)}

    def get_config(self):
        """What `from_config` builds the same model from."""
        return {"config": dataclasses.asdict(self.config), "name": self.name}

    @classmethod
    def from_config(cls, config):
        """The model that `get_config` described."""
        return cls(model_from_dict(config["config"], source="Keras model"), name=config["name"])

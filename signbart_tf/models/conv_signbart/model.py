"""ConvSignBART in Keras 3: SignBART's attention between 1-D convolutions.

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
from signbart.models.conv_signbart import KIND, ConvSignBartConfig
from signbart_tf.models.conv_signbart.layers import AttentionLayer, ConvBlock, Head
from signbart_tf.models.motion import with_motion
from signbart_tf.models.signbart.layers import PACKAGE, PositionalEmbedding, dense, padding_bias


@keras.saving.register_keras_serializable(PACKAGE)
class ConvSignBart(keras.Model):
    """Classifies a sign from keypoints; the twin of `signbart_torch`'s `ConvSignBart`.

    Raises:
        ConfigError: `config` does not say how many classes, keypoints or coordinates there are.
    """

    def __init__(self, config: ConvSignBartConfig, name: str = "conv_sign_bart", **kwargs):
        super().__init__(name=name, **kwargs)
        if config.num_labels is None:
            raise ConfigError("model.num_labels is not set: say how many classes there are")
        self.config = config
        self.input_projection = dense(config.d_model, config.num_inputs, "input_projection")
        self.blocks_before = _blocks(config, "blocks_before", config.blocks_before)
        self.embed_positions = PositionalEmbedding(
            config.max_position_embeddings, config.d_model, name="embed_positions"
        )
        self.attention = AttentionLayer(config, name="attention")
        self.blocks_after = _blocks(config, "blocks_after", config.blocks_after)
        self.head = Head(config, name="head")
        self.built = True

    def call(self, inputs: Mapping[str, Any], training: bool | None = None) -> dict[str, Any]:
        """Scores each class.

        Args:
            inputs: Dict of ``keypoints`` (B, T, K, 2 or 3) float, preprocessed, by
                `config.coordinates`, and ``attention_mask`` (B, T) int, 1 a frame and 0 padding,
                which need not be a prefix. What padded frames hold, NaN included, is never read.
            training: Whether dropout is active and statistics are the batch's.

        Returns:
            Dict of ``logits`` (B, C): exports name their output by its key.
        """
        keypoints, attention_mask = inputs["keypoints"], inputs["attention_mask"]
        numbers = keypoints.shape[2] * keypoints.shape[3]
        frames = ops.reshape(keypoints, (-1, ops.shape(keypoints)[1], numbers))
        mask = attention_mask[:, :, None]
        # A select and not a product: NaN * 0 is NaN.
        frames = ops.where(mask > 0, frames, ops.zeros_like(frames))
        if self.config.motion:
            frames = with_motion(frames, mask)
        present = ops.cast(mask, frames.dtype)
        hidden_states = self.input_projection(frames)
        for block in self.blocks_before:
            hidden_states = block(hidden_states, present, training=training)
        padding = padding_bias(attention_mask, frames.dtype)
        hidden_states = self.embed_positions(hidden_states)
        hidden_states = self.attention(hidden_states, padding, training=training)
        for block in self.blocks_after:
            hidden_states = block(hidden_states, present, training=training)
        return {"logits": self.head(hidden_states, present, training=training)}

    def get_config(self):
        """What `from_config` builds the same model from."""
        return {"config": dataclasses.asdict(self.config), "name": self.name}

    @classmethod
    def from_config(cls, config):
        """The model that `get_config` described."""
        model = model_from_dict(config["config"], source="Keras model", kind=KIND.name)
        return cls(model, name=config["name"])


def _blocks(config: ConvSignBartConfig, name: str, count: int) -> list[ConvBlock]:
    return [ConvBlock(config, name=f"{name}_{i}") for i in range(count)]

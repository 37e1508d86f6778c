"""The Keras twin of `signbart_torch.models.mediapipe_gru.model`: same class and attribute names.

Legend: B batch, T frames, F features, U a GRU's units, C glosses, G categories.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from signbart.errors import ConfigError
from signbart.models.mediapipe_gru import HOLD, MediapipeGruConfig
from signbart_tf.models.signbart.layers import PACKAGE, dense


@keras.saving.register_keras_serializable(PACKAGE)
class MediapipeGru(keras.Model):
    """Classifies a sign twice: its gloss, and the category that the gloss belongs to.

    Raises:
        ConfigError: `config` does not say how many glosses there are.
    """

    def __init__(self, config: MediapipeGruConfig, name: str = "mediapipe_gru", **kwargs):
        super().__init__(name=name, **kwargs)
        if config.num_labels is None:
            raise ConfigError("model.num_labels is not set: say how many glosses there are")
        self.config = config
        features, directions = config.num_features, 1 + config.bidirectional
        self.input_projection = None
        if config.projection_dim is not None:
            self.input_projection = dense(config.projection_dim, features, "input_projection")
            features = config.projection_dim
        both = config.bidirectional
        self.gru1 = Gru(features, config.hidden1, both, name="gru1")
        self.gru2 = Gru(config.hidden1 * directions, config.hidden2, both, name="gru2")
        self.dropout = keras.layers.Dropout(config.dropout, name="dropout")
        width = config.hidden2 * directions
        self.gloss_head = dense(config.num_labels, width, "gloss_head")
        self.category_head = dense(config.num_categories, width, "category_head")
        self.built = True

    def call(self, inputs: Mapping[str, Any], training: bool | None = None) -> dict[str, Any]:
        """Scores each gloss and each category.

        Args:
            inputs: Dict of ``keypoints`` (B, T, F) float, preprocessed, and ``attention_mask``
                (B, T) int, 1 a frame and 0 padding, which need not be a prefix: padding leaves the
                state as it is. What padded frames hold, NaN included, is never read.
            training: Whether dropout is active.

        Returns:
            Dict of logits: ``gloss`` (B, C) and ``category`` (B, G).
        """
        keypoints, attention_mask = inputs["keypoints"], inputs["attention_mask"]
        # A select and not a product: NaN * 0 is NaN.
        present = attention_mask[:, :, None] > 0
        states = ops.where(present, keypoints, ops.zeros_like(keypoints))
        if self.input_projection is not None:
            states = self.input_projection(states)
        padding = 1.0 - ops.cast(present, states.dtype)
        states, _ = self.gru1(states, padding)
        _, last = self.gru2(self.dropout(states, training=training), padding)
        last = self.dropout(last, training=training)
        return {"gloss": self.gloss_head(last), "category": self.category_head(last)}

    @property
    def num_parameters(self) -> int:
        """Trainable values."""
        return sum(int(ops.size(variable)) for variable in self.trainable_variables)

    def get_config(self):
        """What `from_config` builds the same model from."""
        return {"config": dataclasses.asdict(self.config), "name": self.name}

    @classmethod
    def from_config(cls, config):
        """The model that `get_config` described."""
        return cls(MediapipeGruConfig(**config["config"]), name=config["name"])


@keras.saving.register_keras_serializable(PACKAGE)
class Gru(keras.layers.Layer):
    """A GRU of one or both directions, with PyTorch's gates r, z, n and its two biases.

    `keras.layers.GRU` keeps them as z, r, n and both biases in one variable, and its loop becomes
    operators that plain LiteRT does not have (FlexTensorListReserve).
    """

    def __init__(self, features: int, units: int, bidirectional: bool, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.forwards = GruDirection(features, units, name="forwards")
        self.backwards = GruDirection(features, units, name="backwards") if bidirectional else None
        self.built = True

    def call(self, inputs, padding):
        """Runs the layer, which leaves its state as it is in padded frames.

        Args:
            inputs: (B, T, F), finite.
            padding: (B, T, 1), 1 in padded frames and 0 in others.

        Returns:
            States (B, T, directions * U), and each direction's last one (B, directions * U).
        """
        states, last = self.forwards(inputs, padding)
        if self.backwards is None:
            return states, last
        backwards, last_backwards = self.backwards(inputs, padding, reverse=True)
        return (
            ops.concatenate([states, backwards], axis=-1),
            ops.concatenate([last, last_backwards], axis=-1),
        )


@keras.saving.register_keras_serializable(PACKAGE)
class GruDirection(keras.layers.Layer):
    """One direction's weights, columns r, z, n: kernel (F, 3U), recurrent_kernel (U, 3U)."""

    def __init__(self, features: int, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.kernel = self.add_weight(
            shape=(features, 3 * units), initializer="glorot_uniform", name="kernel"
        )
        self.recurrent_kernel = self.add_weight(
            shape=(units, 3 * units), initializer="orthogonal", name="recurrent_kernel"
        )
        self.bias = self.add_weight(shape=(3 * units,), initializer="zeros", name="bias")
        self.recurrent_bias = self.add_weight(
            shape=(3 * units,), initializer="zeros", name="recurrent_bias"
        )
        self.built = True

    def call(self, inputs, padding, reverse=False):
        """(B, T, F) and (B, T, 1) -> states (B, T, U) and the last one (B, U)."""
        gates = ops.transpose(ops.matmul(inputs, self.kernel) + self.bias, (1, 0, 2))
        held = ops.transpose(padding * HOLD, (1, 0, 2))

        def step(state, frame):
            state = self.cell(*frame, state)
            return state, state

        start = ops.zeros((ops.shape(inputs)[0], self.units), inputs.dtype)
        last, states = ops.scan(step, start, (gates, held), reverse=reverse)
        return ops.transpose(states, (1, 0, 2)), last

    def cell(self, gates, held, state):
        """One frame.

        Args:
            gates: (B, 3U), what the input gives to r, z and n.
            held: (B, 1), `HOLD` in padded frames and 0 in others.
            state: (B, U).

        Returns:
            (B, U).
        """
        reset_in, update_in, new_in = ops.split(gates, 3, axis=1)
        recurrent = ops.matmul(state, self.recurrent_kernel) + self.recurrent_bias
        reset_from, update_from, new_from = ops.split(recurrent, 3, axis=1)
        update = ops.sigmoid(update_in + update_from + held)
        new = ops.tanh(new_in + ops.sigmoid(reset_in + reset_from) * new_from)
        # In this form a gate of 1 keeps the state to the bit.
        return update * state + (1.0 - update) * new

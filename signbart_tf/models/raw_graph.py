"""What makes a graph take raw landmarks: the twin of `signbart_torch.models.raw_graph`.

Legend: S raw frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import ops

from signbart.models import io_spec
from signbart.models.io_spec import (
    ATTENTION_MASK,
    FRAMES_USED,
    KEYPOINTS,
    LANDMARKS,
    NUM_FRAMES,
    PROBABILITIES,
    class_output,
)
from signbart_tf.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from signbart.configuration.schema import RunConfig


class Around(keras.Model):
    """What stands before and behind a model in a graph that takes raw landmarks.

    Args:
        config: The run's configuration.
        raw_frames: S, the most frames that it takes.
        temperature: Scores are divided by it before the softmax.
    """

    def __init__(self, config: RunConfig, raw_frames: int, temperature: float = 1.0):
        super().__init__(name="around")
        self.preprocessing = Preprocessing(config, raw_frames)
        self.temperature = temperature
        self.scores = class_output(tensor.name for tensor in io_spec(config).outputs)
        self.built = True

    def call(self, inputs, training=None):
        """As `signbart_torch.models.raw_graph.Around.forward`, in dicts."""
        keypoints, mask, used = self.preprocessing(inputs[LANDMARKS], inputs[NUM_FRAMES])
        return {
            KEYPOINTS: keypoints,
            ATTENTION_MASK: mask,
            FRAMES_USED: used,
            PROBABILITIES: ops.softmax(inputs[self.scores] / self.temperature, axis=-1),
        }

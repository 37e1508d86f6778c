"""What int8 does to a model, in float: every layer computes on the grid its .tflite will have.

The twin of `signbart_torch`'s. Only Dense layers and depthwise convolutions change, as only
FULLY_CONNECTED and DEPTHWISE_CONV_2D become int8 in a .tflite; embeddings, LayerNorm, softmax and
GELU stay float there and here. `grids` has the grids, `fake_quantized_layers` what computes on
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from signbart.errors import ConfigError
from signbart_tf.compression.fake_quantized_layers import (
    DynamicDense,
    DynamicDepthwise,
    StaticDense,
    StaticDepthwise,
)
from signbart_tf.models import (
    bias_follows,
    joined_projections,
    layers_of,
    new_model,
    one_query_attentions,
)
from signbart_tf.models.conv_signbart.layers import DepthwiseConv, depthwise_layers
from signbart_tf.models.signbart.attention import Attention, OneQueryAttention
from signbart_tf.models.signbart.layers import dense_layers

_MEASURING_BATCH = 25
_HOLD_WEIGHTS = keras.layers.Dense | DepthwiseConv
_SWAPPED = DynamicDense | StaticDense | DynamicDepthwise


class FakeQuantization:
    """Makes models for quantization-aware training, and keeps their grids current.

    Args:
        calibration: ``keypoints`` (N, T, K, D) and ``attention_mask`` (N, T), as
            `training.calibration.calibration_inputs` returns them, for static int8. None is
            dynamic int8, whose ranges are measured token by token at run time.
    """

    def __init__(self, calibration: tuple[np.ndarray, np.ndarray] | None = None):
        self.calibration = calibration
        self.count = 0  # layers that `build` made fake-quantized
        self.layers = "Dense"
        self._measure: dict[int, tf.types.experimental.PolymorphicFunction] = {}

    @property
    def scheme(self) -> str:
        """The arithmetic's name: ``dynamic_int8`` or ``int8``."""
        return "dynamic_int8" if self.calibration is None else "int8"

    def build(self, config: Any) -> keras.Model:
        """A model with a fake-quantized layer in place of each Dense and depthwise convolution.

        Raises:
            ConfigError: One is none, and would be int8 in the .tflite alone.
        """
        static = self.calibration is not None
        with (
            dense_layers(StaticDense if static else DynamicDense),
            depthwise_layers(StaticDepthwise if static else DynamicDepthwise),
        ):
            model = new_model(config)
        self.count = check_count(model, config)
        if any(layers_of(model, DepthwiseConv)):
            self.layers = "Dense and depthwise"
        for path in bias_follows(model):
            attrgetter(path)(model).bias_follows = True
        for attention in one_query_attentions(model):
            attention.__class__ = OneQueryAttention  # its parts and their order stay
        return model

    def refresh(self, model: keras.Model) -> None:
        """Measures the activations' ranges anew, as the quantizer will: in float, min and max."""
        if self.calibration is None:
            return
        layers = list(layers_of(model, StaticDense | StaticDepthwise))
        for layer in layers:
            layer.forget_ranges()
        # What a trace saw is what it does for good, so this one is the only one that measures.
        measure = self._measure.setdefault(
            id(model), tf.function(model, reduce_retracing=True, jit_compile=False)
        )
        for layer in layers:
            layer.measuring = True
        keypoints, attention_mask = self.calibration
        for at in range(0, len(keypoints), _MEASURING_BATCH):
            rows = slice(at, at + _MEASURING_BATCH)
            measure(
                {
                    "keypoints": tf.constant(keypoints[rows]),
                    "attention_mask": tf.constant(attention_mask[rows]),
                },
                training=False,
            )
        for layer in layers:
            layer.measuring = False
        for attention, names in joined_projections(model):
            _share_range(attention, names)


def _share_range(attention: Attention, names: Sequence[str]) -> None:
    """Projections that are one product in the .tflite have one output grid, q as it is scaled."""
    factors = [attention.scaling if name == "q_proj" else 1.0 for name in names]
    ranges = [getattr(attention, name).ranges[2:] for name in names]
    pairs = list(zip(ranges, factors, strict=True))
    low = min(float(low.numpy()) * factor for (low, _), factor in pairs)
    high = max(float(high.numpy()) * factor for (_, high), factor in pairs)
    for (own_low, own_high), factor in pairs:
        own_low.assign(low / factor)
        own_high.assign(high / factor)


def check_count(model: keras.Model, config: Any) -> int:
    """How many layers of a model are fake-quantized; raises `ConfigError` where one is not."""
    found = list(layers_of(model, _HOLD_WEIGHTS))
    swapped = [layer for layer in found if isinstance(layer, _SWAPPED)]
    expected = len(list(layers_of(new_model(config), _HOLD_WEIGHTS)))
    if not len(swapped) == len(found) == expected:
        raise ConfigError(
            f"{len(swapped)} of {len(found)} layers with weights are fake-quantized, and "
            f"{expected} were expected"
        )
    return expected

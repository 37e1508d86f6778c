"""What int8 does to a model, in float: every Dense computes on the grid its .tflite will have.

The twin of `signbart_torch`'s, with the same grids: those of ai-edge-quantizer and
LiteRT. Only the Dense layers change, as only FULLY_CONNECTED becomes int8 in a .tflite; embeddings,
LayerNorm, softmax and GELU stay float there and here.

Rounding passes gradients on as if it were not there (the straight-through estimator,
arXiv:1308.3432).

Legend: B batch, T frames, I inputs and O outputs of a Dense.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from signbart.errors import ConfigError
from signbart.models.signbart import SignBartConfig
from signbart_tf.models import layers_of
from signbart_tf.models.signbart.attention import Attention
from signbart_tf.models.signbart.export_graph import joined_projections
from signbart_tf.models.signbart.layers import dense_layers
from signbart_tf.models.signbart.model import SignBart

_INT8_MIN, _INT8_MAX = -128.0, 127.0
_STEPS = _INT8_MAX - _INT8_MIN
# ai-edge-quantizer's smallest range; it keeps an all-zero channel from dividing by zero.
_SMALLEST_RANGE = 1e-9
_MEASURING_BATCH = 25


class FakeQuantization:
    """Makes models for quantization-aware training, and keeps their grids current.

    Args:
        calibration: ``keypoints`` (N, T, K, 2) and ``attention_mask`` (N, T), as
            `training.calibration.calibration_inputs` returns them, for static int8. None is
            dynamic int8, whose ranges are measured token by token at run time.
    """

    layers = "Dense"

    def __init__(self, calibration: tuple[np.ndarray, np.ndarray] | None = None):
        self.calibration = calibration
        self.count = 0  # Dense layers that `build` made fake-quantized
        self._measure: dict[int, tf.types.experimental.PolymorphicFunction] = {}

    @property
    def scheme(self) -> str:
        """The arithmetic's name: ``dynamic_int8`` or ``int8``."""
        return "dynamic_int8" if self.calibration is None else "int8"

    def build(self, config: SignBartConfig) -> SignBart:
        """A model with a fake-quantized layer in place of each Dense.

        Raises:
            ConfigError: A Dense is none, and would be int8 in the .tflite alone.
        """
        kind = DynamicDense if self.calibration is None else StaticDense
        with dense_layers(kind):
            model = SignBart(config)
        check_count(model, config)
        self.count = num_dense_layers(config)
        for layer in (model.projection.proj_x1, model.projection.proj_y1):
            layer.bias_follows = True
        return model

    def refresh(self, model: SignBart) -> None:
        """Measures the activations' ranges anew, as the quantizer will: in float, min and max."""
        if self.calibration is None:
            return
        layers = list(layers_of(model, StaticDense))
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


def num_dense_layers(config: SignBartConfig) -> int:
    """The Dense layers of a SignBART of this size: 35 with two layers on each side."""
    projections, head = 2, 1
    return projections + 6 * config.encoder_layers + 10 * config.decoder_layers + head


def check_count(model: SignBart, config: SignBartConfig) -> None:
    """Raises `ConfigError` where a Dense is not fake-quantized."""
    found = list(layers_of(model, keras.layers.Dense))
    swapped = [layer for layer in found if isinstance(layer, DynamicDense | StaticDense)]
    expected = num_dense_layers(config)
    if not len(swapped) == len(found) == expected:
        raise ConfigError(
            f"{len(swapped)} of {len(found)} Dense layers are fake-quantized, and {expected} "
            "were expected"
        )


class DynamicDense(keras.layers.Dense):
    """Input and weight on int8 grids; the output is float."""

    bias_follows = False  # see `StaticDense`; to a float output it makes no difference

    def call(self, inputs, training=None):
        """(…, I) -> (…, O)."""
        return ops.matmul(round_tokens(inputs), round_weight(self.kernel.value)) + self.bias


class StaticDense(keras.layers.Dense):
    """Input, weight and output on int8 grids, and the bias on its int32 one.

    The activations' ranges are variables that are not trained and never saved.

    Attributes:
        bias_follows: Whether the bias is added in float behind the quantized product. Converters
            move it into a constant that is added next: the positions, behind the projections.
        measuring: Whether everything passes as it is and widens the ranges.
    """

    bias_follows = False
    measuring = False

    def build(self, input_shape):
        """Adds the ranges."""
        super().build(input_shape)
        self.ranges = [
            self.add_weight(shape=(), initializer="zeros", trainable=False, name=name)
            for name in ("input_low", "input_high", "output_low", "output_high")
        ]

    def forget_ranges(self) -> None:
        """Starts measuring anew; 0 is always in range."""
        for bound in self.ranges:
            bound.assign(0.0)

    def call(self, inputs, training=None):
        """(…, I) -> (…, O)."""
        if self.measuring:
            self._widen(inputs, *self.ranges[:2])
            product = ops.matmul(inputs, self.kernel.value)
            outputs = product if self.bias_follows else product + self.bias
            self._widen(outputs, *self.ranges[2:])
            return outputs + self.bias if self.bias_follows else outputs
        input_range, output_range = (
            [bound.value for bound in pair] for pair in (self.ranges[:2], self.ranges[2:])
        )
        product = ops.matmul(round_tensor(inputs, *input_range), round_weight(self.kernel.value))
        if self.bias_follows:
            return round_tensor(product, *output_range) + self.bias
        step = tensor_scale(*input_range) * weight_scale(self.kernel.value)[0]
        return round_tensor(product + round_bias(self.bias.value, step), *output_range)

    @staticmethod
    def _widen(states, low: keras.Variable, high: keras.Variable) -> None:
        low.assign(tf.minimum(low.value, tf.reduce_min(states)))
        high.assign(tf.maximum(high.value, tf.reduce_max(states)))


def weight_scale(kernel):
    """(I, O) -> (1, O): the int8 step of each output channel, symmetric, -127 … 127."""
    largest = tf.reduce_max(tf.abs(kernel), axis=0, keepdims=True)
    return tf.maximum(largest, _SMALLEST_RANGE) / _INT8_MAX


@tf.custom_gradient
def round_weight(kernel):
    """(I, O) -> (I, O) on each output channel's grid."""
    scale = weight_scale(kernel)
    # The largest weight is on the grid, so nothing is clipped and every gradient passes.
    return tf.round(kernel / scale) * scale, lambda gradient: gradient


@tf.custom_gradient
def round_bias(bias, step):
    """(O,) -> (O,) in whole steps (O,) of input scale times weight scale."""
    return tf.round(bias / step) * step, lambda gradient: (gradient, None)


@tf.custom_gradient
def round_tokens(states):
    """(…, I) -> (…, I), each row on its own asymmetric grid, as XNNPACK has it at run time."""
    low = tf.minimum(tf.reduce_min(states, axis=-1, keepdims=True), 0.0)
    spread = tf.maximum(tf.reduce_max(states, axis=-1, keepdims=True), 0.0) - low
    # A token of zeros alone: whatever the step, it stays zero.
    spread = tf.where(spread == 0.0, _STEPS, spread)
    inverse_scale = _STEPS / spread
    zero_point = tf.round(_INT8_MIN - low * inverse_scale)
    integers = tf.round(states * inverse_scale) + zero_point
    integers = tf.clip_by_value(integers, _INT8_MIN, _INT8_MAX)
    # At most half a step was clipped, where the zero point was rounded: every gradient passes.
    return (integers - zero_point) * (spread / _STEPS), lambda gradient: gradient


def tensor_scale(low, high):
    """The int8 step of a range that holds 0."""
    return tf.maximum(high - low, _SMALLEST_RANGE) / _STEPS


@tf.custom_gradient
def round_tensor(states, low, high):
    """Any shape -> the same on the grid of [low, high]; what is clipped gets no gradient."""
    scale = tensor_scale(low, high)
    zero_point = tf.round(_INT8_MIN - low / scale)
    integers = tf.round(states * (1.0 / scale)) + zero_point
    inside = (integers >= _INT8_MIN) & (integers <= _INT8_MAX)
    integers = tf.clip_by_value(integers, _INT8_MIN, _INT8_MAX)

    def gradients(gradient):
        return tf.where(inside, gradient, 0.0), None, None

    return (integers - zero_point) * scale, gradients

"""Layers that compute on int8 grids, in float, with the variables of ordinary ones.

Legend: B batch, T frames, I inputs and O outputs of a Dense, W channels of a convolution.
"""

import keras
import tensorflow as tf
from keras import ops

from signbart_tf.compression.grids import (
    round_bias,
    round_tensor,
    round_tokens,
    round_weight,
    tensor_scale,
    weight_scale,
)
from signbart_tf.models.conv_signbart.layers import DepthwiseConv, convolve


class DynamicDense(keras.layers.Dense):
    """Input and weight on int8 grids; the output is float."""

    bias_follows = False  # see `StaticDense`; to a float output it makes no difference

    def call(self, inputs, training=None):
        """(…, I) -> (…, O)."""
        return ops.matmul(round_tokens(inputs), round_weight(self.kernel.value)) + self.bias

    def transposed(self, inputs):
        """(…, O) -> (…, I), without a bias: the kernel's rows are what has a grid each."""
        return ops.matmul(round_tokens(inputs), round_weight(ops.transpose(self.kernel.value)))


class _Ranged:
    """What layers of static int8 have in common: ranges of input and output.

    They are variables that are not trained and never saved.

    Attributes:
        measuring: Whether everything passes as it is and widens the ranges.
    """

    measuring = False

    def add_ranges(self) -> None:
        """Adds the variables."""
        self.ranges = [
            self.add_weight(shape=(), initializer="zeros", trainable=False, name=name)
            for name in ("input_low", "input_high", "output_low", "output_high")
        ]

    def forget_ranges(self) -> None:
        """Starts measuring anew; 0 is always in range."""
        for bound in self.ranges:
            bound.assign(0.0)

    @property
    def values(self) -> tuple:
        """Of the ranges: input's low and high, output's low and high."""
        return tuple(bound.value for bound in self.ranges)

    @staticmethod
    def widen(states, low: keras.Variable, high: keras.Variable) -> None:
        """Makes a range hold all of `states`."""
        low.assign(tf.minimum(low.value, tf.reduce_min(states)))
        high.assign(tf.maximum(high.value, tf.reduce_max(states)))


class StaticDense(_Ranged, keras.layers.Dense):
    """Input, weight and output on int8 grids, and the bias on its int32 one.

    Attributes:
        bias_follows: Whether the bias is added in float behind the quantized product. Converters
            move it into a constant that is added next: the positions, behind the projections.
    """

    bias_follows = False

    def build(self, input_shape):
        """Adds the ranges."""
        super().build(input_shape)
        self.add_ranges()

    def call(self, inputs, training=None):
        """(…, I) -> (…, O)."""
        if self.measuring:
            self.widen(inputs, *self.ranges[:2])
            product = ops.matmul(inputs, self.kernel.value)
            outputs = product if self.bias_follows else product + self.bias
            self.widen(outputs, *self.ranges[2:])
            return outputs + self.bias if self.bias_follows else outputs
        input_range, output_range = self.values[:2], self.values[2:]
        product = ops.matmul(round_tensor(inputs, *input_range), round_weight(self.kernel.value))
        if self.bias_follows:
            return round_tensor(product, *output_range) + self.bias
        step = tensor_scale(*input_range) * weight_scale(self.kernel.value)[0]
        return round_tensor(product + round_bias(self.bias.value, step), *output_range)

    def transposed(self, inputs):
        """(…, O) -> (…, I), without a bias: the kernel's rows are what has a grid each."""
        kernel = ops.transpose(self.kernel.value)
        if self.measuring:
            self.widen(inputs, *self.ranges[:2])
            outputs = ops.matmul(inputs, kernel)
            self.widen(outputs, *self.ranges[2:])
            return outputs
        product = ops.matmul(round_tensor(inputs, *self.values[:2]), round_weight(kernel))
        return round_tensor(product, *self.values[2:])


class DynamicDepthwise(DepthwiseConv):
    """Weights on their int8 grid; products are of float, as in a .tflite of ``dynamic_int8``.

    BatchNorm is folded in, so that its running statistics stay as they are.
    """

    def call(self, states, present, training=None):
        """(B, T, W), zero in padded frames -> (B, T, W)."""
        kernel, bias = self.folded()
        return convolve(states, self._rounded(kernel)) + bias

    @staticmethod
    def _rounded(kernel):
        return round_weight(kernel[..., 0])[..., None]


class StaticDepthwise(_Ranged, DynamicDepthwise):
    """Input, weights and output on int8 grids, and the bias on its int32 one."""

    def __init__(self, channels: int, kernel_size: int, **kwargs):
        super().__init__(channels, kernel_size, **kwargs)
        self.add_ranges()

    def call(self, states, present, training=None):
        """(B, T, W), zero in padded frames -> (B, T, W)."""
        kernel, bias = self.folded()
        if self.measuring:
            self.widen(states, *self.ranges[:2])
            outputs = convolve(states, kernel) + bias
            self.widen(outputs, *self.ranges[2:])
            return outputs
        input_range, output_range = self.values[:2], self.values[2:]
        product = convolve(round_tensor(states, *input_range), self._rounded(kernel))
        step = tensor_scale(*input_range) * weight_scale(kernel[..., 0])[0]
        return round_tensor(product + round_bias(bias, step), *output_range)

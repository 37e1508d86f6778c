"""int8 grids, in float: those of ai-edge-quantizer and LiteRT, and of `signbart_torch`'s `grids`.

Rounding passes gradients on as if it were not there (the straight-through estimator,
arXiv:1308.3432).

Legend: I inputs and O outputs of a layer.
"""

import tensorflow as tf

_INT8_MIN, _INT8_MAX = -128.0, 127.0
_STEPS = _INT8_MAX - _INT8_MIN
# ai-edge-quantizer's smallest range; it keeps an all-zero channel from dividing by zero.
_SMALLEST_RANGE = 1e-9


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

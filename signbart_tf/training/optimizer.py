"""AdamW, gradient clipping and averaged weights with PyTorch's arithmetic, for both loops."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import ops

from signbart.configuration.schema import TrainConfig
from signbart.training.schedule import BETA_1, BETA_2, EPSILON

# What torch.nn.utils.clip_grad_norm_ adds to the norm.
_CLIP_EPSILON = 1e-6


class AdamW(keras.optimizers.AdamW):
    """AdamW that divides by sqrt(v / (1 - beta_2^t)) + epsilon, as in the paper and in PyTorch.

    Keras adds its epsilon to sqrt(v) before the bias is corrected, which at the first step makes it
    31 times larger. Weight decay is decoupled and falls on every variable in both.

    Args:
        config: Of the run.
        slow: Variables whose rate is the rate times ``body_lr_scale``.
    """

    def __init__(self, config: TrainConfig, slow: Sequence[keras.Variable] = ()):
        super().__init__(
            learning_rate=config.lr,
            weight_decay=config.weight_decay,
            beta_1=BETA_1,
            beta_2=BETA_2,
            epsilon=EPSILON,
        )
        self.max_norm, self.decay = config.grad_clip, config.ema
        self._averaged: list[tuple[keras.Variable, keras.Variable]] = []
        self._scales = dict.fromkeys(map(self._var_key, slow), config.body_lr_scale)

    def build(self, variables):
        """Makes what is kept of each variable: its moments and, with ``ema``, its average."""
        super().build(variables)
        if self.decay:
            averages = [self.add_variable_from_reference(v, name="average") for v in variables]
            self._averaged = list(zip(variables, averages, strict=True))
            self.restart_average()

    def restart_average(self) -> None:
        """Begins the average anew at the variables as they are."""
        for variable, average in self._averaged:
            average.assign(variable)

    def exchange_average(self) -> None:
        """Gives the variables their averages and keeps their values; again, and all is back."""
        for variable, average in self._averaged:
            kept = average.numpy()
            average.assign(variable)
            variable.assign(kept)

    def apply(self, grads, trainable_variables=None):
        """Clips the gradients by their common norm, then updates the variables."""
        if self.max_norm:
            grads = clip_by_norm(grads, self.max_norm)
        # Once for all variables: a traced step would have their operators as often as those.
        # In float64, as PyTorch has it: in float32 1 - 0.999 is wrong in its fifth digit.
        step = ops.cast(self.iterations + 1, "float64")
        self._correction_1 = 1.0 - ops.power(ops.cast(BETA_1, "float64"), step)
        self._correction_2 = ops.sqrt(1.0 - ops.power(ops.cast(BETA_2, "float64"), step))
        super().apply(grads, trainable_variables)
        if self.decay:
            # `schedule.averaging_decay` of the step that was just counted.
            count = ops.cast(self.iterations, "float32")
            weight = 1.0 - ops.minimum(self.decay, count / (9.0 + count))
            for variable, average in self._averaged:
                average.assign_add((variable - average) * weight)

    def _apply_weight_decay(self, variables):
        """Shrinks each variable by its own rate, as PyTorch's groups do; Keras has one for all."""
        if not self._scales:
            super()._apply_weight_decay(variables)
            return
        for variable in variables:
            rate = self._scaled(ops.cast(self.learning_rate, variable.dtype), variable)
            decay = ops.cast(self.weight_decay, variable.dtype)
            variable.assign(variable - variable * decay * rate)

    def _scaled(self, rate, variable):
        scale = self._scales.get(self._var_key(variable))
        return rate if scale is None else rate * scale

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable and its moments."""
        learning_rate = self._scaled(learning_rate, variable)
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index], self._velocities[index]
        rate = ops.cast(ops.cast(learning_rate, "float64") / self._correction_1, variable.dtype)
        self.assign_add(momentum, (gradient - momentum) * (1.0 - BETA_1))
        self.assign_add(velocity, (ops.square(gradient) - velocity) * (1.0 - BETA_2))
        denominator = ops.sqrt(velocity) / ops.cast(self._correction_2, variable.dtype) + EPSILON
        self.assign_sub(variable, rate * momentum / denominator)


def clip_by_norm(gradients, max_norm: float):
    """Scales gradients down together where their common norm exceeds `max_norm`."""
    norm = tf.linalg.global_norm(gradients)
    scale = tf.minimum(max_norm / (norm + _CLIP_EPSILON), 1.0)
    return [gradient * scale for gradient in gradients]

"""Two loops over an epoch: Keras's ``compile`` and ``fit``, and one spelt out with a gradient tape.

Both take the same batches, loss, optimizer and learning rates, and end with the same weights. The
tape's is what to copy when a step has to be changed.

Legend: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf
from keras import ops

from signbart.configuration.schema import RunConfig
from signbart_tf.training.data import answers_signature, input_signature
from signbart_tf.training.optimizer import AdamW


class SmoothedCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy of logits (B, C), with label smoothing.

    Against integer labels (B,), or targets (B, C) that add up to 1.
    """

    def __init__(self, label_smoothing: float):
        super().__init__(name="cross_entropy", reduction="sum_over_batch_size")
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        """(B,) losses."""
        y_pred = ops.cast(y_pred, "float32")
        return ops.categorical_crossentropy(
            self._targets(y_true, y_pred.shape[-1]), y_pred, from_logits=True
        )

    def _targets(self, labels, num_classes: int):
        one_hot = labels if len(labels.shape) == 2 else ops.one_hot(labels, num_classes)
        return one_hot * (1.0 - self.label_smoothing) + self.label_smoothing / num_classes


class Loop:
    """Trains a model by the epoch.

    Args:
        model: What is trained.
        optimizer: Built for the model's trainable variables.
        config: The run's configuration.
    """

    def __init__(self, model: keras.Model, optimizer: AdamW, config: RunConfig):
        self.model, self.optimizer, self.config = model, optimizer, config
        self.loss = SmoothedCrossEntropy(config.train.label_smoothing)

    def run_epoch(
        self, batches: tf.data.Dataset, set_rate: Callable[[int], None]
    ) -> tuple[float, float]:
        """One pass over `batches`.

        Args:
            batches: From `data.training_dataset`.
            set_rate: Called before each step with its number in the epoch, from 0; sets the
                optimizer's learning rate.

        Returns:
            Mean loss of the clips, and the share that was classified correctly.
        """
        raise NotImplementedError


class FitLoop(Loop):
    """``compile`` and ``fit``."""

    def __init__(self, model: keras.Model, optimizer: AdamW, config: RunConfig):
        super().__init__(model, optimizer, config)
        self._compiled = LogitsAlone(model)
        self._compiled.compile(
            optimizer=optimizer,
            loss=self.loss,
            metrics=[_accuracy(config)],
            # Batches differ in shape, and XLA compiles anew for each. Measured on isl_kinect30, one
            # thread: 62 ms a step so, 69 with all batches padded to one length, and 92 with XLA.
            jit_compile=False,
        )

    def run_epoch(self, batches, set_rate):
        """See `Loop.run_epoch`."""
        history = self._compiled.fit(
            batches, verbose=0, shuffle=False, callbacks=[_SetRate(set_rate)]
        ).history
        return history["loss"][0], history["accuracy"][0]


class TapeLoop(Loop):
    """``tf.GradientTape``."""

    def __init__(self, model: keras.Model, optimizer: AdamW, config: RunConfig):
        super().__init__(model, optimizer, config)
        self._mean_loss = keras.metrics.Mean()
        self._accuracy = _accuracy(config)
        self._step = tf.function(
            self._train_step,
            input_signature=[input_signature(config), answers_signature(config)],
        )

    def run_epoch(self, batches, set_rate):
        """See `Loop.run_epoch`."""
        self._mean_loss.reset_state()
        self._accuracy.reset_state()
        for step, (inputs, labels) in enumerate(batches):
            set_rate(step)
            self._step(inputs, labels)
        return float(self._mean_loss.result()), float(self._accuracy.result())

    def _train_step(self, inputs, labels):
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self.model(inputs, training=True)["logits"]
            loss = self.loss(labels, logits)
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        self._mean_loss.update_state(loss, sample_weight=tf.shape(labels)[0])
        self._accuracy.update_state(labels, logits)


def _accuracy(config: RunConfig) -> keras.metrics.Metric:
    """Of mixed clips, how many are told to be of the class that they have more of."""
    if config.train.mixes:
        return keras.metrics.CategoricalAccuracy(name="accuracy")
    return keras.metrics.SparseCategoricalAccuracy(name="accuracy")


LOOPS: dict[str, type[Loop]] = {"fit": FitLoop, "tape": TapeLoop}


class LogitsAlone(keras.Model):
    """The model for `compile`, which then leaves no trace in what the model itself is saved as."""

    def __init__(self, model: keras.Model):
        super().__init__()
        self.model = model
        self.built = True

    def call(self, inputs, training=None):
        """Logits (B, C) of the model's inputs."""
        return self.model(inputs, training=training)["logits"]


class _SetRate(keras.callbacks.Callback):
    def __init__(self, set_rate: Callable[[int], None]):
        super().__init__()
        self._set_rate = set_rate

    def on_train_batch_begin(self, batch, logs=None):
        self._set_rate(batch)

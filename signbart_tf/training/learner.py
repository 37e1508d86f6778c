"""Training in Keras: what `signbart.training.lifecycle` asks for, as `signbart_torch` supplies it.

Batches, learning rates, the choice of the best epoch and the run folder are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from signbart.batches import PreparedClips
from signbart.configuration.schema import RunConfig
from signbart.errors import ConfigError
from signbart.recordings.clip import ClipSet
from signbart.training import lifecycle
from signbart.training.frameworks import KERAS
from signbart.training.learner import Evaluation, Learner, mixed_seed
from signbart.training.metrics import cross_entropy
from signbart.training.warm_start import Init
from signbart_tf.models import layers_of, new_model
from signbart_tf.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    restore_optimizer,
    save_checkpoint,
)
from signbart_tf.training.data import evaluation_dataset, input_signature, training_dataset
from signbart_tf.training.loops import LOOPS
from signbart_tf.training.optimizer import AdamW
from signbart_tf.training.tensorboard_log import EventWriter
from signbart_tf.training.warm_start import (
    body_variables,
    freeze_parts,
    start_of,
    stored_variables,
)


class Preparation(Protocol):
    """Makes models that compute something else while they train; what is saved stays ordinary."""

    def build(self, config: Any) -> keras.Model:
        """A new model; its trainable variables are those of `new_model(config)`."""

    def refresh(self, model: keras.Model) -> None:
        """Brings what was prepared up to date with the weights, before and after each epoch."""


def train(
    clips: ClipSet,
    config: RunConfig,
    output: str | Path,
    *,
    device: str = "auto",
    loop: str = "fit",
    init: Init | None = None,
    **options: Any,
) -> dict[str, Any]:
    """`lifecycle.train` in Keras; see there for what is not listed.

    Seeds Python, NumPy and TensorFlow, and makes TensorFlow's operators deterministic for the rest
    of the process.

    Args:
        clips: The recordings.
        config: The run's configuration.
        output: Run folder.
        device: ``auto``, ``cpu`` or ``cuda``.
        loop: One of `LOOPS`; both end with the same weights.
        init: The weights that training starts from; by default random ones.
        options: `lifecycle.train`'s.

    Raises:
        ConfigError: There is no such device.
        CheckpointError: See `signbart.training.warm_start.fit`.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if device == "cuda" and not gpus:
        raise ConfigError("--device cuda: this TensorFlow sees no CUDA device; use --device cpu")
    place = "/GPU:0" if gpus and device != "cpu" else "/CPU:0"
    with tf.device(place):
        if init is not None:
            options["start"] = start_of(init, config, clips)
        return lifecycle.train(
            clips,
            config,
            output,
            framework=KERAS,
            load=load_checkpoint,
            make_learner=partial(KerasLearner, loop, place, freeze=init.freeze if init else ()),
            **options,
        )


class KerasLearner(Learner):
    """See `Learner`.

    Args:
        loop: Key in `LOOPS`.
        place: TensorFlow's name of the device.
        config: The run's configuration.
        class_names: C labels.
        preparation: Makes the model that trains, validates and is tested.
        freeze: Parts that are not trained; see `signbart.training.warm_start.frozen_of`.
    """

    def __init__(
        self,
        loop: str,
        place: str,
        config: RunConfig,
        class_names: Sequence[str],
        preparation: Preparation | None,
        freeze: Sequence[str] = (),
    ):
        self.config, self.class_names, self.preparation = config, class_names, preparation
        make_deterministic(config.train.seed)
        self.model = (new_model if preparation is None else preparation.build)(config.model)
        # What checkpoints are written from: an ordinary model in any case.
        self.saved = new_model(config.model)
        self.weights = stored_variables(self.model, config)
        freeze_parts(self.model, config, freeze)
        slow = body_variables(self.model, config) if config.train.body_lr_scale != 1 else []
        self.optimizer = AdamW(config.train, slow)
        self.optimizer.build(self.model.trainable_variables)
        self.loop = LOOPS[loop](self.model, self.optimizer, config)
        self.predictor = Predictor(self.model, config)
        self.parameters = sum(math.prod(v.shape) for v in self.saved.trainable_variables)
        self.where = f"Keras on {place.strip('/').lower()}"

    def load(self, checkpoint: Checkpoint, source: str | Path) -> None:
        """See `Learner.load`."""
        copy_weights(stored_variables(checkpoint.model, self.config), self.weights)
        self.optimizer.restart_average()

    def restore(self, checkpoint: Checkpoint, source: str | Path) -> None:
        """See `Learner.restore`."""
        self.load(checkpoint, source)
        restore_optimizer(self.optimizer, checkpoint.optimizer, source)
        # The file's model has the average, and the optimizer's variables the weights.
        self.optimizer.exchange_average()

    def refresh(self) -> None:
        """See `Learner.refresh`."""
        if self.preparation is not None:
            self.preparation.refresh(self.model)

    def train_epoch(
        self, data: PreparedClips, epoch: int, rate_of: Callable[[int], float]
    ) -> tuple[float, float]:
        """See `Learner.train_epoch`."""
        seed_dropout(self.model, self.config.train.seed, epoch)
        loss, accuracy = self.loop.run_epoch(
            training_dataset(data, self.config, epoch),
            lambda step: self.optimizer.learning_rate.assign(rate_of(step)),
        )
        return loss, 100 * accuracy

    def evaluate(self, data: PreparedClips) -> Evaluation:
        """See `Learner.evaluate`."""
        with self._averaged():
            return self._evaluate(self.predictor, data)

    def evaluate_plain(self, data: PreparedClips) -> Evaluation:
        """See `Learner.evaluate_plain`."""
        return self._evaluate(self.predictor, data)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Within it the model has the averaged weights, where there are any."""
        if not self.config.train.ema:
            yield
            return
        self.optimizer.exchange_average()
        self.refresh()
        try:
            yield
        finally:
            self.optimizer.exchange_average()
            self.refresh()

    def evaluator_of(
        self, checkpoint: Checkpoint, source: str | Path
    ) -> Callable[[PreparedClips], Evaluation]:
        """See `Learner.evaluator_of`."""
        return partial(self._evaluate, Predictor(checkpoint.model, self.config))

    def _evaluate(self, predictor: Predictor, data: PreparedClips) -> Evaluation:
        logits = predictor(data)
        return Evaluation(logits, cross_entropy(logits, data.labels))

    def save(self, path: Path, progress: Mapping[str, Any], *, resumable: bool) -> None:
        """See `Learner.save`."""
        with self._averaged():
            copy_weights(self.weights, stored_variables(self.saved, self.config))
            save_checkpoint(
                self.saved,
                self.config,
                self.class_names,
                path,
                progress=progress,
                optimizer=self.optimizer if resumable else None,
            )

    def open_event_writer(self, folder: Path, purge_step: int) -> EventWriter:
        """See `Learner.open_event_writer`."""
        return EventWriter(folder, purge_step)


class Predictor:
    """A model in inference mode, traced once for batches of every shape.

    Args:
        model: Its weights may change between calls.
        config: The run's configuration.
    """

    def __init__(self, model: keras.Model, config: RunConfig):
        self._config = config
        self._forward = tf.function(
            lambda inputs: model(inputs, training=False)["logits"],
            input_signature=[input_signature(config)],
        )

    def __call__(self, data: PreparedClips) -> np.ndarray:
        """Logits (N, C) float32 of every prepared clip, in their order."""
        logits = np.empty((len(data), self._config.model.num_labels), np.float32)
        for inputs, indices in evaluation_dataset(data, self._config):
            logits[indices.numpy()] = self._forward(inputs).numpy()
        return logits


def copy_weights(source: Sequence[keras.Variable], target: Sequence[keras.Variable]) -> None:
    """Gives each variable of `target` the value of its partner in `source`."""
    for one, other in zip(source, target, strict=True):
        other.assign(one)


def seed_dropout(model: keras.Model, *parts: int) -> None:
    """Starts every Dropout layer's random numbers anew, from numbers such as (seed, epoch)."""
    for index, layer in enumerate(layers_of(model, keras.layers.Dropout)):
        if layer.rate:
            layer.seed_generator.state.assign([mixed_seed(*parts, index), 0])


def make_deterministic(seed: int) -> None:
    """Makes what this process computes from now on a function of the seed."""
    tf.config.experimental.enable_op_determinism()
    # It reassociates products, and not alike in the graphs of the two loops, whose weights would
    # differ in their last bits.
    tf.config.optimizer.set_experimental_options({"constant_folding": False})
    keras.utils.set_random_seed(seed)

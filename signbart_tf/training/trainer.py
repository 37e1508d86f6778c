"""Training in Keras, resumable at any moment: the twin of `signbart_torch.training.trainer`.

Batches, learning rates, the choice of the best epoch and the run folder are the same. All
randomness of an epoch derives from (seed, epoch), so a resumed run needs no generator state and
ends with the same bits as one that was never interrupted.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from signbart.batches import PreparedClips, prepare_clips
from signbart.configuration.schema import RunConfig
from signbart.errors import ConfigError
from signbart.files import write_text
from signbart.models.signbart import SignBartConfig
from signbart.recordings.clip import ClipSet
from signbart.training.frameworks import KERAS
from signbart.training.lifecycle import (
    describe_run,
    identify_recordings,
    mixed_seed,
    new_progress,
    percentages,
    record_epoch,
    require_trainable,
    with_labels,
)
from signbart.training.metrics import cross_entropy, score
from signbart.training.run_folder import RESULTS, csv_text, find_run, possession
from signbart.training.schedule import Plateau, learning_rate
from signbart.training.splits import Split, split_clips
from signbart_tf.models.signbart.layers import layers_of
from signbart_tf.models.signbart.model import SignBart
from signbart_tf.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    restore_optimizer,
    save_checkpoint,
)
from signbart_tf.training.data import evaluation_dataset, input_signature, training_dataset
from signbart_tf.training.loops import LOOPS
from signbart_tf.training.optimizer import AdamW

LAST, BEST = KERAS.last, KERAS.best


class Preparation(Protocol):
    """Makes models that compute something else while they train; what is saved stays ordinary."""

    def build(self, config: SignBartConfig) -> SignBart:
        """A new model; its trainable variables are those of `SignBart(config)`."""

    def refresh(self, model: SignBart) -> None:
        """Brings what was prepared up to date with the weights, before and after each epoch."""


@dataclass(frozen=True)
class Start:
    """A trained model to go on from; the model as it starts is a candidate for the best epoch.

    Attributes:
        checkpoint: The model.
        identity: What tells this start from others, in JSON containers: a run is resumed only from
            the same one, and its checkpoints carry it.
        preparation: Makes the model that trains, validates and is tested.
    """

    checkpoint: Checkpoint
    identity: Mapping[str, Any]
    preparation: Preparation


def train(
    clips: ClipSet,
    config: RunConfig,
    output: str | Path,
    *,
    test_signers: Sequence[str] = (),
    resume: bool = False,
    device: str = "auto",
    loop: str = "fit",
    report: Callable[[Mapping[str, Any]], None] = lambda row: None,
    announce: Callable[[str], None] = lambda text: None,
    data_name: str = "",
    start: Start | None = None,
) -> dict[str, Any]:
    """Trains one model, picks its best epoch on held-out clips, and tests that one.

    Seeds Python, NumPy and TensorFlow, and makes TensorFlow's operators deterministic for the rest
    of the process.

    Args:
        clips: The recordings.
        config: The run's configuration; `model.num_labels` may be left to the data.
        output: Run folder.
        test_signers: Signers that take no part in training or in choosing the best epoch.
        resume: Go on from the folder's last checkpoint, if there is one.
        device: ``auto``, ``cpu`` or ``cuda``.
        loop: One of `LOOPS`; both end with the same weights.
        report: Called with each epoch's row.
        announce: Called once with what is about to be trained, and on what.
        data_name: How the results name the data.
        start: What to go on from; by default training begins with random weights.

    Returns:
        What ``results.json`` holds: split, best epoch, scores in percent.

    Raises:
        ConfigError: The folder holds another run, or the configuration does not fit the data.
        ClipError: The recordings do not fit the configuration.
        SignBartError: Another process trains in that folder.
    """
    output = Path(output)
    require_trainable(config, KERAS)
    config = with_labels(config, clips)
    place = _place(device)
    split = split_clips(clips, config.train, test_signers)
    identity: dict[str, Any] = {"recordings": identify_recordings(clips, split.test_signers)}
    if start is not None:
        identity["start"] = dict(start.identity)
    state = find_run(
        output, config, clips.class_names, identity, resume, framework=KERAS, load=load_checkpoint
    )
    if state and state.progress.get("finished") and (output / RESULTS).is_file():
        return json.loads((output / RESULTS).read_text(encoding="utf-8"))
    make_deterministic(config.train.seed)
    with tf.device(place):
        run = _Run(clips, config, output, split, LOOPS[loop], state, start)
        run.progress |= identity
    with possession(output, config), tf.device(place):
        announce(run.describe(place))
        run.fit(report)
        results = {"data": data_name, **run.results()}
        write_text(output / RESULTS, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    return results


class _Run:
    """One training in progress."""

    def __init__(
        self,
        clips: ClipSet,
        config: RunConfig,
        output: Path,
        split: Split,
        loop: type,
        state: Checkpoint | None,
        start: Start | None,
    ):
        self.config, self.output, self.split, self.start = config, output, split, start
        self.class_names = clips.class_names
        self.data = {
            name: prepare_clips(clips.select(getattr(split, name)), config)
            for name in ("train", "val", "test")
        }
        self.model = (start.preparation.build if start else SignBart)(config.model)
        # What checkpoints are written from: an ordinary model in any case.
        self.saved = SignBart(config.model)
        self.optimizer = AdamW(config.train)
        self.optimizer.build(self.model.trainable_variables)
        self.plateau = Plateau(config.train.plateau_factor, config.train.plateau_patience)
        self.progress = new_progress()
        self.rate = config.train.lr
        if state:
            copy_weights(state.model, self.model)
            self.progress = dict(state.progress)
            restore_optimizer(self.optimizer, state.optimizer, output / LAST)
            self.rate = self.progress["lr"]
            plateau = self.progress["plateau"]
            if plateau["best"] is not None:
                self.plateau.best, self.plateau.bad_epochs = plateau["best"], plateau["bad_epochs"]
        elif start:
            copy_weights(start.checkpoint.model, self.model)
        self._refresh()
        self.loop = loop(self.model, self.optimizer, config)
        self.predictor = Predictor(self.model, config)
        self.steps_per_epoch = math.ceil(len(self.data["train"]) / config.train.batch_size)

    def describe(self, place: str) -> str:
        """What is trained, on which clips, and what the others are for."""
        return describe_run(
            self.config,
            self.split,
            {name: len(data) for name, data in self.data.items()},
            parameters=self.saved.count_params(),
            where=f"Keras on {place.strip('/').lower()}",
        )

    def fit(self, report: Callable[[Mapping[str, Any]], None]) -> None:
        """Trains until the last epoch or until nothing has improved for `patience` epochs."""
        board = _Board(self.output / "tensorboard", self.progress["epoch"] + 1)
        if self.start and self.progress["best"] is None:
            row = {"epoch": 0, **self._validate()}
            self._record(row)
            copy_weights(self.model, self.saved)
            self._save_best()
            report(row)
        while not self.progress["finished"]:
            epoch = self.progress["epoch"]
            started = time.perf_counter()
            row = {"epoch": epoch + 1, **self._train_epoch(epoch), **self._validate()}
            row["seconds"] = round(time.perf_counter() - started, 3)
            improved = self._record(row)
            copy_weights(self.model, self.saved)
            # Best before last: a kill between the two repeats this epoch, bit by bit.
            if improved:
                self._save_best()
            self._save(LAST, progress=self.progress, optimizer=self.optimizer)
            write_text(self.output / "summary.csv", csv_text(self.progress["history"]))
            board.write(row)
            report(row)
        board.close()

    def results(self) -> dict[str, Any]:
        """Scores of the best checkpoint, and who was trained, validated and tested on.

        With a start also those of the model it started from: ``prepared`` as trained, ``plain``
        as it came.
        """
        outcome: dict[str, Any] = {
            "clips": {name: len(data) for name, data in self.data.items()},
            "val_signers": list(self.split.val_signers),
            "test_signers": list(self.split.test_signers),
            "epochs": self.progress["epoch"],
            "best_epoch": self.progress["best"]["epoch"],
            "parameters": self.saved.count_params(),
            **self._scores(load_checkpoint(self.output / BEST).model),
        }
        if self.start:
            before = self.start.checkpoint.model
            outcome["start"] = {
                **self.start.identity,
                "plain": self._scores_by(Predictor(before, self.config)),
                "prepared": self._scores(before),
            }
        return outcome

    def _scores(self, weights: SignBart) -> dict[str, Any]:
        """Percentages on the validation and test clips, of the model in training with `weights`."""
        copy_weights(weights, self.model)
        self._refresh()
        return self._scores_by(self.predictor)

    def _scores_by(self, predictor: Predictor) -> dict[str, Any]:
        return {
            name: percentages(score(predictor(self.data[name]), self.data[name].labels))
            for name in ("val", "test")
            if len(self.data[name])
        }

    def _refresh(self) -> None:
        if self.start:
            self.start.preparation.refresh(self.model)

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the training clips; their mean loss, accuracy and final learning rate."""
        config = self.config.train
        seed_dropout(self.model, config.seed, epoch)

        def set_rate(step: int) -> None:
            step += epoch * self.steps_per_epoch
            rate = learning_rate(config, step, self.steps_per_epoch)
            self.rate = self.rate if rate is None else rate
            self.optimizer.learning_rate.assign(self.rate)

        batches = training_dataset(self.data["train"], self.config, epoch)
        loss, accuracy = self.loop.run_epoch(batches, set_rate)
        if not math.isfinite(loss):
            raise ConfigError(
                f"the training loss is {loss} in epoch {epoch + 1}; lower train.lr "
                f"(now {config.lr:g}) or set train.grad_clip. {self.output / LAST} is untouched"
            )
        self._refresh()
        return {"lr": self.rate, "train_loss": loss, "train_accuracy": 100 * accuracy}

    def _validate(self) -> dict[str, float]:
        """Loss and scores on the validation clips; empty where there are none."""
        data = self.data["val"]
        if not len(data):
            return {}
        logits = self.predictor(data)
        scores = score(logits, data.labels)
        return {
            "val_loss": cross_entropy(logits, data.labels),
            "val_accuracy": 100 * scores.accuracy,
            "val_top5": 100 * scores.top5,
        }

    def _record(self, row: dict[str, Any]) -> bool:
        """Adds an epoch to the progress; True where it is the best so far."""
        config, progress = self.config.train, self.progress
        improved = record_epoch(progress, row, config)
        if row["epoch"] == 0:
            return improved
        if config.scheduler == "plateau" and row["epoch"] >= config.warmup_epochs:
            self.rate = self.plateau.next_rate(self.rate, row.get("val_loss", row["train_loss"]))
        best = self.plateau.best
        progress["plateau"] = {
            "best": best if math.isfinite(best) else None,  # JSON has no infinity
            "bad_epochs": self.plateau.bad_epochs,
        }
        progress["lr"] = self.rate
        return improved

    def _save_best(self) -> None:
        kept = ("epoch", "best", "recordings", "start")
        self._save(BEST, progress={k: self.progress[k] for k in kept if k in self.progress})

    def _save(self, name: str, **content: Any) -> None:
        save_checkpoint(self.saved, self.config, self.class_names, self.output / name, **content)


class Predictor:
    """A model in inference mode, traced once for batches of every shape.

    Args:
        model: Its weights may change between calls.
        config: The run's configuration.
    """

    def __init__(self, model: SignBart, config: RunConfig):
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


def copy_weights(source: SignBart, target: SignBart) -> None:
    """Gives `target` the weights of `source`; what else either keeps is left alone."""
    for one, other in zip(source.trainable_variables, target.trainable_variables, strict=True):
        other.assign(one)


def seed_dropout(model: SignBart, *parts: int) -> None:
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


class _Board:
    """TensorBoard's event files.

    Args:
        folder: Where they go.
        purge_step: Events of earlier, interrupted runs from this step on are hidden.
    """

    def __init__(self, folder: Path, purge_step: int):
        with tf.Graph().as_default():  # this writer, the one that can purge, is not for eager mode
            self._writer = tf.compat.v1.summary.FileWriter(str(folder))
        self._writer.add_session_log(
            tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START), purge_step
        )

    def write(self, row: Mapping[str, float]) -> None:
        """One epoch's numbers, a scalar each."""
        values = [
            tf.compat.v1.Summary.Value(tag=key, simple_value=value)
            for key, value in row.items()
            if key != "epoch"
        ]
        self._writer.add_summary(tf.compat.v1.Summary(value=values), row["epoch"])

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()


def _place(device: str) -> str:
    gpus = tf.config.list_physical_devices("GPU")
    if device == "cuda" and not gpus:
        raise ConfigError("--device cuda: this TensorFlow sees no CUDA device; use --device cpu")
    return "/GPU:0" if gpus and device != "cpu" else "/CPU:0"

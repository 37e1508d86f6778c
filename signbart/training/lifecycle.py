"""The life of a run, whatever the framework: its epochs, the best of them, resuming, its results.

A framework supplies a `Learner`. All randomness of an epoch derives from (seed, epoch), so a
resumed run needs no generator state and ends with the same bits as one that was never interrupted.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from signbart.batches import PreparedClips, prepare_clips
from signbart.configuration.schema import RunConfig
from signbart.errors import DivergedError
from signbart.files import write_text
from signbart.json_text import read_json_file
from signbart.recordings.clip import ClipSet
from signbart.training.confidence import fit_temperature, temperature_of
from signbart.training.frameworks import Framework
from signbart.training.learner import Evaluation, Learner, Start
from signbart.training.metrics import score
from signbart.training.predictions import Predictions, identify, write_predictions
from signbart.training.progress import (
    Pace,
    describe_run,
    identify_run,
    new_progress,
    percentages,
    progress_of_best,
    record_epoch,
)
from signbart.training.requirements import require_trainable, with_labels
from signbart.training.run_folder import EVALUATION, RESULTS, csv_text, find_run, run_lock
from signbart.training.schedule import Plateau, learning_rate
from signbart.training.splits import Split, split_as_begun, split_further
from signbart.waiting import stage


def train(
    clips: ClipSet,
    config: RunConfig,
    output: str | Path,
    *,
    framework: Framework,
    load: Callable[[Path], Any],
    make_learner: Callable[[RunConfig, Sequence[str], Any], Learner],
    test_signers: Sequence[str] = (),
    resume: bool = False,
    report: Callable[[Mapping[str, Any]], None] = lambda row: None,
    announce: Callable[[str], None] = lambda text: None,
    data_name: str = "",
    start: Start | None = None,
    teachers: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains one model, picks its best epoch on held-out clips, and tests that one.

    Args:
        clips: The recordings.
        config: The run's configuration; `model.num_labels` may be left to the data.
        output: Run folder.
        framework: Trains.
        load: Reads its checkpoints.
        make_learner: (configuration, labels, preparation or None) -> what trains.
        test_signers: Signers that take no part in training or in choosing the best epoch.
        resume: Go on from the folder's last checkpoint, if there is one.
        report: Called in the main process with each epoch's row.
        announce: Called once in the main process with what is about to be trained, and on what.
        data_name: How the results name the data.
        start: What to go on from; by default training begins with random weights.
        teachers: Of a distilled run what identifies them, in JSON containers; the learner has them.

    Returns:
        What ``results.json`` holds: split, best epoch, temperature, scores in percent.

    Raises:
        ConfigError: The folder holds another run, or the configuration does not fit.
        ClipError: The recordings do not fit the configuration.
        SignBartError: Another process trains in that folder.
    """
    output = Path(output)
    require_trainable(config, framework)
    config = with_labels(config, clips)
    split = split_further(clips, config.train, test_signers, start.progress if start else {})
    start = start and start.tested_on(clips, split.test_signers)
    identity = identify_run(clips, split.test_signers, start and start.identity, teachers)
    state = find_run(
        output, config, clips.class_names, identity, resume, framework=framework, load=load
    )
    if state and state.progress.get("finished") and (output / RESULTS).is_file():
        return read_json_file(output / RESULTS)
    if state:
        identity["recordings"] = state.progress["recordings"]
        split = split_as_begun(clips, config.train, identity["recordings"])
    data = {
        name: prepare_clips(clips.select(getattr(split, name)), config)
        for name in ("train", "val", "test")
    }
    learner = make_learner(config, clips.class_names, start and start.preparation)
    if state:
        learner.restore(state, output / framework.last)
    elif start is not None:
        learner.load(start.checkpoint, start.source)
    learner.refresh()
    progress = {**(state.progress if state else new_progress()), **identity}
    if clips.made_from:
        progress["made_from"] = list(clips.made_from)
    tested = clips.select(split.test)
    run = _Run(learner, config, split, data, tested, output, framework, progress, start)
    saying = stage if learner.is_main else nullcontext
    with run_lock(output, config) if learner.is_main else nullcontext():
        if learner.is_main:
            announce(run.describe())
        learner.require_alike({"epoch": progress["epoch"], **identity}, output / "config.yaml")
        with saying(run.pace.describe):
            run.fit(report)
        with saying("evaluating the best epoch"):
            results = {"data": data_name, **run.results(load)}
        if learner.is_main:
            write_text(output / RESULTS, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    return results


@dataclass
class _Run:
    """One training in progress."""

    learner: Learner
    config: RunConfig
    split: Split
    data: Mapping[str, PreparedClips]
    tested: ClipSet
    output: Path
    framework: Framework
    progress: dict[str, Any]
    start: Start | None

    def __post_init__(self):
        config = self.config.train
        self.rate = self.progress.get("lr", config.lr)
        self.steps_per_epoch = math.ceil(len(self.data["train"]) / config.batch_size)
        self.plateau = Plateau.of(config, self.progress.get("plateau"))
        self.pace = Pace(config.epochs, self.steps_per_epoch, self.progress["epoch"])

    def describe(self) -> str:
        """What is trained, on which clips, and what the others are for."""
        counts = {name: len(data) for name, data in self.data.items()}
        about = {"parameters": self.learner.parameters, "where": self.learner.where}
        text = describe_run(self.config, self.split, counts, **about)
        return "\n".join([text, *self.learner.notes, *(self.start.notes if self.start else ())])

    def fit(self, report: Callable[[Mapping[str, Any]], None]) -> None:
        """Trains until the last epoch or until nothing has improved for `patience` epochs."""
        learner, progress = self.learner, self.progress
        if learner.is_main:
            events = learner.open_event_writer(self.output / "tensorboard", progress["epoch"] + 1)
        if self.start is not None and progress["best"] is None:
            row = {"epoch": 0, **self._validate()}
            record_epoch(progress, row, self.config.train)
            if learner.is_main:
                self._save_best()
                report(row)
        while not progress["finished"]:
            epoch, started = progress["epoch"], time.perf_counter()
            row = {"epoch": epoch + 1, **self._train_epoch(epoch)}
            learner.refresh()
            row |= self._validate()
            row["seconds"] = round(time.perf_counter() - started, 3)
            improved = self._record(row)
            if learner.is_main:
                # What is gone on from comes last: a kill before it repeats this epoch, bit by bit.
                if improved:
                    self._save_best()
                write_text(self.output / "summary.csv", csv_text(progress["history"]))
                learner.save(self.output / self.framework.last, progress, resumable=True)
                events.write(row)
                report(row)
        if learner.is_main:
            events.close()

    def results(self, load: Callable[[Path], Any]) -> dict[str, Any]:
        """Scores of the best checkpoint, and who was trained, validated and tested on.

        With averaged weights also ``last_plain``, those of the plain weights after the last epoch.
        With a start also those of the model it started from: ``plain`` as it came, and where it is
        prepared for training also ``prepared``. What the best one says of each test clip goes into
        `EVALUATION`, but for prepared ones: the checkpoint itself says something else.
        """
        self.learner.wait_for_others()  # the main process may still be writing
        best = self.output / self.framework.best
        plain = {}
        if self.config.train.ema:
            plain["last_plain"] = self._scores(self._evaluations(self.learner.evaluate_plain))
        found = self._prepared_evaluations(load(best), best)
        prepared = self.start is not None and self.start.preparation is not None
        if self.learner.is_main and "test" in found and not prepared:
            self._keep(best, found["test"])
        outcome: dict[str, Any] = {
            "clips": {name: len(data) for name, data in self.data.items()},
            **{k: self.progress[k] for k in ("made_from", "teachers") if k in self.progress},
            "val_signers": list(self.split.val_signers),
            "test_signers": sorted(self.split.test_signers),
            "epochs": self.progress["epoch"],
            "best_epoch": self.progress["best"]["epoch"],
            "temperature": round(temperature_of(self.progress, best), 4),
            "parameters": self.learner.parameters,
            **self._scores(found),
            **plain,
        }
        if self.start is not None:
            before = self.start.checkpoint, self.start.source
            plain = self._scores(self._evaluations(self.learner.evaluator_of(*before)))
            outcome["start"] = {**self.start.identity, "plain": plain}
            if prepared:
                outcome["start"]["prepared"] = self._scores(self._prepared_evaluations(*before))
        return outcome

    def _prepared_evaluations(self, checkpoint: Any, source: str | Path) -> dict[str, Evaluation]:
        self.learner.load(checkpoint, source)
        self.learner.refresh()
        return self._evaluations(self.learner.evaluate)

    def _evaluations(
        self, evaluate: Callable[[PreparedClips], Evaluation]
    ) -> dict[str, Evaluation]:
        """Of the validation and the test clips, where there are any."""
        return {name: evaluate(self.data[name]) for name in ("val", "test") if len(self.data[name])}

    def _scores(self, evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
        """Percentages of the parts that were evaluated."""
        return {
            name: percentages(score(evaluation.logits, self.data[name].labels))
            | {key: round(value, 3) for key, value in evaluation.percentages.items()}
            for name, evaluation in evaluations.items()
        }

    def _keep(self, best: Path, evaluation: Evaluation) -> None:
        """Writes down what the best checkpoint says of the test clips."""
        temperature = temperature_of(self.progress, best)
        kept = Predictions.of(best.name, self.tested, evaluation.logits, temperature)
        write_predictions(self.output / EVALUATION, kept, identify(best, self.tested))

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the training clips; their mean loss, accuracy and final learning rate."""
        config = self.config.train

        def rate_of(step: int) -> float:
            self.pace.begin(epoch, step)
            rate = learning_rate(config, step + epoch * self.steps_per_epoch, self.steps_per_epoch)
            self.rate = self.rate if rate is None else rate
            return self.rate

        loss, accuracy = self.learner.train_epoch(self.data["train"], epoch, rate_of)
        if not math.isfinite(loss):
            raise DivergedError(
                f"the training loss is {loss} in epoch {epoch + 1}; lower train.lr "
                f"(now {config.lr:g}) or set train.grad_clip. "
                f"{self.output / self.framework.last} is untouched"
            )
        return {"lr": self.rate, "train_loss": loss, "train_accuracy": accuracy}

    def _validate(self) -> dict[str, float]:
        """Loss and scores on the validation clips; empty where there are none."""
        data = self.data["val"]
        if not len(data):
            return {}
        evaluation = self.learner.evaluate(data)
        scores = score(evaluation.logits, data.labels)
        row = {
            "val_loss": evaluation.loss,
            "val_accuracy": 100 * scores.accuracy,
            "val_top5": 100 * scores.top5,
            "val_temperature": fit_temperature(evaluation.logits, data.labels),
            **{f"val_{key}": value for key, value in evaluation.percentages.items()},
        }
        if self.config.train.ema:
            plain = self.learner.evaluate_plain(data)
            row["plain_val_loss"] = plain.loss
            row["plain_val_accuracy"] = 100 * score(plain.logits, data.labels).accuracy
        return row

    def _record(self, row: dict[str, Any]) -> bool:
        """Adds a trained epoch to the progress; True where it is the best so far."""
        config, progress = self.config.train, self.progress
        improved = record_epoch(progress, row, config)
        if config.scheduler == "plateau" and row["epoch"] >= config.warmup_epochs:
            self.rate = self.plateau.next_rate(self.rate, row.get("val_loss", row["train_loss"]))
        progress["plateau"] = self.plateau.state()
        progress["lr"] = self.rate
        return improved

    def _save_best(self) -> None:
        self.learner.save(
            self.output / self.framework.best, progress_of_best(self.progress), resumable=False
        )

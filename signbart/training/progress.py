"""How far a run is: its epochs, the best of them, and what is said of both.

Progress is kept in checkpoints, in JSON containers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from signbart.configuration.schema import RunConfig, TrainConfig
from signbart.recordings.clip import ClipSet
from signbart.training.metrics import Scores
from signbart.training.splits import Split
from signbart.waiting import time_left


class Pace:
    """How far training is and what is left of it, for those who wait.

    Args:
        epochs: Of the whole run, at most.
        steps: Of an epoch.
        done: Epochs that were trained before.
    """

    def __init__(self, epochs: int, steps: int, done: int):
        self._epochs, self._steps, self._first = epochs, steps, done * steps
        self._at, self._begun = self._first, time.monotonic()

    def begin(self, epoch: int, step: int) -> None:
        """Notes that a step begins; both numbers count from 0."""
        self._at = epoch * self._steps + step

    def describe(self) -> str:
        """Such as ``epoch 3 of 80, step 12 of 34, 5 min left``."""
        epoch, step = divmod(self._at, self._steps)
        seconds = time.monotonic() - self._begun
        left = time_left(self._at - self._first, self._epochs * self._steps - self._first, seconds)
        return f"epoch {epoch + 1} of {self._epochs}, step {step + 1} of {self._steps}{left}"


def identify_recordings(clips: ClipSet, test_signers: Sequence[str]) -> dict[str, Any]:
    """What a resumed run must find again: the recordings and their division."""
    return {
        "fingerprint": clips.fingerprint(),
        "clips": len(clips),
        "test_signers": list(test_signers),
    }


def identify_run(
    clips: ClipSet,
    test_signers: Sequence[str],
    start: Mapping[str, Any] | None,
    teachers: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What a run must find again to be gone on with, a part a source; see `run_folder.find_run`.

    Args:
        clips: Its recordings.
        test_signers: Whom of them it is tested on, sorted.
        start: What identifies the model that it goes on from; None: there is none.
        teachers: What identifies those it learns from; None: there are none.
    """
    found = {"start": start, "teachers": teachers}
    return {
        "recordings": identify_recordings(clips, test_signers),
        **{name: dict(part) for name, part in found.items() if part is not None},
    }


def describe_run(
    config: RunConfig, split: Split, clips: Mapping[str, int], *, parameters: int, where: str
) -> str:
    """What is trained, on which clips, and what the others are for.

    Args:
        config: The run's configuration.
        split: Who is trained, validated and tested on.
        clips: How many, by ``train``, ``val`` and ``test``.
        parameters: Trainable values of the model.
        where: What it is computed on.
    """
    how = ""
    if clips["val"]:
        how = f" ({', '.join(split.val_signers) or 'of the training signers'})"
    frames = "resampled to" if config.data.resample == "linear" else "up to"
    tested = f" ({', '.join(split.test_signers)})" if split.test_signers else ""
    averaged = ""
    if decay := config.train.ema:
        averaged = (
            f"\nweights are averaged (EMA, {decay:g}): the average is validated, tested and saved, "
            "as best and as last; the plain weights are scored beside it"
        )
    return (
        f"{config.name}: {parameters:,} parameters, "
        f"{config.model.num_labels} classes, {config.num_keypoints} keypoints of layout "
        f"{config.data.layout}, {frames} {config.data.max_frames} frames, normalisation "
        f"{config.data.normalization}; seed {config.train.seed}, {where}\n"
        f"clips: {clips['train']} to train on, {clips['val']} to choose the "
        f"best epoch by{how}, {clips['test']} to test on{tested}{averaged}"
    )


def new_progress() -> dict[str, Any]:
    """The progress of a run of which nothing was trained yet."""
    return {"epoch": 0, "history": [], "best": None, "finished": False}


def record_epoch(progress: dict[str, Any], row: Mapping[str, Any], config: TrainConfig) -> bool:
    """Adds an epoch to the progress; True where it is the best so far.

    Epoch 0, a trained model before it is trained on, can only be the best.

    The best one's temperature is kept beside it; see `confidence`.

    Best is the highest validation accuracy, then the lowest loss; without validation clips, the
    latest. Training is finished after the last epoch, or when nothing has improved for
    `config.patience` epochs.
    """
    best = progress["best"]
    key = [row.get("val_accuracy", 0.0), -row.get("val_loss", -row["epoch"])]
    improved = best is None or key > best["key"]
    if improved:
        progress["best"] = best = {"epoch": row["epoch"], "key": key}
        progress["temperature"] = row.get("val_temperature", 1.0)
    if row["epoch"] == 0:
        return improved
    progress["history"] = [*progress["history"], row]
    progress["epoch"] = row["epoch"]
    stale = row["epoch"] - best["epoch"]
    stopped = bool(config.patience) and stale >= config.patience
    progress["finished"] = row["epoch"] >= config.epochs or stopped
    return improved


def progress_of_best(progress: Mapping[str, Any]) -> dict[str, Any]:
    """What the best epoch's checkpoint says of the run."""
    kept = ("epoch", "best", "recordings", "start", "teachers", "made_from", "temperature")
    return {key: progress[key] for key in kept if key in progress}


def percentages(scores: Scores) -> dict[str, float]:
    """What ``results.json`` says of `scores`."""
    return {
        "accuracy": round(100 * scores.accuracy, 3),
        "top5": round(100 * scores.top5, 3),
        "mean_class_accuracy": round(100 * scores.mean_class_accuracy, 3),
    }

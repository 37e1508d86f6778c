"""What training does alike in every framework: names, seeds, the best epoch, scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from signbart.configuration.schema import RunConfig, TrainConfig
from signbart.errors import ConfigError
from signbart.models import MODEL_KINDS
from signbart.models.kind import ModelKind
from signbart.recordings.clip import ClipSet
from signbart.training.frameworks import Framework
from signbart.training.metrics import Scores
from signbart.training.splits import Split


def with_labels(config: RunConfig, clips: ClipSet) -> RunConfig:
    """`config` with the number of classes that the data has.

    Raises:
        ConfigError: It asks for another number, or gives some classes a category and not others.
    """
    found = len(clips.class_names)
    wanted = config.model.num_labels
    if wanted not in (None, found):
        raise ConfigError(
            f"model.num_labels is {wanted}, but the recordings have {found} classes; "
            "leave the key out, or use the configuration that belongs to them"
        )
    without = [name for name in clips.class_names if name not in config.data.categories]
    if config.data.categories and without:
        raise ConfigError(
            f"data.categories has no category for {', '.join(without[:5])}"
            + (f" and {len(without) - 5} more" if len(without) > 5 else "")
            + "; give every class of the recordings one, or leave the key out"
        )
    return dataclasses.replace(config, model=dataclasses.replace(config.model, num_labels=found))


def require_fake_quantized(config: RunConfig) -> None:
    """Refuses kinds of model that quantization-aware training does not know the layers of.

    Raises:
        ConfigError: The configuration is of such a kind.
    """
    _require_kind(
        config, [k for k in MODEL_KINDS.values() if k.fake_quantized], "quantization-aware training"
    )


def require_trainable(config: RunConfig, framework: Framework) -> None:
    """Refuses what a framework does not train.

    Raises:
        ConfigError: It is a kind of model, or a precision, that the framework does not train.
    """
    trained = [kind for kind in MODEL_KINDS.values() if framework.name in kind.trained_in]
    _require_kind(config, trained, f"training in {framework.title}")
    if config.train.precision not in framework.precisions:
        raise ConfigError(
            f"train.precision is {config.train.precision}, which {framework.package} does not "
            f"train in; set it to {' or '.join(framework.precisions)}"
        )


def _require_kind(config: RunConfig, kinds: Sequence[ModelKind], what: str) -> None:
    if config.kind not in [kind.name for kind in kinds]:
        titles = ", ".join(kind.title for kind in kinds)
        raise ConfigError(f"{what} is for {titles} only, and not for model '{config.kind}'")


def identify_recordings(clips: ClipSet, test_signers: Sequence[str]) -> dict[str, Any]:
    """What a resumed run must find again: the recordings and their division."""
    return {
        "fingerprint": clips.fingerprint(),
        "clips": len(clips),
        "test_signers": list(test_signers),
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
    tested = f" ({', '.join(split.test_signers)})" if split.test_signers else ""
    return (
        f"{config.name}: {parameters:,} parameters, "
        f"{config.model.num_labels} classes, {config.num_keypoints} keypoints of layout "
        f"{config.data.layout}, up to {config.data.max_frames} frames, normalisation "
        f"{config.data.normalization}; seed {config.train.seed}, {where}\n"
        f"clips: {clips['train']} to train on, {clips['val']} to choose the "
        f"best epoch by{how}, {clips['test']} to test on{tested}"
    )


def new_progress() -> dict[str, Any]:
    """The progress of a run of which nothing was trained yet."""
    return {"epoch": 0, "history": [], "best": None, "finished": False}


def record_epoch(progress: dict[str, Any], row: Mapping[str, Any], config: TrainConfig) -> bool:
    """Adds an epoch to the progress; True where it is the best so far.

    Epoch 0, a trained model before it is trained on, can only be the best.

    Best is the highest validation accuracy, then the lowest loss; without validation clips, the
    latest. Training is finished after the last epoch, or when nothing has improved for
    `config.patience` epochs.
    """
    best = progress["best"]
    key = [row.get("val_accuracy", 0.0), -row.get("val_loss", -row["epoch"])]
    improved = best is None or key > best["key"]
    if improved:
        progress["best"] = best = {"epoch": row["epoch"], "key": key}
    if row["epoch"] == 0:
        return improved
    progress["history"] = [*progress["history"], row]
    progress["epoch"] = row["epoch"]
    stale = row["epoch"] - best["epoch"]
    stopped = bool(config.patience) and stale >= config.patience
    progress["finished"] = row["epoch"] >= config.epochs or stopped
    return improved


def percentages(scores: Scores) -> dict[str, float]:
    """What ``results.json`` says of `scores`."""
    return {
        "accuracy": round(100 * scores.accuracy, 3),
        "top5": round(100 * scores.top5, 3),
        "mean_class_accuracy": round(100 * scores.mean_class_accuracy, 3),
    }


def mixed_seed(*parts: int) -> int:
    """One seed of 32 bits from several numbers, such as a run's seed and an epoch."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])

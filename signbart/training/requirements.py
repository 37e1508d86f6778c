"""What has to hold before anything is trained: the configuration fits recordings and framework."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from signbart.configuration.schema import RunConfig, TrainConfig
from signbart.errors import ConfigError
from signbart.models import MODEL_KINDS
from signbart.models.kind import ModelKind
from signbart.recordings.clip import ClipSet
from signbart.training.frameworks import Framework


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


def require_trainable(config: RunConfig, framework: Framework) -> None:
    """Refuses what a framework does not train.

    Raises:
        ConfigError: It is a kind of model, or a precision, that the framework does not train, or a
            setting that it lacks.
    """
    trained = [kind for kind in MODEL_KINDS.values() if framework.name in kind.trained_in]
    _require_kind(config, trained, f"training in {framework.title}")
    if config.train.precision not in framework.precisions:
        raise ConfigError(
            f"train.precision is {config.train.precision}, which {framework.package} does not "
            f"train in; set it to {' or '.join(framework.precisions)}"
        )
    default = TrainConfig()
    for key in framework.lacks:
        found, usual = (str(getattr(of, key)).lower() for of in (config.train, default))
        if found != usual:
            raise ConfigError(
                f"train.{key} is {found}, which {framework.package} does not train with; set it "
                f"to {usual}"
            )


def require_fake_quantized(config: RunConfig) -> None:
    """Refuses kinds of model that quantization-aware training does not know the layers of.

    Raises:
        ConfigError: The configuration is of such a kind.
    """
    _require_kind(
        config, [k for k in MODEL_KINDS.values() if k.fake_quantized], "quantization-aware training"
    )


def require_prunable(config: RunConfig) -> None:
    """Refuses kinds of model that pruning does not know the units of.

    Raises:
        ConfigError: The configuration is of such a kind.
    """
    _require_kind(config, [k for k in MODEL_KINDS.values() if k.widths], "pruning")


def _require_kind(config: RunConfig, kinds: Sequence[ModelKind], what: str) -> None:
    if config.kind not in [kind.name for kind in kinds]:
        titles = ", ".join(kind.title for kind in kinds)
        raise ConfigError(f"{what} is for {titles} only, and not for model '{config.kind}'")

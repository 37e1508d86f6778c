"""Quantization-aware training, whatever the framework: a run that starts from a checkpoint.

A framework supplies its fake quantization, which is the run's preparation (see `learner.Start`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from signbart.configuration.reading import from_dict
from signbart.configuration.schema import RunConfig
from signbart.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from signbart.recordings.clip import ClipSet

# What may differ from the original run: nothing that changes the network, what it is fed, or who is
# trained on.
_DROPOUTS = ("dropout", "activation_dropout", "attention_dropout", "classifier_dropout")
DEFAULTS = {"epochs": "10", "lr": "5e-5", "batch_size": "4", "grad_clip": "1.0", "patience": "10"}
_DIVISION = ("seed", "val_signers", "val_fraction")


def default_overrides(**given: str) -> list[str]:
    """The settings of this training as overrides of the original run's configuration.

    Args:
        given: Instead of `DEFAULTS`; `training_config` checks them.
    """
    settings = DEFAULTS | given
    return [
        "train.scheduler=cosine",
        "train.warmup_epochs=0",
        *(f"train.{name}={value}" for name, value in settings.items()),
    ]


def training_config(config: RunConfig, overrides: Sequence[str], *, source: str) -> RunConfig:
    """The original run's configuration with the settings of this training.

    Args:
        config: The checkpoint's.
        overrides: ``section.key=value`` texts, later ones winning.
        source: The checkpoint's path, for messages.

    Raises:
        ConfigError: See `continued_config`.
    """
    # bf16 would round what has just been put on an int8 grid; and all of it is to be learned.
    overrides = [
        "train.precision=float32", "train.cuda_graphs=false", "train.body_lr_scale=1", *overrides
    ]  # fmt: skip
    return continued_config(config, overrides, source=source)


def continued_config(config: RunConfig, overrides: Sequence[str], *, source: str) -> RunConfig:
    """A run's configuration with other settings of training, and nothing else.

    Args:
        config: The checkpoint's.
        overrides: ``section.key=value`` texts, later ones winning.
        source: The checkpoint's path, for messages.

    Raises:
        ConfigError: A value is wrong, or the override would change the network, what it is fed, or
            who is trained on.
    """
    changed = from_dict(config.to_dict(), source=source, overrides=overrides)
    may_differ = {
        "model": _DROPOUTS,
        "data": (),
        "augment": [field.name for field in dataclasses.fields(config.augment)],
        "train": [f.name for f in dataclasses.fields(config.train) if f.name not in _DIVISION],
    }
    for section, free in may_differ.items():
        old, new = (dataclasses.asdict(getattr(run, section)) for run in (config, changed))
        for key, value in new.items():
            if key not in free and value != old[key]:
                raise ConfigError(
                    f"--set {section}.{key}={value!r}: it is {old[key]!r} in {source}, and has to "
                    "stay what the model was trained with"
                )
    return changed


def unseen_signers(
    progress: Mapping[str, Any],
    clips: ClipSet,
    test_signers: Sequence[str] | None,
    source: str | Path,
) -> tuple[str, ...]:
    """Who is tested: those that the checkpoint was not trained on.

    Args:
        progress: The checkpoint's.
        clips: The recordings.
        test_signers: Who they are, where the checkpoint does not say; None is not said.
        source: The checkpoint's path, for messages.

    Raises:
        ConfigError: It is not known, or these signers are others.
    """
    before: Mapping[str, Any] | None = progress.get("recordings")
    if before is None:
        if test_signers is None:
            raise ConfigError(
                f"{source} does not say which signers it was not trained on; name them with "
                "--test-signers (without a name after it: there are none)"
            )
        return tuple(test_signers)
    if before["fingerprint"] != clips.fingerprint():
        if test_signers is None:
            raise ConfigError(
                f"these recordings are not those that {source} was trained on ({len(clips)} clips "
                f"here, {before['clips']} there, or other content); give the same --data and "
                "--split, or say by --test-signers whom neither training may see"
            )
        return tuple(test_signers)
    known = tuple(before["test_signers"])
    if test_signers is not None and set(test_signers) != set(known):
        raise ConfigError(
            f"--test-signers {' '.join(test_signers)}: {source} was tested on "
            f"{' '.join(known) or 'no signer'} and trained on the others; leave the option out"
        )
    return known


class FakeQuantization(Protocol):
    """Makes a model compute on int8 grids while it trains.

    Attributes:
        scheme: The arithmetic's name: ``dynamic_int8`` or ``int8``.
        layers: What the framework calls the layers that it changes.
        count: How many it changed, once a model is prepared.
    """

    scheme: str
    layers: str
    count: int


def train_quantized(
    clips: ClipSet,
    checkpoint: Any,
    config: RunConfig,
    output: str | Path,
    *,
    train: Callable[..., dict[str, Any]],
    fake_quantization: Callable[[Any], FakeQuantization],
    source: str | Path,
    static: bool = False,
    test_signers: Sequence[str] | None = None,
    announce: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> dict[str, Any]:
    """Trains a checkpoint on, fake-quantized; see `lifecycle.train` for what is not listed.

    Args:
        clips: The recordings it was trained on.
        checkpoint: The trained model.
        config: From `training_config`.
        output: Run folder.
        train: The framework's ``learner.train``.
        fake_quantization: The framework's preparation: of calibration inputs, or of None for
            ``dynamic_int8``.
        source: The checkpoint's path.
        static: Train for ``int8``, whose activation ranges are measured on training clips, and not
            for ``dynamic_int8``, whose ranges are measured token by token at run time.
        test_signers: Where the checkpoint does not say who they are; None is not said.
        announce: Called once with what is about to be trained, and how.
        options: `lifecycle.train`'s.

    Returns:
        The run's results, all of fake-quantized models but ``start.plain``.

    Raises:
        CheckpointError: The checkpoint does not fit the recordings.
        ConfigError: The model's kind is not known, nor the division, or it would test on whom the
            model was trained.
        ClipError: There are too few clips to calibrate on.
    """
    from signbart.files import file_sha256
    from signbart.training.calibration import calibration_inputs
    from signbart.training.learner import Start
    from signbart.training.requirements import require_fake_quantized
    from signbart.training.splits import split_further

    require_fake_quantized(config)
    if checkpoint.class_names and checkpoint.class_names != clips.class_names:
        raise CheckpointError(f"{source} was trained on other classes than these recordings have")
    test_signers = unseen_signers(checkpoint.progress, clips, test_signers, source)
    split = split_further(clips, config.train, test_signers, checkpoint.progress)
    # The clips that bridge/convert.py takes by default, from the same recordings and with seed 0.
    calibration = calibration_inputs(clips.select(split.train), config) if static else None
    quantization = fake_quantization(calibration)

    def describe(text: str) -> None:
        how = f"{quantization.count} {quantization.layers} layers fake-quantized"
        if calibration is not None:
            how += f", ranges measured on {len(calibration[0])} training clips"
        lines = [text, f"{quantization.scheme}: {how}"]
        if not len(split.val):
            lines.append(
                "no clips to choose an epoch by, as in the checkpoint's run: the last one is kept"
            )
        announce("\n".join(lines))

    identity = {"scheme": quantization.scheme, "checkpoint": file_sha256(source)}
    return train(
        clips,
        config,
        output,
        test_signers=test_signers,
        announce=describe,
        start=Start(checkpoint, source, identity, quantization, progress=checkpoint.progress),
        **options,
    )

"""Quantization-aware training, as far as it needs no framework: settings, division, command."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signbart.configuration.reading import from_dict
from signbart.configuration.schema import RunConfig
from signbart.console import print_table
from signbart.errors import ConfigError
from signbart.recordings.options import add_reading_arguments
from signbart.training.options import print_skipped

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
        ConfigError: A value is wrong, or the override would change the network, what it is fed, or
            who is trained on.
    """
    # bf16 would round what has just been put on an int8 grid.
    overrides = ["train.precision=float32", *overrides]
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


def add_arguments(parser: argparse.ArgumentParser, *, checkpoint: str) -> None:
    """The options of the commands.

    Args:
        parser: Receives them.
        checkpoint: What kind of file the checkpoint is, for the help.
    """
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="FILE", help=checkpoint)
    add("--data", required=True, metavar="PATH", help="the recordings it was trained on")
    add_reading_arguments(parser)
    add("--output", required=True, metavar="FOLDER", help="run folder, for example runs/NAME_qat")
    add(
        "--static",
        action="store_true",
        help="train for static int8; without it, for dynamic_int8",
    )
    add("--epochs", default=DEFAULTS["epochs"], metavar="N", help="default: %(default)s")
    add(
        "--lr",
        default=DEFAULTS["lr"],
        metavar="RATE",
        help="peak learning rate; default: %(default)s",
    )
    add("--batch-size", default=DEFAULTS["batch_size"], metavar="N", help="default: %(default)s")
    add("--grad-clip", default=DEFAULTS["grad_clip"], metavar="NORM", help="default: %(default)s")
    add(
        "--patience",
        default=DEFAULTS["patience"],
        metavar="N",
        help="stop after this many epochs without a better one; default: %(default)s",
    )
    add(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other setting, for example --set train.label_smoothing=0.1; may be repeated",
    )
    add(
        "--test-signers",
        nargs="*",
        metavar="SIGNER",
        help="signers to test on, where the checkpoint does not say whom it was tested on",
    )
    add(
        "--split",
        default="all",
        choices=("train", "val", "test", "all"),
        help="read this split of the recordings only (default: %(default)s)",
    )
    add("--resume", action="store_true", help="go on where the folder's run stopped")
    add("--skip-bad", action="store_true", help="leave unusable clips out, and count them")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: %(default)s")


def print_quantized_results(
    results: Mapping[str, Any], skipped: Sequence[str], checkpoint: str
) -> None:
    """The scores before and after, and what comes next.

    Args:
        results: As ``results.json`` has them.
        skipped: The clips that were left out.
        checkpoint: What was written.
    """
    print_skipped(skipped)
    start, parts = results["start"], [name for name in ("val", "test") if name in results]
    rows = [
        [name, *(f"{scores[part]['accuracy']:.2f}" for part in parts)]
        for name, scores in (
            ("float32, before", start["plain"]),
            (f"{start['scheme']}, before", start["prepared"]),
            (f"{start['scheme']}, epoch {results['best_epoch']}", results),
        )
    ]
    if parts:
        print_table("Accuracy in percent", ["", *parts], rows)
    print(f"wrote {checkpoint}")
    print("next:")
    print(
        f"  python bridge/convert.py --checkpoint {checkpoint} --quantize {start['scheme']} "
        f"--data {results['data']} --output exports/NAME"
    )

"""What the training commands do in every framework; each of its own adds what only it has."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from signbart.checksums import add_checksum_argument
from signbart.console import next_command, print_table
from signbart.recordings.options import SignerNames, add_reading_arguments
from signbart.training.options import (
    EpochReport,
    init_of,
    print_next_steps,
    print_results,
    print_skipped,
)
from signbart.training.qat import (
    DEFAULTS,
    continued_config,
    default_overrides,
    training_config,
)

if TYPE_CHECKING:
    from signbart.training.frameworks import Framework


def train_one(
    options: argparse.Namespace,
    framework: Framework,
    *,
    train: Callable[..., dict[str, Any]],
    is_main: bool = True,
) -> None:
    """Trains one model, and prints its epochs and its scores.

    Args:
        options: Of `options.add_run_arguments`, `add_split_arguments` and `add_init_arguments`.
        framework: Trains.
        train: Its ``learner.train``.
        is_main: Whether this process prints, among those that train together.
    """
    from signbart.configuration.reading import load_config
    from signbart.recordings.options import read_data

    config = load_config(options.config, options.overrides)
    init = init_of(options)
    if init is None and config.train.body_lr_scale != 1.0 and is_main:
        print(
            "warning: train.body_lr_scale slows the learning of random weights down; it is for "
            "models that start from trained ones: give --init, or leave it at 1",
            file=sys.stderr,
        )
    clips = read_data(options, layout=config.data.landmark_layout, quiet=not is_main)
    with EpochReport(config.train.epochs, quiet=not is_main) as report:
        results = train(
            clips, config, options.output, init=init, report=report, **_run_options(options)
        )
    if is_main:
        print_results(results, clips.skipped)
        print(f"wrote {options.output}/{framework.best}")
        print_next_steps(f"{options.output}/{framework.best}", options.output)


def train_one_quantized(
    options: argparse.Namespace,
    framework: Framework,
    *,
    train_quantized: Callable[..., dict[str, Any]],
    load: Callable[..., Any],
    is_main: bool = True,
) -> None:
    """Trains a checkpoint on, fake-quantized, and prints its epochs and its scores.

    Args:
        options: Of `add_quantized_arguments`.
        framework: Trains.
        train_quantized: Its ``compression.qat.train_quantized``.
        load: Reads its checkpoints, which have a configuration.
        is_main: Whether this process prints, among those that train together.
    """
    from signbart.recordings.options import read_data

    checkpoint = load(options.checkpoint, checksum=options.checksum)
    clips = read_data(options, layout=checkpoint.config.data.landmark_layout, quiet=not is_main)
    overrides = default_overrides(**{name: getattr(options, name) for name in DEFAULTS})
    config = training_config(
        checkpoint.config, [*overrides, *options.overrides], source=options.checkpoint
    )
    with EpochReport(config.train.epochs, quiet=not is_main) as report:
        results = train_quantized(
            clips,
            checkpoint,
            config,
            options.output,
            source=options.checkpoint,
            static=options.static,
            report=report,
            **_run_options(options),
        )
    if is_main:
        print_quantized_results(results, clips.skipped, f"{options.output}/{framework.best}")


def train_one_pruned(
    options: argparse.Namespace,
    framework: Framework,
    *,
    train_pruned: Callable[..., dict[str, Any]],
    load: Callable[..., Any],
    is_main: bool = True,
) -> None:
    """Makes a checkpoint's model smaller, trains it on, and prints its epochs and its scores.

    Args:
        options: Of `add_continued_arguments`, and the fields of `pruning.Target`.
        framework: Trains.
        train_pruned: Its ``compression.pruning.train_pruned``.
        load: Reads its checkpoints.
        is_main: Whether this process prints, among those that train together.

    Raises:
        CheckpointError: The checkpoint has no configuration.
    """
    from signbart.errors import CheckpointError
    from signbart.recordings.options import read_data
    from signbart.training.pruning import Target

    target = Target(options.parameters, options.keep)
    checkpoint = load(options.checkpoint, checksum=options.checksum)
    if checkpoint.config is None:
        raise CheckpointError(
            f"{options.checkpoint} carries no configuration; prune a checkpoint that this project "
            "wrote, such as that of a run that starts from it (train --init)"
        )
    config = continued_config(checkpoint.config, options.overrides, source=options.checkpoint)
    clips = read_data(options, layout=config.data.landmark_layout, quiet=not is_main)
    with EpochReport(config.train.epochs, quiet=not is_main) as report:
        results = train_pruned(
            clips,
            checkpoint,
            config,
            options.output,
            source=options.checkpoint,
            target=target,
            report=report,
            **_run_options(options),
        )
    if is_main:
        before = results["start"]["plain"]
        if before:
            scores = (f"{part} {of['accuracy']:.2f}" for part, of in before.items())
            print(f"pruned, before training: {', '.join(scores)} percent")
        print_results(results, clips.skipped)
        print(f"wrote {options.output}/{framework.best}")
        print_next_steps(f"{options.output}/{framework.best}", options.output)


def _run_options(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "test_signers": options.test_signers,
        "resume": options.resume,
        "device": options.device,
        "announce": lambda text: print(text, flush=True),
        "data_name": options.data,
    }


def add_quantized_arguments(parser: argparse.ArgumentParser, *, checkpoint: str) -> None:
    """The options of quantization-aware training.

    Args:
        parser: Receives them.
        checkpoint: What kind of file the checkpoint is, for the help.
    """
    add_continued_arguments(parser, checkpoint=checkpoint, output="runs/NAME_qat")
    add = parser.add_argument
    add(
        "--static",
        action="store_true",
        help="train for int8 (default: for dynamic_int8)",
    )
    add("--epochs", default=DEFAULTS["epochs"], metavar="N", help="(default: %(default)s)")
    add(
        "--lr",
        default=DEFAULTS["lr"],
        metavar="RATE",
        help="peak learning rate (default: %(default)s)",
    )
    add("--batch-size", default=DEFAULTS["batch_size"], metavar="N", help="(default: %(default)s)")
    add(
        "--grad-clip",
        default=DEFAULTS["grad_clip"],
        metavar="NORM",
        help="largest norm of a step's gradients (default: %(default)s)",
    )
    add(
        "--patience",
        default=DEFAULTS["patience"],
        metavar="N",
        help="stop after this many epochs without a better one (default: %(default)s)",
    )


def add_continued_arguments(
    parser: argparse.ArgumentParser, *, checkpoint: str, output: str
) -> None:
    """The options of a training that goes on from a checkpoint as it was divided there.

    Args:
        parser: Receives them.
        checkpoint: What kind of file the checkpoint is, for the help.
        output: A run folder, likewise.
    """
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="FILE", help=checkpoint)
    add("--data", required=True, metavar="PATH", help="the recordings it was trained on")
    add_reading_arguments(parser)
    add("--output", required=True, metavar="FOLDER", help=f"run folder, for example {output}")
    add(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the checkpoint's configuration, for example --set "
        "train.label_smoothing=0.1; may be repeated",
    )
    add(
        "--test-signers",
        nargs="*",
        action=SignerNames,
        metavar="SIGNER",
        help="signers to test on, where the checkpoint does not say whom it was tested on; @FILE "
        "reads them from a file, one a line",
    )
    add(
        "--split",
        default="all",
        choices=("train", "val", "test", "all"),
        help="read this split of the recordings only (default: %(default)s)",
    )
    add("--resume", action="store_true", help="go on where the folder's run stopped")
    add("--skip-bad", action="store_true", help="leave unusable clips out, and count them")
    add(
        "--device",
        default="auto",
        choices=("auto", "cpu", "cuda"),
        help="where to compute (default: auto, which takes a GPU where there is one)",
    )
    add_checksum_argument(parser)


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
        f"  {next_command('bridge.convert')} --checkpoint {checkpoint} "
        f"--quantize {start['scheme']} --data {results['data']} --output exports/NAME"
    )

"""What the training commands of every framework share: their options, and what they print."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signbart.checksums import add_checksum_argument
from signbart.errors import ConfigError
from signbart.recordings.options import SignerNames, add_reading_arguments
from signbart.waiting import heard, time_left

if TYPE_CHECKING:
    from signbart.training.warm_start import Init


def add_run_arguments(
    parser: argparse.ArgumentParser, output: str = "run folder, for example runs/NAME"
) -> None:
    """The options that training one model and training one per signer share.

    Args:
        parser: Receives them.
        output: What ``--output`` is.
    """
    parser.add_argument(
        "--config",
        required=True,
        metavar="YAML",
        help="what to train, and how: a file, or a shipped one by its name, such as kp90",
    )
    add_data_argument(parser)
    parser.add_argument("--output", required=True, metavar="FOLDER", help=output)
    parser.add_argument(
        "--resume", action="store_true", help="go on where the folder's run stopped"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of --config, for example --set train.epochs=3 or --set name=OTHER; "
        "may be repeated",
    )
    add_machine_arguments(parser)


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Where the recordings are."""
    parser.add_argument(
        "--data",
        required=True,
        metavar="PATH",
        help="recordings: a packed .npz, a tree of clips, or another form of docs/data.md",
    )
    add_reading_arguments(parser)


def add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do with unusable clips, and where to compute."""
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave unusable clips out, and count them"
    )
    parser.add_argument(
        "--device",
        default="auto",
        choices=("auto", "cpu", "cuda"),
        help="where to compute (default: auto, which takes a GPU where there is one)",
    )


def add_init_arguments(parser: argparse.ArgumentParser) -> None:
    """What training starts from."""
    parser.add_argument(
        "--init",
        metavar="CHECKPOINT",
        help="start from these weights: a checkpoint of either framework or of another program; "
        "classes and landmarks are taken by name",
    )
    parser.add_argument(
        "--freeze",
        nargs="+",
        default=[],
        metavar="PART",
        help="parts that keep the weights of --init: body (all but the head), or modules by name, "
        "such as encoder",
    )
    parser.add_argument(
        "--init-config",
        metavar="YAML",
        help="configuration that another program's --init was trained with",
    )
    parser.add_argument(
        "--init-labels", metavar="JSON", help="label2id.json of another program's --init"
    )
    add_checksum_argument(parser)


def init_of(options: argparse.Namespace) -> Init | None:
    """What the options of `add_init_arguments` ask for; None for random weights.

    Raises:
        ConfigError: The others are given without ``--init``.
        SignBartError: A file cannot be read.
    """
    from signbart.configuration.reading import load_config
    from signbart.recordings.labels import read_label_file
    from signbart.training.warm_start import Init

    if not options.init:
        if options.freeze or options.init_config or options.init_labels:
            raise ConfigError("--freeze, --init-config and --init-labels go with --init CHECKPOINT")
        return None
    return Init(
        options.init,
        tuple(options.freeze),
        load_config(options.init_config) if options.init_config else None,
        read_label_file(Path(options.init_labels)) if options.init_labels else (),
        checksum=options.checksum,
    )


def add_split_arguments(parser: argparse.ArgumentParser) -> None:
    """Who is trained on and who is tested on."""
    parser.add_argument(
        "--split",
        default="all",
        choices=("train", "val", "test", "all"),
        help="read this split of the recordings only; with all, clips that are marked test are "
        "tested on, and those marked val validate (default: %(default)s)",
    )
    parser.add_argument(
        "--test-signers",
        nargs="+",
        action=SignerNames,
        default=[],
        metavar="SIGNER",
        help="signers to test on, kept out of training and of the choice of the best epoch; @FILE "
        "reads them from a file, one a line",
    )


class EpochReport:
    """Shows epochs as they end: a progress bar on a terminal, otherwise a line each.

    Args:
        epochs: How many there will be at most.
        quiet: Show nothing.
    """

    def __init__(self, epochs: int, *, quiet: bool = False):
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        from signbart.console import console

        self._console = console()
        self._quiet = quiet
        self._epochs = epochs
        self._reported, self._begun = 0, time.monotonic()
        self._bar = Progress(
            # In all no wider than 80 columns, or rich cuts the numbers off.
            TextColumn("epoch"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.description}"),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=epochs)

    def __enter__(self) -> Callable[[Mapping[str, Any]], None]:
        self._bar.start()
        return self._report

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _report(self, row: Mapping[str, Any]) -> None:
        text = "before training"  # epoch 0, of a run that starts from a trained model
        if "train_loss" in row:
            text = f"loss {row['train_loss']:.4f}  accuracy {row['train_accuracy']:.1f} %"
        if "val_loss" in row:
            text += f"  val loss {row['val_loss']:.4f}  val accuracy {row['val_accuracy']:.1f} %"
        if self._quiet:
            return
        if self._console.is_terminal:
            self._bar.update(self._task, completed=row["epoch"], description=_shortly(row))
        else:
            # Of a run that is gone on with, some epochs were trained before.
            self._reported += "train_loss" in row
            rest = self._reported + self._epochs - row["epoch"]
            left = time_left(self._reported, rest, time.monotonic() - self._begun)
            self._console.print(f"epoch {row['epoch']}/{self._epochs}  {text}{left}")
            heard()


def _shortly(row: Mapping[str, Any]) -> str:
    """Loss and accuracy, on training and on validation clips."""
    parts = [("loss", "train_"), ("val", "val_")]
    return "  ".join(
        f"{name} {row[f'{key}loss']:.3f} {row[f'{key}accuracy']:.1f} %"
        for name, key in parts
        if f"{key}loss" in row
    )


def print_skipped(skipped: Sequence[str]) -> None:
    """Says how many clips were left out, and why."""
    if skipped:
        print(f"{len(skipped)} clips left out:")
        for message in skipped:
            print(f"  {message}")


def print_results(results: Mapping[str, Any], skipped: Sequence[str]) -> None:
    """The scores of the best epoch, as ``results.json`` has them."""
    from signbart.console import print_table

    print_skipped(skipped)
    parts = [name for name in ("val", "test") if name in results]
    # Categories are told by some models only.
    columns = {k: v for k, v in _COLUMNS.items() if all(k in results[part] for part in parts)}
    rows = [
        [part, results["clips"][part], *(f"{results[part][key]:.2f}" for key in columns)]
        for part in parts
    ]
    if rows:
        print_table(
            f"Best epoch {results['best_epoch']} of {results['epochs']}, in percent",
            ["clips of", "count", *columns.values()],
            rows,
        )


def print_next_steps(checkpoint: str, output: str) -> None:
    """The commands that use what was trained.

    Args:
        checkpoint: The file that goes on to the bridge.
        output: The run folder.
    """
    from signbart.console import next_command

    print("next:")
    converting = next_command("bridge.convert")
    print(f"  {converting} --checkpoint {checkpoint} --route litert --output exports/NAME")
    print(f"  tensorboard --logdir {output}/tensorboard")


_COLUMNS = {
    "accuracy": "accuracy",
    "top5": "top-5",
    "mean_class_accuracy": "mean class accuracy",
    "category_accuracy": "category accuracy",
}

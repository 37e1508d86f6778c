"""``python -m signbart_torch.train``: trains one model. The work is done by `trainer.train`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from signbart.console import run_command


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that training one model and training one per signer share."""
    parser.add_argument(
        "--config", required=True, metavar="YAML", help="what to train; see configs/"
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="PATH",
        help="recordings: a packed .npz, a folder that holds one, or a tree of pickles",
    )
    parser.add_argument(
        "--output", required=True, metavar="FOLDER", help="run folder, for example runs/NAME"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on where the folder's run stopped"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override the configuration, for example --set train.epochs=3; may be repeated",
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave unusable clips out, and count them"
    )
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: %(default)s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m signbart_torch.train",
        description="Train SignBART on recordings. Several processes: torchrun --nproc_per_node 2 "
        "-m signbart_torch.train …",
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--split",
        default="all",
        choices=("train", "val", "test", "all"),
        help="read this split of the recordings only; of all, what is marked test is tested on and "
        "what is marked val validates (default: %(default)s)",
    )
    parser.add_argument(
        "--test-signers",
        nargs="+",
        default=[],
        metavar="SIGNER",
        help="signers to test on, kept out of training and of the choice of the best epoch",
    )
    options = parser.parse_args(arguments)

    from signbart.clips import read_clips
    from signbart.config import load_config

    config = load_config(options.config, options.overrides)
    clips = read_clips(options.data, split=options.split, skip_bad=options.skip_bad)

    from signbart_torch.trainer import train
    from signbart_torch.workers import is_main_process

    with EpochReport(config.train.epochs, quiet=not is_main_process()) as report:
        results = train(
            clips,
            config,
            options.output,
            test_signers=options.test_signers,
            resume=options.resume,
            device=options.device,
            report=report,
            announce=lambda text: print(text, flush=True),
            data_name=options.data,
        )
    if is_main_process():
        _summarise(results, clips.skipped, options.output)
    return 0


class EpochReport:
    """Shows epochs as they end: a progress bar on a terminal, otherwise a line each.

    Args:
        epochs: How many there will be at most.
        quiet: Show nothing.
    """

    def __init__(self, epochs: int, *, quiet: bool = False):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        from signbart.console import console

        self._console = console()
        self._quiet = quiet
        self._epochs = epochs
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
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
            self._bar.update(self._task, completed=row["epoch"], description=text)
        else:
            self._console.print(f"epoch {row['epoch']}/{self._epochs}  {text}")


def print_skipped(skipped: Sequence[str]) -> None:
    """Says how many clips were left out, and why."""
    if skipped:
        print(f"{len(skipped)} clips left out:")
        for message in skipped:
            print(f"  {message}")


def _summarise(results: Mapping[str, Any], skipped: Sequence[str], output: str) -> None:
    from signbart.console import print_table

    print_skipped(skipped)
    rows = [
        [name, results["clips"][name], *(f"{results[name][key]:.2f}" for key in _COLUMNS)]
        for name in ("val", "test")
        if name in results
    ]
    if rows:
        print_table(
            f"Best epoch {results['best_epoch']} of {results['epochs']}, in percent",
            ["clips of", "count", *_COLUMNS.values()],
            rows,
        )
    print(f"wrote {output}/best.safetensors")
    print("next:")
    print(
        f"  python bridge/convert.py --checkpoint {output}/best.safetensors --route litert "
        "--output exports/NAME"
    )
    print(f"  tensorboard --logdir {output}/tensorboard")


_COLUMNS = {"accuracy": "accuracy", "top5": "top-5", "mean_class_accuracy": "mean class accuracy"}


def command() -> None:
    """The console script."""
    run_command(main)


if __name__ == "__main__":
    command()

"""Leave-one-signer-out, whatever the framework: a fold a signer, side by side, and their table.

Each fold is a run folder ``OUTPUT/<signer>``; finished folds are not trained again. The table and
``summary.csv`` are made from the folds' ``results.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signbart.console import print_table
from signbart.errors import ClipError, ConfigError
from signbart.files import make_folder, write_text
from signbart.training_command import print_skipped

if TYPE_CHECKING:
    from signbart.clips import ClipSet
    from signbart.config import RunConfig

_SCORES = ("accuracy", "top5", "mean_class_accuracy")


def add_fold_arguments(parser: argparse.ArgumentParser) -> None:
    """Which folds, and how many at a time."""
    parser.add_argument(
        "--signers", nargs="+", default=[], help="only these folds (default: every signer)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="folds at a time, one thread each if more than one (default: %(default)s)",
    )


@dataclass(frozen=True)
class Fold:
    """One signer's training, as a picklable callable for worker processes.

    Attributes:
        train: Trains in some framework; called as its ``trainer.train``.
        clips: All recordings.
        config: The run's configuration.
        folder: ``OUTPUT/<signer>``.
        signer: Who is not trained on.
        device: Where to train.
        data: Path of the recordings.
    """

    train: Callable[..., dict[str, Any]]
    clips: ClipSet
    config: RunConfig
    folder: Path
    signer: str
    device: str
    data: str

    def __call__(self) -> dict[str, Any]:
        """Trains what is missing; the results."""
        return self.train(
            self.clips,
            self.config,
            self.folder,
            test_signers=[self.signer],
            resume=True,
            device=self.device,
            data_name=self.data,
        )


def train_folds(
    options: argparse.Namespace,
    train: Callable[..., dict[str, Any]],
    start_worker: Callable[[], None],
) -> None:
    """Trains the folds of a command line, and prints and writes their table.

    Args:
        options: Of `add_run_arguments` and `add_fold_arguments`.
        train: See `Fold`; picklable.
        start_worker: See `run_folds`.

    Raises:
        ConfigError: The folder holds folds already and --resume is not given, or other runs.
        ClipError: The signers do not fit.
    """
    from signbart.clips import read_clips
    from signbart.config import load_config

    if options.jobs < 1:
        raise ConfigError(f"--jobs {options.jobs}: it must be at least 1")
    config = load_config(options.config, options.overrides)
    clips = read_clips(options.data, skip_bad=options.skip_bad)
    signers = select_signers(clips, options.signers, options.data)
    output = Path(options.output)
    if not options.resume and set(folds_in(output)) & set(signers):
        raise ConfigError(f"{output} already holds folds; pass --resume to go on with them")

    print_skipped(clips.skipped)
    make_folder(output)
    folds = [
        Fold(train, clips, config, output / signer, signer, options.device, options.data)
        for signer in signers
    ]
    for results in run_folds(folds, options.jobs, start_worker):
        print(f"{results['test_signers'][0]}: {results['test']['accuracy']:.2f} %", flush=True)
    _summarise(output, signers)


def folds_in(output: Path) -> list[str]:
    """Names of the folds that have begun in a folder, of whatever framework, sorted."""
    from signbart.run_folder import LAST_CHECKPOINTS

    found = (path for last in LAST_CHECKPOINTS for path in output.glob(f"*/{last}"))
    return sorted({path.parent.name for path in found})


def select_signers(clips: ClipSet, wanted: Sequence[str], data: str) -> list[str]:
    """The folds: the `wanted` signers, or all.

    Raises:
        ClipError: There is one signer only, or no clip by one that is wanted.
    """
    if len(clips.signer_names) < 2:
        raise ClipError(f"{data} has one signer; leave-one-signer-out needs at least two")
    unknown = sorted(set(wanted) - set(clips.signer_names))
    if unknown:
        raise ClipError(
            f"no clips by {unknown[0]}; the signers are {', '.join(clips.signer_names)}"
        )
    return list(wanted or clips.signer_names)


def _call(fold: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return fold()


def run_folds(
    folds: Sequence[Callable[[], dict[str, Any]]], jobs: int, start_worker: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    """Yields each fold's results as it ends.

    Args:
        folds: Picklable callables.
        jobs: How many run at a time, in processes if more than one.
        start_worker: Called first in each of those; picklable. It leaves the framework one thread,
            for threads of parallel folds would wait for each other's cores.
    """
    if jobs == 1:
        yield from map(_call, folds)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    context = multiprocessing.get_context("spawn")  # a framework's threads do not survive a fork
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=start_worker) as pool:
        try:
            for future in as_completed([pool.submit(_call, fold) for fold in folds]):
                yield future.result()
        except BaseException:
            # Leaving the block waits for what runs; folds go on from their checkpoints next time.
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _summarise(output: Path, signers: Sequence[str]) -> None:
    """Prints the table and writes ``summary.csv``: a row a signer, then mean and deviation."""
    from signbart.run_folder import RESULTS, csv_text

    rows: list[dict[str, Any]] = []
    for signer in signers:
        results = json.loads((output / signer / RESULTS).read_text(encoding="utf-8"))
        rows.append(
            {
                "signer": signer,
                "clips": results["clips"]["test"],
                **{key: results["test"][key] for key in _SCORES},
                "best_epoch": results["best_epoch"],
                "epochs": results["epochs"],
            }
        )
    for name, function in (("mean", statistics.fmean), ("std", statistics.pstdev)):
        values = {
            key: round(function([row[key] for row in rows[: len(signers)]]), 3) for key in _SCORES
        }
        rows.append({"signer": name, "clips": "", **values, "best_epoch": "", "epochs": ""})
    write_text(output / "summary.csv", csv_text(rows))
    print_table(
        f"Leave-one-signer-out, {len(signers)} folds, in percent",
        ["test signer", "clips", "accuracy", "top-5", "mean class accuracy", "best epoch"],
        [
            [
                row["signer"],
                row["clips"],
                *(f"{row[key]:.2f}" for key in _SCORES),
                row["best_epoch"],
            ]
            for row in rows
        ],
    )
    print(f"wrote {output}/summary.csv")

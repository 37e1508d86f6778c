"""``python -m signbart_torch.loso``: leave-one-signer-out, one run a signer.

Each fold is a run folder ``OUTPUT/<signer>`` of `trainer.train`; finished folds are not trained
again. The table and ``summary.csv`` are made from the folds' ``results.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signbart.console import print_table, run_command
from signbart.files import make_folder, write_text
from signbart.processes import start_worker
from signbart.training_command import add_run_arguments, print_skipped

if TYPE_CHECKING:
    from signbart.clips import ClipSet

_SCORES = ("accuracy", "top5", "mean_class_accuracy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m signbart_torch.loso",
        description="Train and test once per signer, each time without that signer. Started again, "
        "it goes on past finished folds.",
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--signers", nargs="+", default=[], help="only these folds (default: every signer)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="folds trained at a time, one thread each if more than one (default: %(default)s)",
    )
    options = parser.parse_args(arguments)

    from signbart.clips import read_clips
    from signbart.config import load_config
    from signbart.errors import ConfigError

    if options.jobs < 1:
        raise ConfigError(f"--jobs {options.jobs}: it must be at least 1")
    config = load_config(options.config, options.overrides)
    clips = read_clips(options.data, skip_bad=options.skip_bad)
    signers = select_signers(clips, options.signers, options.data)
    output = Path(options.output)
    if not options.resume and any((output / s / "last.safetensors").is_file() for s in signers):
        raise ConfigError(f"{output} already holds folds; pass --resume to go on with them")

    print_skipped(clips.skipped)
    make_folder(output)
    folds = [_Fold(clips, config, output / s, s, options.device, options.data) for s in signers]
    for results in run_folds(folds, options.jobs):
        print(f"{results['test_signers'][0]}: {results['test']['accuracy']:.2f} %", flush=True)
    _summarise(output, signers)
    return 0


def select_signers(clips: ClipSet, wanted: Sequence[str], data: str) -> list[str]:
    """The folds: the `wanted` signers, or all.

    Raises:
        ClipError: There is one signer only, or no clip by one that is wanted.
    """
    from signbart.errors import ClipError

    if len(clips.signer_names) < 2:
        raise ClipError(f"{data} has one signer; leave-one-signer-out needs at least two")
    unknown = sorted(set(wanted) - set(clips.signer_names))
    if unknown:
        raise ClipError(
            f"no clips by {unknown[0]}; the signers are {', '.join(clips.signer_names)}"
        )
    return list(wanted or clips.signer_names)


class _Fold:
    """One signer's training, as a picklable callable for worker processes."""

    def __init__(self, clips: Any, config: Any, output: Path, signer: str, device: str, data: str):
        self.clips, self.config, self.output = clips, config, output
        self.signer, self.device, self.data = signer, device, data

    def __call__(self) -> dict[str, Any]:
        from signbart_torch.trainer import train

        return train(
            self.clips,
            self.config,
            self.output,
            test_signers=[self.signer],
            resume=True,
            device=self.device,
            data_name=self.data,
        )


def _start_worker() -> None:
    """One thread each: threads of parallel folds would wait for each other's cores."""
    import torch

    start_worker(ignore_interrupt=True)
    torch.set_num_threads(1)


def _call(fold: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return fold()


def run_folds(folds: Sequence[Callable[[], dict[str, Any]]], jobs: int) -> Iterator[dict[str, Any]]:
    """Yields each fold's results as it ends.

    Args:
        folds: Picklable callables.
        jobs: How many run at a time, in processes of one thread each if more than one.
    """
    if jobs == 1:
        yield from map(_call, folds)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    context = multiprocessing.get_context("spawn")  # forked PyTorch threads can hang
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker) as pool:
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
    rows: list[dict[str, Any]] = []
    for signer in signers:
        results = json.loads((output / signer / "results.json").read_text(encoding="utf-8"))
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
    from signbart.run_folder import csv_text

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


def command() -> None:
    """The console script."""
    run_command(main)


if __name__ == "__main__":
    command()

"""``python -m signbart_torch.loso``: leave-one-signer-out; see `signbart.leave_one_out`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from signbart import processes
from signbart.console import run_command
from signbart.leave_one_out import add_fold_arguments, train_folds
from signbart.training_command import add_run_arguments


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m signbart_torch.loso",
        description="Train and test once per signer, each time without that signer. Started again, "
        "it goes on past finished folds.",
    )
    add_run_arguments(parser)
    add_fold_arguments(parser)
    train_folds(parser.parse_args(arguments), train_fold, start_worker)
    return 0


def train_fold(*args: Any, **options: Any) -> dict[str, Any]:
    """`trainer.train`, imported in whichever process trains."""
    from signbart_torch.trainer import train

    return train(*args, **options)


def start_worker() -> None:
    """Makes this process one of several side by side: one thread, and an end with its parent."""
    import torch

    processes.start_worker(ignore_interrupt=True)
    torch.set_num_threads(1)


def command() -> None:
    """The console script."""
    run_command(main)


if __name__ == "__main__":
    command()

"""``python -m signbart_torch.loso``: leave-one-signer-out; see `signbart.leave_one_out`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signbart.console import run_command
from signbart.frameworks import TORCH
from signbart.leave_one_out import add_fold_arguments, train_folds

if TYPE_CHECKING:
    from signbart_torch.checkpoint import Checkpoint


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m signbart_torch.loso",
        description="Train and test once per signer, each time without that signer. With "
        "--resume it goes on past finished folds.",
    )
    add_fold_arguments(parser)
    train_folds(parser.parse_args(arguments), TORCH, train=train_fold, load=load_checkpoint)
    return 0


def train_fold(*args: Any, **options: Any) -> dict[str, Any]:
    """`trainer.train`, imported in whichever process trains."""
    from signbart_torch.trainer import train

    return train(*args, **options)


def load_checkpoint(path: Path) -> Checkpoint:
    """`checkpoint.load_checkpoint`, on the same terms."""
    from signbart_torch import checkpoint

    return checkpoint.load_checkpoint(path)


def command() -> None:
    """The console script."""
    run_command(main)


if __name__ == "__main__":
    command()

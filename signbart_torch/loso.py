"""``python -m signbart_torch.loso``: leave-one-signer-out; see `signbart.training.folds`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from signbart.console import program_name, run_command
from signbart.training.folds import add_fold_arguments
from signbart.training.frameworks import TORCH
from signbart.training.seeds import add_seed_argument, train_seeds
from signbart_torch import load_checkpoint, train_model


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart_torch.loso"),
        description="Train and test once per signer, each time without that signer. With "
        "--resume it goes on past finished folds.",
    )
    add_fold_arguments(parser)
    add_seed_argument(parser)
    train_seeds(parser.parse_args(arguments), TORCH, train=train_model, load=load_checkpoint)
    return 0


if __name__ == "__main__":
    run_command(main)

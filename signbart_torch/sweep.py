"""``python -m signbart_torch.sweep``: settings against each other; see `training.sweep_command`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from signbart.console import program_name, run_command
from signbart.training.frameworks import TORCH
from signbart.training.sweep_command import add_sweep_arguments, run_sweep
from signbart_torch import train_model


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart_torch.sweep"),
        description="Train with every combination of the values in --set key=v1,v2, in PyTorch; "
        "stop the weaker ones early, and choose by signers left out of training.",
    )
    add_sweep_arguments(parser)
    run_sweep(parser.parse_args(arguments), TORCH, train_model)
    return 0


if __name__ == "__main__":
    run_command(main)

"""``python -m signbart_torch.train``: trains one model; see `signbart.training.lifecycle`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from signbart.console import program_name, run_command
from signbart.training.commands import train_one
from signbart.training.frameworks import TORCH
from signbart.training.options import add_init_arguments, add_run_arguments, add_split_arguments
from signbart_torch import is_main_process, train_model


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart_torch.train"),
        description="Train SignBART, or another model that the configuration names, on recordings. "
        "In several processes: torchrun --nproc_per_node 2 -m signbart_torch.train …",
    )
    add_run_arguments(parser)
    add_split_arguments(parser)
    add_init_arguments(parser)
    options = parser.parse_args(arguments)
    train_one(options, TORCH, train=train_model, is_main=is_main_process())
    return 0


if __name__ == "__main__":
    run_command(main)

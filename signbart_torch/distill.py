"""``python -m signbart_torch.distill``: trains one model to answer as others do.

The student is any model that a configuration names; what comes out is an ordinary run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from signbart.console import program_name, run_command
from signbart.training.commands import train_one
from signbart.training.distillation import add_settings_arguments, settings_of
from signbart.training.frameworks import TORCH
from signbart.training.options import add_init_arguments, add_run_arguments, add_split_arguments
from signbart_torch import is_main_process, train_distilled


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart_torch.distill"),
        description="Train a model on the labels of recordings and on what trained models, its "
        "teachers, answer to the same augmented clips.",
    )
    add_run_arguments(parser)
    add_split_arguments(parser)
    add_init_arguments(parser)
    add = parser.add_argument
    add(
        "--teachers",
        required=True,
        nargs="+",
        metavar="CHECKPOINT",
        help="trained models, of any kind, on the same classes and landmarks; of several the "
        "probabilities are averaged",
    )
    add_settings_arguments(parser)
    add(
        "--allow-seen",
        action="store_true",
        help="take teachers that may have been trained on this run's test signers; its scores then "
        "say little of strangers",
    )
    options = parser.parse_args(arguments)
    settings = settings_of(options, allow_seen=options.allow_seen)
    train = partial(
        train_distilled, teachers=options.teachers, settings=settings, checksum=options.checksum
    )
    train_one(options, TORCH, train=train, is_main=is_main_process())
    return 0


if __name__ == "__main__":
    run_command(main)

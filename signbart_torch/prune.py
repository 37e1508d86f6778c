"""``python -m signbart_torch.prune``: makes a trained model smaller, and trains it on.

What comes out is an ordinary run of a model of the same kind, with fewer channels and inner units.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from signbart.console import at_least, program_name, run_command
from signbart.training.commands import add_continued_arguments, train_one_pruned
from signbart.training.frameworks import TORCH
from signbart_torch import is_main_process, load_checkpoint, train_pruned


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart_torch.prune"),
        description="Remove the least important units of a trained model, and train what is left "
        "as the model was trained. The clips are divided as in the checkpoint's own run.",
    )
    add_continued_arguments(
        parser, checkpoint="best.safetensors of a run", output="runs/NAME_pruned"
    )
    parser.add_argument(
        "--parameters", type=at_least(1), metavar="N", help="most that the smaller model may have"
    )
    parser.add_argument(
        "--keep", type=float, metavar="SHARE", help="instead: share of the parameters that stays"
    )
    options = parser.parse_args(arguments)
    train_one_pruned(
        options,
        TORCH,
        train_pruned=train_pruned,
        load=load_checkpoint,
        is_main=is_main_process(),
    )
    return 0


if __name__ == "__main__":
    run_command(main)

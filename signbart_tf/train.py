"""``python -m signbart_tf.train``: trains one model; see `signbart.training.lifecycle`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from signbart.console import program_name, run_command
from signbart.training.commands import train_one
from signbart.training.frameworks import KERAS
from signbart.training.options import add_init_arguments, add_run_arguments, add_split_arguments
from signbart_tf import train_model
from signbart_tf.training.options import add_loop_argument


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart_tf.train"),
        description="Train SignBART's Keras twin on recordings.",
    )
    add_run_arguments(parser)
    add_split_arguments(parser)
    add_init_arguments(parser)
    add_loop_argument(parser)
    options = parser.parse_args(arguments)
    train_one(options, KERAS, train=partial(train_model, loop=options.loop))
    return 0


if __name__ == "__main__":
    run_command(main)

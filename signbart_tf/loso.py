"""``python -m signbart_tf.loso``: leave-one-signer-out; see `signbart.training.folds`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from signbart.console import program_name, run_command
from signbart.training.folds import add_fold_arguments
from signbart.training.frameworks import KERAS
from signbart.training.seeds import add_seed_argument, train_seeds
from signbart_tf import load_checkpoint, train_model
from signbart_tf.training.options import add_loop_argument


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart_tf.loso"),
        description="For each signer train the Keras twin without that signer, and test it on "
        "them. With --resume finished folds are kept.",
    )
    add_fold_arguments(parser)
    add_seed_argument(parser)
    add_loop_argument(parser)
    options = parser.parse_args(arguments)
    train_seeds(options, KERAS, train=partial(train_model, loop=options.loop), load=load_checkpoint)
    return 0


if __name__ == "__main__":
    run_command(main)

"""``python -m signbart_tf.loso``: leave-one-signer-out; see `signbart.leave_one_out`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signbart.console import run_command
from signbart.frameworks import KERAS
from signbart.leave_one_out import add_fold_arguments, train_folds
from signbart_tf.train import add_loop_argument, import_tensorflow

if TYPE_CHECKING:
    from signbart_tf.checkpoint import Checkpoint


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m signbart_tf.loso",
        description="Train and test SignBART's Keras twin once per signer, each time without that "
        "signer. With --resume it goes on past finished folds.",
    )
    add_fold_arguments(parser)
    add_loop_argument(parser)
    options = parser.parse_args(arguments)
    train = partial(train_fold, loop=options.loop)
    train_folds(options, KERAS, train=train, load=load_checkpoint)
    return 0


def train_fold(*args: Any, **options: Any) -> dict[str, Any]:
    """`trainer.train`, imported in whichever process trains."""
    import_tensorflow()
    from signbart_tf.trainer import train

    return train(*args, **options)


def load_checkpoint(path: Path) -> Checkpoint:
    """`checkpoint.load_checkpoint`, on the same terms."""
    import_tensorflow()
    from signbart_tf import checkpoint

    return checkpoint.load_checkpoint(path)


def command() -> None:
    """The console script."""
    run_command(main)


if __name__ == "__main__":
    command()

"""``python -m signbart_tf.qat``: quantization-aware training of a trained Keras checkpoint.

The twin of `signbart_torch.qat`, with the same settings, grids and results. What comes out is an
ordinary checkpoint of float weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from signbart.console import program_name, run_command
from signbart.training.commands import add_quantized_arguments, train_one_quantized
from signbart.training.frameworks import KERAS
from signbart_tf import load_checkpoint, train_quantized
from signbart_tf.training.options import add_loop_argument


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart_tf.qat"),
        description="Train a Keras model further, with int8 arithmetic simulated in every Dense "
        "layer: for dynamic_int8, or for int8. The clips are divided as in the checkpoint's own "
        "run.",
    )
    add_quantized_arguments(parser, checkpoint="best.keras of a run, or a .weights.h5")
    add_loop_argument(parser)
    options = parser.parse_args(arguments)
    train_one_quantized(
        options,
        KERAS,
        train_quantized=partial(train_quantized, loop=options.loop),
        load=load_checkpoint,
    )
    return 0


if __name__ == "__main__":
    run_command(main)

"""``python -m signbart_tf.qat``: quantization-aware training of a trained Keras checkpoint.

The twin of `signbart_torch.qat`, with the same settings, grids and results. What comes out is an
ordinary checkpoint of float weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from signbart.console import run_command
from signbart.training.options import EpochReport
from signbart.training.qat import (
    DEFAULTS,
    add_arguments,
    default_overrides,
    print_quantized_results,
    training_config,
)
from signbart_tf import import_tensorflow
from signbart_tf.compression.qat import train_quantized
from signbart_tf.training.options import add_loop_argument


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m signbart_tf.qat",
        description="Train a Keras model on, with int8 arithmetic simulated in every Dense layer. "
        "Default: for dynamic_int8. The clips are divided as in the checkpoint's own run.",
    )
    add_arguments(parser, checkpoint="best.keras of a run, or a .weights.h5")
    add_loop_argument(parser)
    options = parser.parse_args(arguments)

    from signbart.recordings.options import read_data

    import_tensorflow()
    from signbart_tf.training.checkpoint import load_checkpoint
    from signbart_tf.training.trainer import BEST

    checkpoint = load_checkpoint(options.checkpoint)
    clips = read_data(options, layout=checkpoint.config.data.layout)
    overrides = default_overrides(**{name: getattr(options, name) for name in DEFAULTS})
    config = training_config(
        checkpoint.config, [*overrides, *options.overrides], source=options.checkpoint
    )
    with EpochReport(config.train.epochs) as report:
        results = train_quantized(
            clips,
            checkpoint,
            config,
            options.output,
            source=options.checkpoint,
            static=options.static,
            test_signers=options.test_signers,
            resume=options.resume,
            device=options.device,
            loop=options.loop,
            report=report,
            announce=lambda text: print(text, flush=True),
            data_name=options.data,
        )
    print_quantized_results(results, clips.skipped, f"{options.output}/{BEST}")
    return 0


def command() -> None:
    """The console script."""
    run_command(main)


if __name__ == "__main__":
    command()

"""``python -m signbart_tf.train``: trains one model. The work is done by `trainer.train`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from signbart.console import run_command
from signbart.training_command import (
    EpochReport,
    add_run_arguments,
    add_split_arguments,
    print_next_steps,
    print_results,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m signbart_tf.train",
        description="Train SignBART's Keras twin on recordings.",
    )
    add_run_arguments(parser)
    add_split_arguments(parser)
    add_loop_argument(parser)
    options = parser.parse_args(arguments)

    from signbart.clips import read_clips
    from signbart.config import load_config

    config = load_config(options.config, options.overrides)
    clips = read_clips(options.data, split=options.split, skip_bad=options.skip_bad)

    import_tensorflow()
    from signbart_tf.trainer import BEST, train

    with EpochReport(config.train.epochs) as report:
        results = train(
            clips,
            config,
            options.output,
            test_signers=options.test_signers,
            resume=options.resume,
            device=options.device,
            loop=options.loop,
            report=report,
            announce=lambda text: print(text, flush=True),
            data_name=options.data,
        )
    print_results(results, clips.skipped)
    print(f"wrote {options.output}/{BEST}")
    print_next_steps(f"{options.output}/{BEST}", options.output)
    return 0


def add_loop_argument(parser: argparse.ArgumentParser) -> None:
    """Which of the two loops trains."""
    parser.add_argument(
        "--loop",
        default="fit",
        choices=("fit", "tape"),
        help="Keras's compile and fit, or a tf.GradientTape; both end with the same weights "
        "(default: %(default)s)",
    )


def import_tensorflow() -> None:
    """Starts TensorFlow without its messages, which come before any setting of its own."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # and later without what is no error
    stderr = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            # Else the first process would take all of its memory, and folds side by side fail.
            tf.config.experimental.set_memory_growth(gpu, True)
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nothing)


def command() -> None:
    """The console script."""
    run_command(main)


if __name__ == "__main__":
    command()

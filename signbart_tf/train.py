"""``python -m signbart_tf.train``: trains one model. The work is done by `trainer.train`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from signbart.console import run_command
from signbart.training.options import (
    EpochReport,
    add_run_arguments,
    add_split_arguments,
    print_next_steps,
    print_results,
)
from signbart_tf import import_tensorflow
from signbart_tf.training.options import add_loop_argument


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

    from signbart.configuration.reading import load_config
    from signbart.recordings.options import read_data

    config = load_config(options.config, options.overrides)
    clips = read_data(options, layout=config.data.layout)

    import_tensorflow()
    from signbart_tf.training.trainer import BEST, train

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


def command() -> None:
    """The console script."""
    run_command(main)


if __name__ == "__main__":
    command()

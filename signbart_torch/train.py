"""``python -m signbart_torch.train``: trains one model. The work is done by `trainer.train`."""

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m signbart_torch.train",
        description="Train SignBART, or another model that the configuration names, on recordings. "
        "Several processes: torchrun --nproc_per_node 2 -m signbart_torch.train …",
    )
    add_run_arguments(parser)
    add_split_arguments(parser)
    options = parser.parse_args(arguments)

    from signbart.configuration.reading import load_config
    from signbart.recordings.options import print_notes, read_data

    config = load_config(options.config, options.overrides)
    clips = read_data(options, quiet=True)

    from signbart_torch.training.trainer import BEST, train
    from signbart_torch.training.workers import is_main_process

    if is_main_process():
        print_notes(clips, config.data.layout)

    with EpochReport(config.train.epochs, quiet=not is_main_process()) as report:
        results = train(
            clips,
            config,
            options.output,
            test_signers=options.test_signers,
            resume=options.resume,
            device=options.device,
            report=report,
            announce=lambda text: print(text, flush=True),
            data_name=options.data,
        )
    if is_main_process():
        print_results(results, clips.skipped)
        print(f"wrote {options.output}/{BEST}")
        print_next_steps(f"{options.output}/{BEST}", options.output)
    return 0


def command() -> None:
    """The console script."""
    run_command(main)


if __name__ == "__main__":
    command()

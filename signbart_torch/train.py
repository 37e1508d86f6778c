"""``python -m signbart_torch.train``: trains one model. The work is done by `trainer.train`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from signbart.console import program_name, run_command
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
        prog=program_name("python -m signbart_torch.train"),
        description="Train SignBART, or another model that the configuration names, on recordings. "
        "Several processes: torchrun --nproc_per_node 2 -m signbart_torch.train …",
    )
    add_run_arguments(parser)
    add_split_arguments(parser)
    options = parser.parse_args(arguments)

    from signbart.configuration.reading import load_config
    from signbart.recordings.reading import read_clips

    config = load_config(options.config, options.overrides)
    clips = read_clips(options.data, split=options.split, skip_bad=options.skip_bad)

    from signbart_torch.training.trainer import BEST, train
    from signbart_torch.training.workers import is_main_process

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


if __name__ == "__main__":
    run_command(main)

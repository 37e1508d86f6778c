"""``python -m signbart_torch.qat``: quantization-aware training of a trained checkpoint.

Every Linear computes on the int8 grids that its .tflite will have (`fake_quantization`) while the
float weights behind them are trained on, so that they settle where rounding does little harm. The
result is an ordinary checkpoint of float weights, for the same converter and quantizer as any.
"""

from __future__ import annotations

import argparse
import dataclasses
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
from signbart_torch.compression.qat import train_quantized


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m signbart_torch.qat",
        description="Train a model on, with int8 arithmetic simulated in every Linear layer. "
        "Default: for dynamic_int8. The clips are divided as in the checkpoint's own run.",
    )
    add_arguments(parser, checkpoint="best.safetensors of a run, or a .pth")
    parser.add_argument(
        "--config", metavar="YAML", help="configuration of a .pth; a .safetensors carries its own"
    )
    options = parser.parse_args(arguments)

    from signbart.configuration.reading import load_config
    from signbart.errors import CheckpointError
    from signbart.recordings.options import read_data
    from signbart_torch.training.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(options.checkpoint)
    if checkpoint.config is not None and options.config:
        raise CheckpointError(f"{options.checkpoint} carries its own configuration; drop --config")
    if checkpoint.config is None:
        if not options.config:
            raise CheckpointError(
                f"{options.checkpoint} carries no configuration; give the YAML file of its run "
                "(--config)"
            )
        checkpoint = dataclasses.replace(checkpoint, config=load_config(options.config))
    clips = read_data(options, layout=checkpoint.config.data.layout)
    overrides = default_overrides(**{name: getattr(options, name) for name in DEFAULTS})
    config = training_config(
        checkpoint.config, [*overrides, *options.overrides], source=options.checkpoint
    )

    from signbart_torch.training.trainer import BEST
    from signbart_torch.training.workers import is_main_process

    with EpochReport(config.train.epochs, quiet=not is_main_process()) as report:
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
            report=report,
            announce=lambda text: print(text, flush=True),
            data_name=options.data,
        )
    if is_main_process():
        print_quantized_results(results, clips.skipped, f"{options.output}/{BEST}")
    return 0


def command() -> None:
    """The console script."""
    run_command(main)


if __name__ == "__main__":
    command()

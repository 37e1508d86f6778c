"""``python -m signbart_torch.qat``: quantization-aware training of a trained checkpoint.

Every Linear computes on the int8 grids that its .tflite will have (`fake_quantization`) while the
float weights behind them are trained on, so that they settle where rounding does little harm. The
result is an ordinary checkpoint of float weights, for the same converter and quantizer as any.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from signbart.console import program_name, run_command
from signbart.training.commands import add_quantized_arguments, train_one_quantized
from signbart.training.frameworks import TORCH
from signbart_torch import is_main_process, load_checkpoint, train_quantized

if TYPE_CHECKING:
    from signbart_torch.training.checkpoint import Checkpoint


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart_torch.qat"),
        description="Train a model further, with int8 arithmetic simulated in every Linear layer: "
        "for dynamic_int8, or for int8. The clips are divided as in the checkpoint's own run.",
    )
    add_quantized_arguments(parser, checkpoint="best.safetensors of a run, or a .pth")
    parser.add_argument(
        "--config", metavar="YAML", help="configuration of a .pth; a .safetensors carries its own"
    )
    options = parser.parse_args(arguments)
    train_one_quantized(
        options,
        TORCH,
        train_quantized=train_quantized,
        load=partial(_load, config=options.config),
        is_main=is_main_process(),
    )
    return 0


def _load(path: str, config: str | None, *, checksum: bool) -> Checkpoint:
    """The checkpoint with its configuration, which for a .pth is the file `config`."""
    from signbart.configuration.reading import load_config
    from signbart.errors import CheckpointError

    checkpoint = load_checkpoint(path, checksum=checksum)
    if checkpoint.config is not None and config:
        raise CheckpointError(f"{path} carries its own configuration; drop --config")
    if checkpoint.config is not None:
        return checkpoint
    if not config:
        raise CheckpointError(
            f"{path} carries no configuration; give the YAML file of its run (--config)"
        )
    return dataclasses.replace(checkpoint, config=load_config(config))


if __name__ == "__main__":
    run_command(main)

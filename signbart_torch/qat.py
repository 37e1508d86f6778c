"""``python -m signbart_torch.qat``: quantization-aware training of a trained checkpoint.

Every Linear computes on the int8 grids that its .tflite will have (`fake_quantization`) while the
float weights behind them are trained on, so that they settle where rounding does little harm. The
result is an ordinary checkpoint of float weights, for the same converter and quantizer as any.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signbart.console import run_command
from signbart.quantized_training import (
    DEFAULTS,
    add_arguments,
    default_overrides,
    print_quantized_results,
    training_config,
    unseen_signers,
)
from signbart.training_command import EpochReport

if TYPE_CHECKING:
    from signbart.clips import ClipSet
    from signbart.config import RunConfig
    from signbart_torch.checkpoint import Checkpoint


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

    from signbart.clips import read_clips
    from signbart.config import load_config
    from signbart.errors import CheckpointError
    from signbart_torch.checkpoint import load_checkpoint

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
    clips = read_clips(options.data, split=options.split, skip_bad=options.skip_bad)
    overrides = default_overrides(**{name: getattr(options, name) for name in DEFAULTS})
    config = training_config(
        checkpoint.config, [*overrides, *options.overrides], source=options.checkpoint
    )

    from signbart_torch.trainer import BEST
    from signbart_torch.workers import is_main_process

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


def train_quantized(
    clips: ClipSet,
    checkpoint: Checkpoint,
    config: RunConfig,
    output: str | Path,
    *,
    source: str,
    static: bool = False,
    test_signers: Sequence[str] | None = None,
    announce: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> dict[str, Any]:
    """Trains a checkpoint on, fake-quantized; see `trainer.train` for what is not listed.

    Args:
        clips: The recordings it was trained on.
        checkpoint: The trained model.
        config: From `training_config`.
        output: Run folder.
        source: The checkpoint's path.
        static: Train for ``int8``, whose activation ranges are measured on training clips, and not
            for ``dynamic_int8``, whose ranges are measured token by token at run time.
        test_signers: Where the checkpoint does not say who they are; None is not said.
        announce: Called once with what is about to be trained, and how.
        options: `trainer.train`'s.

    Returns:
        The run's results, all of fake-quantized models but ``start.plain``.

    Raises:
        CheckpointError: The checkpoint does not fit the model, or the recordings.
        ConfigError: The division is not known, or would test on whom the model was trained.
        ClipError: There are too few clips to calibrate on.
    """
    from signbart.calibration import calibration_inputs
    from signbart.errors import CheckpointError
    from signbart.files import file_sha256
    from signbart.runs import require_signbart
    from signbart.splits import split_clips
    from signbart_torch.checkpoint import build_model

    require_signbart(config, "quantization-aware training")
    # Importing torchao warns of its kernels for GPUs, and of its own use of PyTorch.
    for chatty in ("torchao", "torch.utils._pytree"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    from signbart_torch.fake_quantization import FakeQuantization
    from signbart_torch.trainer import Start, train

    if checkpoint.class_names and checkpoint.class_names != clips.class_names:
        raise CheckpointError(f"{source} was trained on other classes than these recordings have")
    if config.model.num_labels is None:
        model = dataclasses.replace(config.model, num_labels=len(clips.class_names))
        config = dataclasses.replace(config, model=model)
    build_model(checkpoint, config, source)
    test_signers = unseen_signers(checkpoint.progress, clips, test_signers, source)
    split = split_clips(clips, config.train, test_signers)
    # The clips that bridge/convert.py takes by default, from the same recordings and with seed 0.
    calibration = calibration_inputs(clips.select(split.train), config) if static else None
    quantization = FakeQuantization(calibration)

    def describe(text: str) -> None:
        lines = [text, f"{quantization.scheme}: {quantization.count} Linear layers fake-quantized"]
        if calibration is not None:
            lines[-1] += f", ranges measured on {len(calibration[0])} training clips"
        if not len(split.val):
            lines.append(
                "no clips to choose an epoch by, as in the checkpoint's run: the last one is kept"
            )
        announce("\n".join(lines))

    return train(
        clips,
        config,
        output,
        test_signers=test_signers,
        announce=describe,
        start=Start(
            checkpoint,
            {"scheme": quantization.scheme, "checkpoint": file_sha256(source)},
            quantization,
        ),
        **options,
    )


def command() -> None:
    """The console script."""
    run_command(main)


if __name__ == "__main__":
    command()

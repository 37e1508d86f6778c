"""``python -m signbart_tf.qat``: quantization-aware training of a trained Keras checkpoint.

The twin of `signbart_torch.qat`, with the same settings, grids and results. What comes out is an
ordinary checkpoint of float weights.
"""

from __future__ import annotations

import argparse
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
from signbart_tf.train import add_loop_argument, import_tensorflow

if TYPE_CHECKING:
    from signbart.clips import ClipSet
    from signbart.config import RunConfig
    from signbart_tf.checkpoint import Checkpoint


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

    from signbart.clips import read_clips

    import_tensorflow()
    from signbart_tf.checkpoint import load_checkpoint
    from signbart_tf.trainer import BEST

    checkpoint = load_checkpoint(options.checkpoint)
    clips = read_clips(options.data, split=options.split, skip_bad=options.skip_bad)
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


def train_quantized(
    clips: ClipSet,
    checkpoint: Checkpoint,
    config: RunConfig,
    output: str | Path,
    *,
    source: str | Path,
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
        CheckpointError: The checkpoint does not fit the recordings.
        ConfigError: The division is not known, or would test on whom the model was trained.
        ClipError: There are too few clips to calibrate on.
    """
    from signbart.calibration import calibration_inputs
    from signbart.errors import CheckpointError
    from signbart.files import file_sha256
    from signbart.splits import split_clips
    from signbart_tf.fake_quantization import FakeQuantization, num_dense_layers
    from signbart_tf.trainer import Start, train

    if checkpoint.class_names != clips.class_names:
        raise CheckpointError(f"{source} was trained on other classes than these recordings have")
    test_signers = unseen_signers(checkpoint.progress, clips, test_signers, source)
    split = split_clips(clips, config.train, test_signers)
    # The clips that bridge/convert.py takes by default, from the same recordings and with seed 0.
    calibration = calibration_inputs(clips.select(split.train), config) if static else None
    quantization = FakeQuantization(calibration)
    count = num_dense_layers(config.model)

    def describe(text: str) -> None:
        lines = [text, f"{quantization.scheme}: {count} Dense layers fake-quantized"]
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

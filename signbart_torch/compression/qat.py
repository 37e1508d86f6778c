"""Quantization-aware training of a trained checkpoint."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signbart.training.qat import (
    unseen_signers,
)

if TYPE_CHECKING:
    from signbart.configuration.schema import RunConfig
    from signbart.recordings.clip import ClipSet
    from signbart_torch.training.checkpoint import Checkpoint


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
    from signbart.errors import CheckpointError
    from signbart.files import file_sha256
    from signbart.training.calibration import calibration_inputs
    from signbart.training.lifecycle import require_fake_quantized
    from signbart.training.splits import split_clips
    from signbart_torch.training.checkpoint import build_model

    require_fake_quantized(config)
    # Importing torchao warns of its kernels for GPUs, and of its own use of PyTorch.
    for chatty in ("torchao", "torch.utils._pytree"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    from signbart_torch.compression.fake_quantization import FakeQuantization
    from signbart_torch.training.trainer import Start, train

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

"""Quantization-aware training of a trained checkpoint: `signbart.training.qat` in PyTorch."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from signbart.configuration.schema import RunConfig
    from signbart.recordings.clip import ClipSet
    from signbart_torch.training.checkpoint import Checkpoint


def train_quantized(
    clips: ClipSet, checkpoint: Checkpoint, config: RunConfig, output: str | Path, **options: Any
) -> dict[str, Any]:
    """Trains a checkpoint on, fake-quantized; see `signbart.training.qat.train_quantized`.

    Args:
        clips: The recordings it was trained on.
        checkpoint: The trained model.
        config: From `signbart.training.qat.training_config`.
        output: Run folder.
        options: ``source``, the checkpoint's path, and what else is listed there, and
            `learner.train`'s ``device``.

    Raises:
        CheckpointError: The checkpoint does not fit the model.
    """
    # Importing torchao warns of its kernels for GPUs, and of its own use of PyTorch.
    for chatty in ("torchao", "torch.utils._pytree"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    from signbart.training import qat
    from signbart_torch.compression.fake_quantization import FakeQuantization
    from signbart_torch.training.learner import train

    return qat.train_quantized(
        clips,
        checkpoint,
        config,
        output,
        train=train,
        fake_quantization=FakeQuantization,
        **options,
    )

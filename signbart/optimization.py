"""The optimiser's learning rate, as a function of the step."""

from __future__ import annotations

import math

from signbart.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float | None:
    """The rate of one optimiser step; None where ReduceLROnPlateau has the say.

    Linear warm-up from lr / steps, then a half cosine to zero (SGDR, arXiv:1608.03983, one cycle),
    or a constant.
    """
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.scheduler == "constant":
        return config.lr
    if config.scheduler == "plateau":
        return config.lr if step == 0 else None
    total = max(config.epochs * steps_per_epoch - warmup, 1)
    return config.lr * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / total))

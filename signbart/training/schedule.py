"""The optimiser's learning rate: a function of the step, or of the losses so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from signbart.configuration.schema import TrainConfig

# AdamW as PyTorch has it; Keras's own defaults are other ones.
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8

# Of one_cycle's peak: where it begins and ends, as PyTorch's OneCycleLR has them.
_FIRST_SHARE, _LAST_SHARE = 1 / 25, 1 / 25e4


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float | None:
    """The rate of one optimiser step; None where ReduceLROnPlateau has the say.

    Linear warm-up from lr / steps, then a half cosine to zero (SGDR, arXiv:1608.03983, one cycle),
    or a constant. ``one_cycle`` rises and falls by half cosines (PyTorch's OneCycleLR; its momentum
    stays as it is).
    """
    if config.scheduler == "one_cycle":
        return config.lr * _one_cycle(config, step, config.epochs * steps_per_epoch)
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.scheduler == "constant":
        return config.lr
    if config.scheduler == "plateau":
        return config.lr if step == 0 else None
    total = max(config.epochs * steps_per_epoch - warmup, 1)
    return config.lr * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / total))


def _one_cycle(config: TrainConfig, step: int, steps: int) -> float:
    top = config.warmup_share * steps - 1
    if step <= top:
        start, end, share = _FIRST_SHARE, 1.0, step / top if top > 0 else 1.0
    else:
        top = max(top, 0.0)
        start, end, share = 1.0, _LAST_SHARE, (step - top) / max(steps - 1 - top, 1e-9)
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))


def averaging_decay(config: TrainConfig, step: int) -> float:
    """Of the moving average of the weights (`config.ema`), after a step by its number, from 0.

    Less in the first steps, so that the random weights of the start are soon forgotten, by the
    formula of TensorFlow's ExponentialMovingAverage.
    """
    return min(config.ema, (1 + step) / (10 + step))


@dataclass
class Plateau:
    """PyTorch's ReduceLROnPlateau with its defaults, for every framework.

    Keras's own asks for an absolute improvement, this one for a relative one.

    Attributes:
        factor: Multiplies the rate …
        patience: … after this many epochs without an improvement.
        best: The lowest loss so far.
        bad_epochs: Epochs since it, or since the last change of the rate.
    """

    factor: float
    patience: int
    best: float = math.inf
    bad_epochs: int = 0

    @classmethod
    def of(cls, config: TrainConfig, state: Mapping[str, Any] | None) -> Plateau:
        """The run's own, as it stands at the start or, with what `state` returned, later."""
        plateau = cls(config.plateau_factor, config.plateau_patience)
        if state and state["best"] is not None:
            # PyTorch's own class calls it otherwise, and older runs of signbart_torch kept that.
            bad_epochs = state.get("bad_epochs", state.get("num_bad_epochs"))
            plateau.best, plateau.bad_epochs = state["best"], bad_epochs
        return plateau

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, for JSON, which has no infinity."""
        best = self.best if math.isfinite(self.best) else None
        return {"best": best, "bad_epochs": self.bad_epochs}

    def next_rate(self, rate: float, loss: float) -> float:
        """The rate after an epoch of this loss, which was trained at `rate`."""
        if loss < self.best * (1 - 1e-4):
            self.best, self.bad_epochs = loss, 0
        else:
            self.bad_epochs += 1
        if self.bad_epochs <= self.patience:
            return rate
        self.bad_epochs = 0
        lower = rate * self.factor
        return lower if rate - lower > 1e-8 else rate

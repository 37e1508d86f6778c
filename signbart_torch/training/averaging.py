"""A moving average of the weights beside them (Polyak averaging, exponentially weighted)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from signbart.configuration.schema import TrainConfig
from signbart.training.schedule import averaging_decay


class WeightAverage:
    """The average of parameters over the steps of their training.

    Buffers, such as a BatchNorm's running statistics, are averages already and belong to both.

    Args:
        parameters: Those that are trained.
        config: Of the run.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], config: TrainConfig):
        self.parameters, self.config = list(parameters), config
        self.values = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def restart(self) -> None:
        """Begins anew at the weights as they are."""
        torch._foreach_copy_(self.values, self.parameters)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after a step, by its number in the run, from 0."""
        weight = 1.0 - averaging_decay(self.config, step)
        torch._foreach_lerp_(self.values, self.parameters, weight)

    @torch.no_grad()
    def exchange(self) -> None:
        """Gives the model the average and keeps its weights; a second time, the other way round."""
        kept = [value.clone() for value in self.values]
        torch._foreach_copy_(self.values, self.parameters)
        torch._foreach_copy_(self.parameters, kept)

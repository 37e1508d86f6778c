"""Pruning, whatever the framework: how small a model of the same kind becomes.

A configuration has one width for all layers, so all layers get narrower alike.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from signbart.errors import ConfigError
from signbart.models import kind_of

if TYPE_CHECKING:
    from signbart.configuration.schema import RunConfig


@dataclass(frozen=True)
class Target:
    """How small a model is to become; one of both is given.

    Attributes:
        parameters: The most that it may have.
        keep: The share of its parameters that it may have, above 0 and below 1.

    Raises:
        ConfigError: None or both are given, or a number is not possible.
    """

    parameters: int | None = None
    keep: float | None = None

    def __post_init__(self):
        if (self.parameters is None) == (self.keep is None):
            raise ConfigError(
                "say how small the model is to become: --parameters N or --keep SHARE"
            )
        if self.keep is not None and not 0.0 < self.keep < 1.0:
            raise ConfigError(f"--keep {self.keep:g}: give more than 0 and less than 1")
        if self.parameters is not None and self.parameters < 1:
            raise ConfigError(f"--parameters {self.parameters}: give at least 1")

    def most(self, parameters: int) -> int:
        """The most that a model of so many may have."""
        return self.parameters or int(self.keep * parameters)


def narrowed(config: RunConfig, target: Target, count: Callable[[Any], int]) -> RunConfig:
    """The widest model of the same form that keeps to a target.

    Args:
        config: The whole model's.
        target: How small it becomes.
        count: Parameters of a model, by its section of a configuration.

    Raises:
        ConfigError: The model is that small already, or cannot become so small.
    """
    model, widths = config.model, kind_of(config.model).widths
    before = count(model)
    most = target.most(before)
    if before <= most:
        raise ConfigError(
            f"the model has {before:,} parameters, no more than the {most:,} that are asked for"
        )
    step = math.lcm(*(getattr(model, key) for key in widths.heads))
    smallest = before
    for d_model in range(model.d_model - step, 0, -step):
        inner = {
            key: max(1, round(getattr(model, key) * d_model / model.d_model))
            for key in widths.feed_forward
        }
        narrow = dataclasses.replace(model, d_model=d_model, **inner)
        smallest = count(narrow)
        if smallest <= most:
            return dataclasses.replace(config, model=narrow)
    raise ConfigError(
        f"the narrowest model of this form has {smallest:,} parameters, more than the {most:,} "
        "that are asked for; ask for more"
    )

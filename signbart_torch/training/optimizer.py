"""The optimizer of a run: its groups, and its state by the parameters' names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from signbart.configuration.schema import RunConfig
from signbart.errors import CheckpointError
from signbart.training.warm_start import body_of
from signbart_torch.training.averaging import WeightAverage

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
# Beside them with averaged weights: the parameter's value, where the model has its average.
_PLAIN = "plain"


def trained_parameters(model: nn.Module, config: RunConfig) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name, in the optimizer's order: the body first."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    body = body_of(config, [name for name, _ in trained])
    return dict(sorted(trained, key=lambda pair: pair[0] not in body))


def make_optimizer(model: nn.Module, config: RunConfig) -> torch.optim.AdamW:
    """AdamW of `trained_parameters`, in groups of which each has its ``scale`` of the rate.

    For CUDA graphs, which repeat what they read, the rates are tensors.
    """
    train = config.train
    trained, scale = trained_parameters(model, config), train.body_lr_scale
    body = body_of(config, list(trained))
    parts = {
        scale: [parameter for name, parameter in trained.items() if name in body],
        1.0: [p for name, p in trained.items() if name not in body or scale == 1.0],
    }
    groups: list[dict[str, Any]] = [
        {"params": part, "scale": of} for of, part in parts.items() if part
    ]
    if train.cuda_graphs:
        for group in groups:
            group["lr"] = torch.tensor(train.lr, device=group["params"][0].device)
    return torch.optim.AdamW(
        groups,
        lr=train.lr,
        weight_decay=train.weight_decay,
        fused=True,
        capturable=train.cuda_graphs,
    )


def state_of(
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    trained: Mapping[str, nn.Parameter],
) -> dict[str, Tensor]:
    """What training goes on from, beside the model: see `Checkpoint.optimizer`.

    Args:
        optimizer: Of the parameters in `trained`, in their order.
        average: Likewise, exchanged: it keeps the plain weights.
        trained: Parameters by name.
    """
    names = list(trained)
    state = {
        f"{names[index]}/{key}": value
        for index, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }
    if average is not None:
        plain = zip(names, average.values, strict=True)
        state |= {f"{name}/{_PLAIN}": value for name, value in plain}
    return state


def restore_state(
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    trained: Mapping[str, nn.Parameter],
    found: Mapping[str, Tensor],
    source: str | Path,
) -> None:
    """Takes what `state_of` returned; see there.

    Args:
        optimizer: Takes its moments.
        average: Takes the plain weights, to be exchanged for the average that the model has.
        trained: Parameters by name.
        found: What the checkpoint holds.
        source: Its path, for messages.

    Raises:
        CheckpointError: Something is not there.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for index, name in enumerate(trained):
        try:
            state[index] = {key: found[f"{name}/{key}"] for key in _MOMENTS}
            if average is not None:
                average.values[index].copy_(found[f"{name}/{_PLAIN}"])
        except KeyError as error:
            raise CheckpointError(
                f"{source} lacks the optimizer's {error}: it cannot be resumed"
            ) from None
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    if average is not None:
        average.exchange()

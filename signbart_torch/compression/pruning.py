"""Structured pruning in PyTorch: what a model loses least by goes, and it is trained on.

Whole units go, so that a smaller model of the same kind is left, dense and of its own
configuration: channels between layers, channels of convolutions, inner units of feed-forward, and
of each head some of what it compares and passes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from signbart.batches import prepare_clips
from signbart.configuration.schema import RunConfig
from signbart.errors import CheckpointError
from signbart.files import file_sha256
from signbart.recordings.clip import ClipSet
from signbart.training.learner import Start
from signbart.training.pruning import Target, narrowed
from signbart.training.qat import unseen_signers
from signbart.training.requirements import require_prunable
from signbart.training.splits import split_further
from signbart.waiting import track
from signbart_torch.models import new_model, num_parameters, prunable_units
from signbart_torch.models.units import Units
from signbart_torch.training.checkpoint import Checkpoint, build_model
from signbart_torch.training.data import training_batches
from signbart_torch.training.learner import train
from signbart_torch.training.objective import Objective

_BATCHES = 100  # that importance is measured on, at most


def importance(
    model: nn.Module, units: Sequence[Units], clips: ClipSet, config: RunConfig
) -> list[Tensor]:
    """How much the loss would change without each unit, to first order.

    The mean over batches of ``(Σ w ∂L/∂w)²``, over all values w of a unit (Molchanov et al.:
    "Importance Estimation for Neural Network Pruning", arXiv:1906.10771, equation 8), on training
    clips as the run's first epoch shows them, augmented and mixed.

    Args:
        model: In inference mode: nothing is dropped, and BatchNorm stays as it is.
        units: Its `prunable_units`.
        clips: Those that it was trained on.
        config: Its run's.

    Returns:
        For each of `units` a tensor (count,).
    """
    objective = Objective(config, clips.class_names, torch.device("cpu"))
    found = [torch.zeros(group.count, dtype=torch.float64) for group in units]
    tensors = dict(model.named_parameters())
    batches = training_batches(prepare_clips(clips, config), config, 0)
    count = min(_BATCHES, -(-len(clips) // config.train.batch_size))
    for batch in track(islice(batches, count), "importance", count):
        model.zero_grad(set_to_none=True)
        outputs = model(batch.keypoints, batch.attention_mask)
        (objective(outputs, batch.labels, batch.mixed) / len(batch.labels)).backward()
        products = {name: (p * p.grad).detach() for name, p in tensors.items()}
        for group, total in zip(units, found, strict=True):
            # Running statistics are no parameters.
            sums = [
                _by_unit(products[name], axis, group.count)
                for name, axis in group.places
                if name in products
            ]
            total += torch.stack(sums).sum(dim=0).double().square() / count
    model.zero_grad(set_to_none=True)
    return found


def _by_unit(values: Tensor, axis: int, count: int) -> Tensor:
    """(count,): sums over all that belongs to a unit."""
    return (
        values.movedim(axis, 0).reshape(-1, count, values.numel() // values.shape[axis]).sum((0, 2))
    )


def best_units(scores: Tensor, groups: int, kept: int) -> Tensor:
    """(kept,) indices in order: of each group equally many, the most important ones."""
    by_group = scores.reshape(groups, -1)
    size = by_group.shape[1]
    chosen = by_group.topk(kept // groups, dim=1).indices.sort(dim=1).values
    return (chosen + size * torch.arange(groups)[:, None]).flatten()


def without_others(
    tensors: Mapping[str, Tensor], units: Sequence[Units], kept: Sequence[Tensor]
) -> dict[str, Tensor]:
    """The tensors of a model of fewer units.

    Args:
        tensors: The whole model's.
        units: Its `prunable_units`.
        kept: For each of them the indices of those that stay, in order.
    """
    found = dict(tensors)
    for group, indices in zip(units, kept, strict=True):
        for name, axis in group.places:
            times = tensors[name].shape[axis] // group.count
            starts = group.count * torch.arange(times)[:, None]
            found[name] = found[name].index_select(axis, (indices + starts).flatten())
        for name in group.rescaled:
            found[name] = found[name] * (len(indices) / group.count) ** 0.5
    return {name: tensor.contiguous() for name, tensor in found.items()}


def prune(
    checkpoint: Checkpoint, narrow: RunConfig, clips: ClipSet, source: str | Path
) -> Checkpoint:
    """The model of a narrower configuration that keeps what matters most, untrained.

    Args:
        checkpoint: The whole model.
        narrow: From `narrowed`.
        clips: Those that it was trained on.
        source: The checkpoint's path, for messages.

    Raises:
        CheckpointError: The checkpoint does not fit its configuration.
    """
    config = checkpoint.config
    model = build_model(checkpoint, config, source)
    units = prunable_units(config.model)
    kept = [
        best_units(scores, group.groups, smaller.count)
        for scores, group, smaller in zip(
            importance(model, units, clips, config),
            units,
            prunable_units(narrow.model),
            strict=True,
        )
    ]
    tensors = without_others(model.state_dict(), units, kept)
    return Checkpoint(tensors, narrow, checkpoint.class_names)


def train_pruned(
    clips: ClipSet,
    checkpoint: Checkpoint,
    config: RunConfig,
    output: str | Path,
    *,
    source: str | Path,
    target: Target,
    test_signers: Sequence[str] | None = None,
    announce: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> dict[str, Any]:
    """Makes a trained model smaller and trains it on; see `learner.train` for what is not listed.

    Args:
        clips: The recordings it was trained on.
        checkpoint: The trained model.
        config: Its configuration with the settings of this training, of the whole model's sizes.
        output: Run folder.
        source: The checkpoint's path.
        target: How small it becomes.
        test_signers: Where the checkpoint does not say who they are; None is not said.
        announce: Called once with what is about to be trained, and how.
        options: `learner.train`'s.

    Returns:
        The run's results; ``start.plain`` are those of the pruned model before training.

    Raises:
        CheckpointError: The checkpoint fits neither its configuration nor the recordings.
        ConfigError: The kind of model, the division or the target is not possible.
    """
    require_prunable(config)
    if checkpoint.class_names != clips.class_names:
        raise CheckpointError(f"{source} was trained on other classes than these recordings have")
    narrow = narrowed(config, target, _count)
    test_signers = unseen_signers(checkpoint.progress, clips, test_signers, source)
    split = split_further(clips, config.train, test_signers, checkpoint.progress)
    pruned = prune(checkpoint, narrow, clips.select(split.train), source)
    before, after = _count(config.model), _count(narrow.model)
    line = (
        f"pruned {source}: {before:,} parameters to {after:,}, d_model {config.model.d_model} to "
        f"{narrow.model.d_model}"
    )
    identity = {"pruned_from": before, "checkpoint": file_sha256(source)}
    return train(
        clips,
        narrow,
        output,
        test_signers=test_signers,
        announce=announce,
        start=Start(pruned, source, identity, notes=[line], progress=checkpoint.progress),
        **options,
    )


def _count(model: Any) -> int:
    with torch.device("meta"):  # shapes alone
        return num_parameters(new_model(model))

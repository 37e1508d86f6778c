"""Which values of two tensors are of the same thing: by class, landmark and position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from signbart.configuration.schema import RunConfig
from signbart.models.kind import ModelKind
from signbart.weights.stored import Stored

# Index of a tensor here, and of the checkpoint's.
Pairs = tuple[Any, Any]


def shared_values(
    kind: ModelKind,
    name: str,
    array: np.ndarray,
    target: np.ndarray,
    stored: Stored,
    config: RunConfig,
    class_names: Sequence[str],
) -> tuple[Pairs | None, str]:
    """Which values of two tensors of one name are of the same thing.

    Args:
        kind: Of the model that starts.
        name: Of the tensors, PyTorch's.
        array: The checkpoint's.
        target: The model's.
        stored: The checkpoint, whose names of classes, categories and landmarks count.
        config: Of the model that starts.
        class_names: Its C labels.

    Returns:
        Indices into both, None where nothing is of the same thing; and a remark.
    """
    axes = kind.axes
    others = array.ndim == target.ndim and array.ndim > 0
    categories = stored.config.data.category_names if stored.config else ()
    for what, layer, names, known in (
        ("classes", axes and axes.classes, class_names, stored.class_names),
        ("categories", axes and axes.categories, config.data.category_names, categories),
    ):
        if not layer or not others or not name.startswith(f"{layer}."):
            continue
        if array.shape[1:] != target.shape[1:]:
            return None, ""
        if len(known) != len(array) or len(names) != len(target):
            return None, f"{what}: all new, since there they have no names"
        here, there = _by_name(names, known)
        return (here, there), (
            f"{what}: {len(here)} of {len(names)} by name, {len(names) - len(here)} new; "
            f"{len(known) - len(there)} left out"
        )
    if axes and others and name in axes.landmarks and stored.config is not None:
        names, known = _landmarks(config), _landmarks(stored.config)
        width = config.coordinates if axes.interleaved else 1
        times, rest = divmod(target.shape[1], width * len(names))
        if names == known and array.shape == target.shape:
            return (..., ...), ""
        if rest and array.shape == target.shape:
            return (..., ...), ""  # its columns are no landmarks
        if rest or array.shape != (len(target), times * width * len(known)):
            return None, ""
        here, there = _by_name(names, known)
        remark = f"landmarks: {len(here)} of {len(names)} by name"
        spread = []
        for at, of in ((here, names), (there, known)):
            starts = np.arange(times)[:, None] * len(of) + np.array(at, int)
            spread.append(np.add.outer(starts * width, range(width)).ravel())
        return ((slice(None), spread[0]), (slice(None), spread[1])), remark
    if axes and others and name in axes.positions and array.shape != target.shape:
        if array.shape[-1] != target.shape[-1] or array.shape[:-2] != target.shape[:-2]:
            return None, ""
        count = min(array.shape[-2], target.shape[-2])
        change = "cut" if array.shape[-2] > count else "extended by new ones"
        rows = (..., slice(count), slice(None))
        return (rows, rows), (f"positions: {array.shape[-2]} {change} to {target.shape[-2]}")
    return ((..., ...) if array.shape == target.shape else None), ""


def _by_name(names: Sequence[str], known: Sequence[str]) -> tuple[list[int], list[int]]:
    """Indices of the names that both have, here and there."""
    there = {name: at for at, name in enumerate(known)}
    pairs = [(at, there[name]) for at, name in enumerate(names) if name in there]
    return [here for here, _ in pairs], [other for _, other in pairs]


def _landmarks(config: RunConfig) -> list[str]:
    """The names of the landmarks that a run's model sees."""
    names = config.data.landmark_layout.names
    return [names[index] for index in config.joint_idx]

"""Weights moved by a map, between PyTorch and Keras, after an audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from signbart.errors import WeightMapError
from signbart.weights.rules import ABSENT, Rule


def keras_variables(model: Any, rules: Sequence[Rule]) -> dict[str, Any]:
    """The model's weights by attribute path; those that no rule reaches by Keras's own path.

    Attribute paths are what both implementations share, and what .weights.h5 files are laid out by;
    Keras's own depend on the order in which things were built.
    """
    reached = {}
    for rule in _paired(rules):
        found: object = model
        for step in rule.keras_path.split("/"):
            if step.isdigit():
                found = found[int(step)] if int(step) < len(found) else None
            else:
                found = getattr(found, step, None)
            if found is None:
                break
        else:
            reached[rule.keras_path] = found
    paths: dict[int, str] = {}
    for path, variable in reached.items():
        other = paths.setdefault(id(variable), path)
        if other != path:
            raise WeightMapError(
                f"the weight map does not fit:\n  {other} and {path} are one Keras variable"
            )
    known = set(paths)
    missed = {v.path: v for v in model.weights if id(v) not in known}
    return reached | missed


def audit(
    rules: Sequence[Rule],
    torch_tensors: Mapping[str, np.ndarray],
    keras_tensors: Mapping[str, np.ndarray],
) -> None:
    """Checks that the map pairs both sides completely, once each, with equal shapes and dtypes.

    Raises:
        WeightMapError: It does not; the message lists everything that is wrong.
    """
    problems = []
    for side, names, tensors in (
        ("torch key", [rule.torch_key for rule in rules], torch_tensors),
        ("Keras variable", [rule.keras_path for rule in _paired(rules)], keras_tensors),
    ):
        problems += [f"{side} {n} is not in the map" for n in tensors if n not in set(names)]
        problems += [f"{side} {n} does not exist" for n in names if n not in tensors]
        problems += [f"{side} {n} is mapped {k} times" for n, k in Counter(names).items() if k > 1]
    for rule in rules:
        if rule.torch_key in torch_tensors and rule.keras_path in keras_tensors:
            source, target = torch_tensors[rule.torch_key], keras_tensors[rule.keras_path]
            shape = rule.to_keras(source).shape
            if shape != target.shape:
                problems.append(
                    f"{rule.torch_key} {source.shape} gives {shape} by {rule.transform}, but "
                    f"{rule.keras_path} is {target.shape}"
                )
            if source.dtype != target.dtype:
                problems.append(
                    f"{rule.torch_key} is {source.dtype}, but {rule.keras_path} is {target.dtype}"
                )
    if problems:
        shown = "\n  ".join(problems[:8])
        more = f"\n  … and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise WeightMapError(f"the weight map does not fit:\n  {shown}{more}")


def torch_to_keras(rules: Sequence[Rule], tensors: Mapping[str, np.ndarray], model: Any) -> None:
    """Copies a PyTorch state dict (as arrays) into a Keras model, after an `audit`."""
    variables = keras_variables(model, rules)
    audit(rules, tensors, {path: v.numpy() for path, v in variables.items()})
    for rule in _paired(rules):
        variables[rule.keras_path].assign(rule.to_keras(tensors[rule.torch_key]))


def keras_to_torch(
    rules: Sequence[Rule], model: Any, tensors: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """A Keras model's weights under their torch keys, after an `audit`.

    Args:
        rules: The map.
        model: Where the values come from.
        tensors: The state dict that they are for; values are taken from it where Keras has none.
    """
    values = {path: v.numpy() for path, v in keras_variables(model, rules).items()}
    audit(rules, tensors, values)
    by_key = {rule.torch_key: rule.to_torch(values[rule.keras_path]) for rule in _paired(rules)}
    return {key: by_key.get(key, tensor) for key, tensor in tensors.items()}


def _paired(rules: Sequence[Rule]) -> list[Rule]:
    """Those of tensors that both sides have."""
    return [rule for rule in rules if rule.transform != ABSENT]

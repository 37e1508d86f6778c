"""Checkpoints that other projects published of some kinds of model: sizes from tensors' shapes.

`signbart.weights.stored` reads them, in every form and without executing what they hold. A whole
pickled module also tells what its tensors do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from signbart.errors import CheckpointError, ConfigError
from signbart.weights.state_dicts import find_module
from signbart.weights.stored import form_of, read_stored
from signbart.weights.torch_pickles import attribute_of, read_torch_file

Config = TypeVar("Config")
Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class PublishedCheckpoint:
    """What a file holds.

    Attributes:
        tensors: The state dict, float32.
        source: The file, for messages.
        notes: What was cast, chosen or ignored.
        attention_heads: Of a whole module, which knows them; else None.
        pooling: Of a whole module, which knows it; else None.
    """

    tensors: Mapping[str, Tensor]
    source: Path
    notes: Sequence[str] = ()
    attention_heads: int | None = None
    pooling: str | None = None


def read_state_dict(path: str | Path) -> PublishedCheckpoint:
    """Reads a checkpoint, and what a whole module says of its heads and pooling.

    Raises:
        CheckpointError: The file is missing, damaged, or holds no state dict of floats.
    """
    path = Path(path)
    stored = read_stored(path)
    arrays = stored.tensors
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            raise CheckpointError(f"{path}: tensor {name} is {array.dtype}, expected floats")
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    module = find_module(read_torch_file(path)) if form_of(path) == "torch" else None
    if module is None:
        return PublishedCheckpoint(tensors, path, stored.notes)
    heads = attribute_of(module, "encoder_layers.0.attention.num_heads")
    pooling = attribute_of(module, "pooling_method") or attribute_of(module, "config.pooling")
    return PublishedCheckpoint(
        tensors,
        path,
        stored.notes,
        heads if type(heads) is int and heads > 0 else None,
        pooling if isinstance(pooling, str) else None,
    )


def read_sizes_of(
    checkpoint: PublishedCheckpoint,
    read_sizes: Callable[[Mapping[str, Tensor]], Config],
    usual: Config,
    kind: type[nn.Module],
) -> Config:
    """The sizes that the tensors tell, or an error that says what else they are."""
    try:
        return read_sizes(checkpoint.tensors)
    except (KeyError, IndexError, TypeError, ValueError):
        problems = _misfits(kind, usual, checkpoint.tensors)
        raise _error(kind, problems, checkpoint.source) from None


def build(kind: type[Model], config: object, tensors: Mapping[str, Tensor], source: Path) -> Model:
    """A network of this size with these tensors, in inference mode.

    Raises:
        CheckpointError: They do not fit; says which.
    """
    try:
        problems = _misfits(kind, config, tensors)
        if not problems:
            model = kind(config)
            model.load_state_dict(tensors, strict=True)
            return model.eval()
    except ConfigError as error:
        raise CheckpointError(f"{source}: {error}") from None
    raise _error(kind, problems, source)


def _misfits(kind: type[nn.Module], config: object, found: Mapping[str, Tensor]) -> list[str]:
    """How `found` differs from the state dict of a model of this size."""
    with torch.device("meta"):
        expected = kind(config).state_dict()
    problems = [f"missing: {name}" for name in expected if name not in found]
    problems += [f"unexpected: {name}" for name in found if name not in expected]
    problems += [
        f"shape of {name}: {tuple(found[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    return problems


def _error(kind: type[nn.Module], problems: list[str], source: Path) -> CheckpointError:
    # Some of each kind: a stranger's hundred missing keys must not hide what it has instead.
    shown = [
        problem
        for start in ("missing", "unexpected", "shape")
        for problem in [p for p in problems if p.startswith(start)][:4]
    ]
    more = f"; and {len(problems) - len(shown)} more" if len(problems) > len(shown) else ""
    return CheckpointError(
        f"{source} is not a {kind.__name__} checkpoint: {'; '.join(shown)}{more}. Give one whose "
        "tensors have the published names and shapes"
    )

"""Checkpoints that other projects published of some kinds of model.

A file may hold a bare state dict, one under ``model_state_dict``, ``state_dict`` or ``model``,
names with DataParallel's ``module.`` in front, or a whole pickled module. The last kind is code,
and is read only where that is asked for. Sizes are read from the tensors' shapes.

Legend: F features, D model width, U a GRU's units, C glosses, G categories.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from signbart.errors import CheckpointError, ConfigError

Config = TypeVar("Config")
Model = TypeVar("Model", bound=nn.Module)

_WRAPPERS = ("model_state_dict", "state_dict", "model")


@dataclass(frozen=True)
class PublishedCheckpoint:
    """What a file holds.

    Attributes:
        tensors: The state dict, float32.
        source: The file, for messages.
        attention_heads: Of a whole module, which knows them; else None.
        pooling: Of a whole module, which knows it; else None.
    """

    tensors: Mapping[str, Tensor]
    source: Path
    attention_heads: int | None = None
    pooling: str | None = None


def read_state_dict(path: str | Path, *, trust_pickle: bool = False) -> PublishedCheckpoint:
    """Reads the tensors of a .pt file.

    Args:
        path: The file.
        trust_pickle: Whether a file that is more than tensors and plain values may be unpickled,
            which executes whatever code it holds.

    Raises:
        CheckpointError: The file is missing, damaged, would execute code, or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; give the path of the .pt file")
    content = _unpickle(path, trust_pickle)
    if isinstance(content, Mapping):
        content = next((content[key] for key in _WRAPPERS if key in content), content)
    module = content if isinstance(content, nn.Module) else None
    if module is not None:
        content = module.state_dict()
    is_state_dict = (
        isinstance(content, Mapping)
        and content
        and all(
            isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()
        )
    )
    if not is_state_dict:
        raise CheckpointError(
            f"{path} holds no state dict: found {_describe(content)}; save model.state_dict(), or "
            f"a dict with it under one of: {', '.join(_WRAPPERS)}"
        )
    tensors = {name.removeprefix("module."): tensor for name, tensor in content.items()}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise CheckpointError(f"{path}: tensor {name} is {tensor.dtype}, expected floats")
    tensors = {name: tensor.detach().float() for name, tensor in tensors.items()}
    return PublishedCheckpoint(tensors, path, *_read_module(module))


def _unpickle(path: Path, trust_pickle: bool) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    # On damaged bytes the unpickler fails with every kind: KeyError, EOFError, struct.error.
    except Exception as error:
        code = isinstance(error, pickle.UnpicklingError) and re.search(
            r"GLOBAL ([\w.]+)", str(error)
        )
        if not code:
            raise CheckpointError(
                f"{path} is damaged, or no PyTorch checkpoint ({_first_line(error)}); get it again"
            ) from None
        if not trust_pickle:
            raise CheckpointError(
                f"{path} is more than tensors: reading it executes code ({code[1]}), and nothing "
                "was executed. Save model.state_dict() instead; or, if you trust where the file "
                "comes from, allow it (--trust-pickle)"
            ) from None
    warnings.warn(f"{path} is unpickled, which executes the code it holds", stacklevel=3)
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    # The file's own code runs here, and fails as it likes.
    except Exception as error:
        raise CheckpointError(
            f"{path} cannot be unpickled ({_first_line(error)}); a whole module needs its class: "
            "put the folder that holds its package on PYTHONPATH, or save model.state_dict() there"
        ) from None


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:120]}" if text else type(error).__name__


def _describe(content: object) -> str:
    if isinstance(content, Mapping):
        return f"a dict of {', '.join(map(str, list(content)[:6])) or 'nothing'}"
    return type(content).__name__


def _read_module(module: nn.Module | None) -> tuple[int | None, str | None]:
    """Attention heads and pooling, as a published module's attributes tell them."""
    module = getattr(module, "module", module)  # DataParallel's
    layers = getattr(module, "encoder_layers", None) or [None]
    heads = getattr(getattr(layers[0], "attention", None), "num_heads", None)
    pooling = getattr(module, "pooling_method", None)
    if pooling is None:
        pooling = getattr(getattr(module, "config", None), "pooling", None)
    return heads, pooling


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

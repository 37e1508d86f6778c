"""Checkpoints: .safetensors whose header carries configuration and labels, and published .pth.

A .safetensors file holds the model's tensors under their published names and, where training is to
go on, the optimizer's under ``optimizer/``. Its header holds JSON texts. Neither kind of file can
execute code when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from signbart.configuration.reading import from_dict
from signbart.configuration.schema import RunConfig
from signbart.errors import CheckpointError, ConfigError
from signbart.files import atomic_write, make_folder
from signbart.training.frameworks import PUBLISHED
from signbart_torch.models import new_model

_FORMAT = "signbart-1"
_OPTIMIZER_PREFIX = "optimizer/"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        tensors: The model's state dict.
        config: The run's configuration; None for a published .pth, which has none.
        class_names: C labels; empty for a published .pth.
        progress: Whatever the trainer needs to go on; JSON containers.
        optimizer: Flat optimizer tensors, empty in checkpoints that are not meant to be resumed.
    """

    tensors: Mapping[str, Tensor]
    config: RunConfig | None = None
    class_names: tuple[str, ...] = ()
    progress: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Writes `checkpoint` to `path`, whole or not at all."""
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()
    }
    tensors |= {_OPTIMIZER_PREFIX + name: t.cpu() for name, t in checkpoint.optimizer.items()}
    header = {
        "format": _FORMAT,
        "config": json.dumps(checkpoint.config.to_dict()),
        "class_names": json.dumps(list(checkpoint.class_names), ensure_ascii=False),
        "progress": json.dumps(checkpoint.progress),
    }
    make_folder(path.parent)
    with atomic_write(path) as beside:
        beside.write_bytes(serialize(tensors, metadata=header))


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a .safetensors checkpoint, or a published .pth.

    A .pth may be a bare state dict or ``{"model", "optimizer", "epoch"}``; it is read with
    ``weights_only=True``, so that nothing in it is executed.

    Raises:
        CheckpointError: The file is missing, damaged, or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    if path.suffix in PUBLISHED:
        return _load_pth(path)
    raise CheckpointError(f"{path}: expected a .safetensors or .pth checkpoint")


def _load_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable .safetensors file: {error}") from None
    if header.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path} carries no SignBART header (format {header.get('format')!r}, expected "
            f"{_FORMAT!r}); it was not written by signbart_torch.train"
        )
    try:
        config = from_dict(json.loads(header["config"]), source=f"{path} (header)")
        class_names = tuple(json.loads(header["class_names"]))
        progress = json.loads(header["progress"])
        if len(class_names) != config.model.num_labels or not isinstance(progress, dict):
            raise ValueError(f"{len(class_names)} labels, {config.model.num_labels} classes")
    except (KeyError, ValueError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path}: damaged header: {error}") from None
    return Checkpoint(
        tensors={n: t for n, t in tensors.items() if not n.startswith(_OPTIMIZER_PREFIX)},
        config=config,
        class_names=class_names,
        progress=progress,
        optimizer={
            name.removeprefix(_OPTIMIZER_PREFIX): tensor
            for name, tensor in tensors.items()
            if name.startswith(_OPTIMIZER_PREFIX)
        },
    )


def _load_pth(path: Path) -> Checkpoint:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # On damaged bytes the unpickler fails with every kind: KeyError, UnicodeError, struct.error.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{path} is not a checkpoint of plain tensors (nothing in it was executed): {reason}"
        ) from None
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(isinstance(t, Tensor) for t in content.values()):
        raise CheckpointError(
            f"{path}: expected a state dict, or a dict with one under 'model'; "
            f"found {type(content).__name__}"
        )
    return Checkpoint(tensors=content)


def build_model(checkpoint: Checkpoint, config: RunConfig, source: str | Path) -> nn.Module:
    """The model that `checkpoint` holds, in inference mode.

    Args:
        checkpoint: What `load_checkpoint` returned.
        config: `checkpoint.config`, or the one that a published .pth was trained with.
        source: The checkpoint's path, for messages.

    Raises:
        CheckpointError: A tensor is missing, unexpected, or of another shape or dtype.
    """
    model = new_model(config.model)
    expected = model.state_dict()
    found = checkpoint.tensors
    problems = [f"missing: {name}" for name in expected if name not in found]
    problems += [f"unexpected: {name}" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        if expected[name].shape != found[name].shape:
            problems.append(
                f"shape of {name}: {tuple(found[name].shape)} in the file, "
                f"{tuple(expected[name].shape)} by the configuration"
            )
        elif expected[name].dtype != found[name].dtype:
            problems.append(
                f"dtype of {name}: {found[name].dtype}, expected {expected[name].dtype}"
            )
    if problems:
        shown = "\n  ".join(sorted(problems)[:8])
        more = f"\n  … and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise CheckpointError(f"{source} does not fit the model:\n  {shown}{more}")
    model.load_state_dict(found, strict=True)
    return model.eval()


def load_model(
    path: str | Path, config: RunConfig | None = None, class_names: Sequence[str] = ()
) -> tuple[nn.Module, RunConfig, tuple[str, ...]]:
    """Reads a checkpoint of either kind into a model, its configuration and its labels.

    Args:
        path: .safetensors, or a published .pth.
        config: For a .pth, the configuration it was trained with; refused for .safetensors, which
            carries its own.
        class_names: For a .pth, its C labels; by default ``0`` … ``C-1``.

    Raises:
        CheckpointError: See `load_checkpoint` and `build_model`.
    """
    checkpoint = load_checkpoint(path)
    if checkpoint.config is None:
        if config is None:
            raise CheckpointError(
                f"{path} carries no configuration; give the YAML file of its run (--config)"
            )
        if config.model.num_labels is None:
            raise CheckpointError(f"{path}: the configuration must set model.num_labels")
        class_names = tuple(class_names) or tuple(map(str, range(config.model.num_labels)))
        if len(class_names) != config.model.num_labels:
            raise CheckpointError(
                f"{path}: {len(class_names)} labels given for {config.model.num_labels} classes"
            )
    elif config is not None or class_names:
        raise CheckpointError(
            f"{path} carries its own configuration and labels; give none beside it"
        )
    else:
        config, class_names = checkpoint.config, checkpoint.class_names
    return build_model(checkpoint, config, path), config, tuple(class_names)

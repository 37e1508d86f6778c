"""Checkpoints: .safetensors whose header carries configuration and labels, and other programs'.

A .safetensors file holds the model's tensors under their published names and, where training is to
go on, the optimizer's under ``optimizer/``. Its header holds JSON texts. No kind of file can
execute code when it is read.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialize
from torch import Tensor, nn

from signbart.checksums import KEY, UNSET, with_checksum
from signbart.class_names import check_class_names
from signbart.configuration.schema import RunConfig
from signbart.errors import CheckpointError
from signbart.files import atomic_write, make_folder
from signbart.weights.stored import FORMAT, OPTIMIZER_PREFIX, read_stored
from signbart_torch.models import new_model


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        tensors: The model's state dict.
        config: The run's configuration; None of another program's, which has none.
        class_names: C labels; empty of another program's.
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
    tensors |= {OPTIMIZER_PREFIX + name: t.cpu() for name, t in checkpoint.optimizer.items()}
    header = {
        "format": FORMAT,
        "config": json.dumps(checkpoint.config.to_dict()),
        "class_names": json.dumps(list(checkpoint.class_names), ensure_ascii=False),
        "progress": json.dumps(checkpoint.progress),
        KEY: UNSET,
    }
    make_folder(path.parent)
    with atomic_write(path) as beside:
        beside.write_bytes(with_checksum(serialize(tensors, metadata=header)))


def load_checkpoint(path: str | Path, *, checksum: bool = True) -> Checkpoint:
    """Reads a checkpoint of this project, or of any program: see `signbart.weights.stored`.

    What was cast, chosen or ignored of another program's is warned of. One that is not what its
    `checksum` was made of is refused.

    Raises:
        CheckpointError: The file is missing, cut, damaged, or no checkpoint.
    """
    stored = read_stored(path, checksum=checksum)
    if stored.notes:
        print(f"warning: {path}: {'; '.join(stored.notes)}", file=sys.stderr)
    return Checkpoint(
        {name: torch.from_numpy(array) for name, array in stored.tensors.items()},
        stored.config,
        stored.class_names,
        stored.progress,
        {name: torch.from_numpy(array) for name, array in stored.optimizer.items()},
    )


def build_model(checkpoint: Checkpoint, config: RunConfig, source: str | Path) -> nn.Module:
    """The model that `checkpoint` holds, in inference mode.

    Args:
        checkpoint: What `load_checkpoint` returned.
        config: `checkpoint.config`, or the one that another program's was trained with.
        source: The checkpoint's path, for messages.

    Raises:
        CheckpointError: A tensor is missing, unexpected, or of another shape or dtype.
    """
    with torch.device("meta"):  # shapes alone: what does not fit is never built
        expected = new_model(config.model).state_dict()
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
        # Some of each kind: a stranger's hundred missing names must not hide what it has instead.
        kinds = ("missing", "unexpected", "shape", "dtype")
        shown = [p for kind in kinds for p in [q for q in problems if q.startswith(kind)][:4]]
        more = f"\n  … and {len(problems) - len(shown)} more" if len(problems) > len(shown) else ""
        rest = "\n  ".join(shown)
        raise CheckpointError(f"{source} does not fit the model:\n  {rest}{more}")
    model = new_model(config.model)
    model.load_state_dict(found, strict=True)
    return model.eval()


def load_model(
    path: str | Path,
    config: RunConfig | None = None,
    class_names: Sequence[str] = (),
    *,
    checksum: bool = True,
) -> tuple[nn.Module, RunConfig, tuple[str, ...]]:
    """Reads any checkpoint into a model, its configuration and its labels.

    Args:
        path: The file.
        config: The configuration that it was trained with; refused where the file carries its own.
        class_names: Likewise its C labels; by default ``0`` … ``C-1``.
        checksum: Refuse a file that is not what its checksum was made of.

    Raises:
        SignBartError: See `load_checkpoint` and `build_model`.
    """
    checkpoint = load_checkpoint(path, checksum=checksum)
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
        check_class_names(class_names, f"{path}: its labels", CheckpointError)
    elif config is not None or class_names:
        raise CheckpointError(
            f"{path} carries its own configuration and labels; give none beside it"
        )
    else:
        config, class_names = checkpoint.config, checkpoint.class_names
    return build_model(checkpoint, config, path), config, tuple(class_names)

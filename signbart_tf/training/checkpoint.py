"""Keras checkpoints: .keras and .weights.h5 that carry the run's configuration and labels.

A .keras file is a zip archive and gets one member more, a .weights.h5 file one attribute on its
root; Keras reads both as before. Where training is to go on, a .weights.h5 file also holds the
optimizer's variables, in the place where Keras itself keeps those of a compiled model.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from signbart.archives import open_zip
from signbart.configuration.schema import RunConfig
from signbart.errors import CheckpointError
from signbart.files import atomic_write, make_folder, temporary_folder
from signbart.json_text import parse_json
from signbart.weights.keras_files import HEADER
from signbart.weights.stored import parse_header, read_stored
from signbart_tf.models import new_model

_OPTIMIZER = "optimizer/vars"
SUFFIXES = (".keras", ".weights.h5")


@dataclass(frozen=True)
class Checkpoint:
    """What a Keras checkpoint holds.

    Attributes:
        model: With its weights.
        config: The run's configuration.
        class_names: C labels.
        progress: Whatever the trainer needs to go on; JSON containers.
        optimizer: The optimizer's variables in its order; empty in checkpoints that are not meant
            to be resumed.
    """

    model: keras.Model
    config: RunConfig
    class_names: tuple[str, ...]
    progress: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Sequence[np.ndarray] = ()


def save_checkpoint(
    model: keras.Model,
    config: RunConfig,
    class_names: Sequence[str],
    path: str | Path,
    *,
    progress: Mapping[str, Any] | None = None,
    optimizer: keras.optimizers.Optimizer | None = None,
) -> None:
    """Writes a .keras or .weights.h5 file, by the path's ending, whole or not at all.

    Args:
        model: Its weights are written.
        config: The run's configuration.
        class_names: C labels.
        path: The file.
        progress: See `Checkpoint`.
        optimizer: Its variables are written too; into a .weights.h5 file only.

    Raises:
        CheckpointError: The ending is another one.
        SignBartError: The file cannot be written.
    """
    path = Path(path)
    ending = _ending(path)
    if optimizer is not None and ending == ".keras":
        raise CheckpointError(f"{path}: an optimizer is kept in .weights.h5 files only")
    content = {"config": config.to_dict(), "class_names": list(class_names)}
    header = json.dumps(content | {"progress": dict(progress or {})})
    make_folder(path.parent)
    with atomic_write(path) as beside:
        if ending == ".keras":
            model.save(beside)
            with zipfile.ZipFile(beside, "a") as archive:
                archive.writestr(HEADER, header)
        else:
            model.save_weights(beside)
            with h5py.File(beside, "a") as file:
                file.attrs[HEADER] = header
                if optimizer is not None:
                    optimizer.save_own_variables(file.create_group(_OPTIMIZER))


def load_model(path: str | Path) -> tuple[keras.Model, RunConfig, tuple[str, ...]]:
    """Reads what `save_checkpoint` wrote: the model, its configuration, its labels.

    Raises:
        CheckpointError: The file is missing, damaged, or has no header of this project.
    """
    checkpoint = load_checkpoint(path)
    return checkpoint.model, checkpoint.config, checkpoint.class_names


def load_checkpoint(path: str | Path, *, checksum: bool = True) -> Checkpoint:
    """Reads all that `save_checkpoint` wrote.

    `checksum` is for commands of both frameworks: Keras's files carry none.

    Raises:
        CheckpointError: The file is missing, damaged, or has no header of this project.
    """
    path = Path(path)
    ending = _ending(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    optimizer: list[np.ndarray] = []
    try:
        if ending == ".keras":
            with open_zip(path, CheckpointError) as archive:
                header = parse_json(archive.read(HEADER))
        else:
            with h5py.File(path) as file:
                header = parse_json(file.attrs[HEADER])
                group = file.get(_OPTIMIZER, {})
                optimizer = [group[str(index)][()] for index in range(len(group))]
        config, class_names, progress = parse_header(path, header)
        # Compares sizes with the tensors, before Keras makes any room.
        read_stored(path, checksum=checksum)
        model = new_model(config.model)
        if ending == ".keras":
            # Weights alone: nothing in the archive gets to say which classes are made.
            with zipfile.ZipFile(path) as archive:
                _load_weights(model, archive.read("model.weights.h5"), path)
        else:
            model.load_weights(path)
    except (KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} is no Keras checkpoint of this project, or damaged: {error}"
        ) from None
    return Checkpoint(model, config, class_names, progress, optimizer)


def restore_optimizer(
    optimizer: keras.optimizers.Optimizer, values: Sequence[np.ndarray], path: str | Path
) -> None:
    """Gives an optimizer that is built the variables of a `Checkpoint`.

    Raises:
        CheckpointError: They are not this optimizer's; names `path`.
    """
    shapes = [tuple(variable.shape) for variable in optimizer.variables]
    if [value.shape for value in values] != shapes:
        raise CheckpointError(
            f"{path} holds {len(values)} optimizer variables that do not fit the model's "
            f"{len(shapes)}: it cannot be resumed"
        )
    for variable, value in zip(optimizer.variables, values, strict=True):
        variable.assign(value)


def _load_weights(model: keras.Model, content: bytes, path: Path) -> None:
    with temporary_folder() as folder:
        weights = folder / "model.weights.h5"
        weights.write_bytes(content)
        model.load_weights(weights)


def _ending(path: Path) -> str:
    for ending in SUFFIXES:
        if path.name.endswith(ending):
            return ending
    raise CheckpointError(f"{path}: Keras checkpoints end in {' or '.join(SUFFIXES)}")

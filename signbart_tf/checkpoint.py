"""Keras checkpoints: .keras and .weights.h5 that carry the run's configuration and labels.

A .keras file is a zip archive and gets one member more, a .weights.h5 file one attribute on its
root; Keras reads both as before.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import h5py

from signbart.config import RunConfig, from_dict
from signbart.errors import CheckpointError, ConfigError
from signbart_tf.model import SignBart

_HEADER = "signbart.json"
SUFFIXES = (".keras", ".weights.h5")


def save_checkpoint(
    model: SignBart, config: RunConfig, class_names: Sequence[str], path: str | Path
) -> None:
    """Writes a .keras or .weights.h5 file, by the path's ending, whole or not at all.

    Raises:
        CheckpointError: The ending is another one, or the file cannot be written.
    """
    path = Path(path)
    ending = _ending(path)
    header = json.dumps({"config": config.to_dict(), "class_names": list(class_names)})
    path.parent.mkdir(parents=True, exist_ok=True)
    # Keras insists on its endings.
    beside = path.with_name(f".{path.name.removesuffix(ending)}.{os.getpid()}{ending}")
    try:
        if ending == ".keras":
            model.save(beside)
            with zipfile.ZipFile(beside, "a") as archive:
                archive.writestr(_HEADER, header)
        else:
            model.save_weights(beside)
            with h5py.File(beside, "a") as file:
                file.attrs[_HEADER] = header
        os.replace(beside, path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error}") from None
    finally:
        beside.unlink(missing_ok=True)


def load_checkpoint(path: str | Path) -> tuple[SignBart, RunConfig, tuple[str, ...]]:
    """Reads what `save_checkpoint` wrote: the model, its configuration, its labels.

    Raises:
        CheckpointError: The file is missing, damaged, or has no header of this project.
    """
    path = Path(path)
    ending = _ending(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    try:
        if ending == ".keras":
            with zipfile.ZipFile(path) as archive:
                header = json.loads(archive.read(_HEADER))
        else:
            with h5py.File(path) as file:
                header = json.loads(file.attrs[_HEADER])
        config = from_dict(header["config"], source=f"{path} (header)")
        class_names = tuple(header["class_names"])
        if len(class_names) != config.model.num_labels:
            raise ValueError(f"{len(class_names)} labels for {config.model.num_labels} classes")
        model = SignBart(config.model)
        if ending == ".keras":
            # Weights alone: nothing in the archive gets to say which classes are made.
            with zipfile.ZipFile(path) as archive:
                _load_weights(model, archive.read("model.weights.h5"), path)
        else:
            model.load_weights(path)
    except (KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile, ConfigError) as error:
        raise CheckpointError(
            f"{path} is no Keras checkpoint of this project, or damaged: {error}"
        ) from None
    return model, config, class_names


def _load_weights(model: SignBart, content: bytes, path: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "model.weights.h5"
        weights.write_bytes(content)
        model.load_weights(weights)


def _ending(path: Path) -> str:
    for ending in SUFFIXES:
        if path.name.endswith(ending):
            return ending
    raise CheckpointError(f"{path}: Keras checkpoints end in {' or '.join(SUFFIXES)}")

"""The model that the bridge starts from, whatever kind of checkpoint it was trained into."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.errors import BridgeError
from signbart.errors import CheckpointError

if TYPE_CHECKING:
    from signbart.configuration.schema import RunConfig
    from signbart_tf.models.signbart.model import SignBart as KerasSignBart
    from signbart_torch.models.signbart.model import SignBart

KERAS_SUFFIXES = (".keras", ".weights.h5")


def load_reference(
    path: str | Path, config: RunConfig | None = None, class_names: Sequence[str] = ()
) -> tuple[SignBart, RunConfig, tuple[str, ...]]:
    """Reads a checkpoint of any kind into a PyTorch model, its configuration and its labels.

    A Keras checkpoint goes through the weight map, all of whose tensors are moved unchanged.

    Args:
        path: .safetensors or published .pth of PyTorch, .keras or .weights.h5 of `signbart_tf`.
        config: For a .pth, the configuration it was trained with; refused for the others, which
            carry their own.
        class_names: For a .pth, its C labels; by default ``0`` … ``C-1``.

    Raises:
        CheckpointError: The file is missing, damaged, or of another kind.
        WeightMapError: The Keras model is not the twin of the PyTorch one.
    """
    if not is_keras(path):
        from signbart_torch.training.checkpoint import load_model

        return load_model(path, config, class_names)
    if config is not None or class_names:
        raise CheckpointError(
            f"{path} carries its own configuration and labels; give none beside it"
        )
    from bridge.weights.port import build_original

    twin, config, class_names = load_twin(path)
    return build_original(twin), config, class_names


def load_twin(path: str | Path) -> tuple[KerasSignBart, RunConfig, tuple[str, ...]]:
    """Reads a Keras checkpoint, without what TensorFlow says when it starts.

    Raises:
        CheckpointError: The file is missing, damaged, or of another kind.
    """
    from signbart_tf import import_tensorflow

    import_tensorflow()
    from signbart_tf.training.checkpoint import load_model

    return load_model(path)


def load_progress(path: str | Path) -> dict:
    """What a checkpoint of any kind says of its training, such as whom it was tested on."""
    if is_keras(path):
        from signbart_tf import load_checkpoint
    else:
        from signbart_torch.training.checkpoint import load_checkpoint
    return dict(load_checkpoint(path).progress)


def is_keras(path: str | Path) -> bool:
    """Whether a path ends as Keras checkpoints do."""
    return Path(path).name.endswith(KERAS_SUFFIXES)


def read_labels(path: str | Path | None) -> tuple[str, ...]:
    """Class names in the order of their ids, from a label2id.json; none without a path.

    Raises:
        BridgeError: The file cannot be read, or its ids are not 0, 1, 2, …
    """
    if path is None:
        return ()
    try:
        label2id = json.loads(Path(path).read_text(encoding="utf-8"))
        names = sorted(label2id.keys(), key=label2id.__getitem__)
        if not names or [label2id[name] for name in names] != list(range(len(names))):
            raise ValueError("the ids are not 0, 1, 2, …")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BridgeError(f"{path} is no label2id.json (name -> id): {error}") from None
    return tuple(names)


def published_options(config: str | Path | None, overrides: Sequence[str]) -> list[str]:
    """Those arguments again, for a command that is printed."""
    given = ["--config", str(config)] if config else []
    for override in overrides:
        given += ["--set", override]
    return given

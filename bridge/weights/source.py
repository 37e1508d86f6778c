"""Checkpoints of any kind, opened to be converted.

`read_source` reads one of this project's, or a published .pth of it; `read_published_source` one
that another project published of a kind of model.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.errors import BridgeError
from bridge.weights.port import build_original
from signbart.configuration.reading import load_config
from signbart.configuration.schema import DataConfig, RunConfig
from signbart.errors import CheckpointError, ClipError
from signbart.files import file_sha256
from signbart.models import kind_of
from signbart.models.kind import ModelKind
from signbart.recordings.labels import read_label_file
from signbart.training.confidence import checked_temperature, checked_threshold, temperature_of
from signbart.weights.stored import form_of, has_header, read_progress

if TYPE_CHECKING:
    import keras
    from torch import nn

    from signbart.recordings.clip import ClipSet

KERAS_SUFFIXES = (".keras", ".weights.h5")
DEFAULT_FRAMES = 300  # of a published checkpoint that says nothing of them


@dataclass(frozen=True)
class Source:
    """A model to convert.

    Attributes:
        model: In PyTorch, in inference mode.
        config: What it is, and the recordings it takes.
        class_names: C labels.
        checkpoint: The file it was read from.
        preprocessing_known: Whether `config.data` is the checkpoint's own word, or its user's.
        options: What a command needs beside the checkpoint to read it again.
        temperature: Of the softmax that makes shares of the logits; 1 where none was fitted.
        threshold: Probability from which on a stream's answer is a sign; None where none is chosen.
    """

    model: nn.Module
    config: RunConfig
    class_names: Sequence[str]
    checkpoint: Path
    preprocessing_known: bool = True
    options: tuple[str, ...] = ()
    temperature: float = 1.0
    threshold: float | None = None

    @property
    def kind(self) -> ModelKind:
        """Of the model."""
        return kind_of(self.config.model)

    @cached_property
    def sha256(self) -> str:
        """Of the checkpoint's bytes."""
        return file_sha256(self.checkpoint)

    def carrying(self, temperature: float | None, threshold: float | None) -> Source:
        """With its user's numbers, where they are given, instead of its own.

        Raises:
            SignBartError: One is out of its range; names the option of ``convert``.
        """
        own = {}
        if temperature is not None:
            own["temperature"] = checked_temperature(temperature, "--temperature")
        if threshold is not None:
            own["threshold"] = checked_threshold(threshold, "--threshold")
        return dataclasses.replace(self, **own)

    def test_signers(self, recordings: ClipSet) -> Sequence[str] | None:
        """See `test_signers`."""
        return test_signers(self.checkpoint, recordings)


def read_source(
    checkpoint: str | Path,
    *,
    config: str | Path | None = None,
    overrides: Sequence[str] = (),
    labels: str | Path | None = None,
    checksum: bool = True,
) -> Source:
    """Reads a checkpoint of this project, or a published .pth of it.

    Args:
        checkpoint: .safetensors of `signbart_torch.train`, .keras or .weights.h5 of
            `signbart_tf.train`, or a published .pth.
        config: Configuration of a published .pth.
        overrides: ``section.key=value`` texts on top of it.
        labels: label2id.json of a published .pth.
        checksum: Refuse a file that is not what its checksum was made of.

    Raises:
        SignBartError: It cannot be read.
    """
    if overrides and not config:
        raise BridgeError("--set overrides a key of --config, which is missing; give both or none")
    given = load_config(config, overrides) if config else None
    model, run_config, class_names = load_reference(
        checkpoint, given, read_labels(labels), checksum=checksum
    )
    options = published_options(config, overrides, labels)
    return Source(
        model,
        run_config,
        class_names,
        Path(checkpoint),
        options=tuple(options),
        temperature=read_temperature(checkpoint),
    )


def read_published_source(
    kind: str,
    path: Path,
    *,
    sequence_length: int | None = None,
    input_shape: tuple[int, int] | None = None,
    classes: int | None = None,
    attention_heads: int | None = None,
    pooling: str | None = None,
    checksum: bool = True,
) -> Source:
    """Reads a checkpoint of one of `signbart.models.MODEL_KINDS`.

    Args:
        kind: Which.
        path: A checkpoint of `signbart_torch.train`, or somebody else's.
        sequence_length: T of the artifacts; by default what the checkpoint was trained with, and
            `DEFAULT_FRAMES` where it does not say.
        input_shape: T and F that the model must have, where the user says.
        classes: C that it must have.
        attention_heads: Of a .pt, whose tensors do not tell.
        pooling: Of a .pt, whose tensors do not tell.
        checksum: Refuse a file that is not what its checksum was made of.

    Raises:
        SignBartError: It cannot be read, or is not what was asked for; says which.
    """
    wanted = input_shape[0] if input_shape else sequence_length
    if has_header(path):
        source = read_source(path, checksum=checksum)
        if source.config.kind != kind:
            raise CheckpointError(
                f"{path} holds a model '{source.config.kind}', and not a '{kind}'; give it to the "
                "option for that"
            )
    else:
        source = _published(
            kind,
            path,
            attention_heads=attention_heads,
            pooling=pooling,
            # The .onnx takes up to as many as positions are computed for.
            max_frames=wanted and max(wanted, DEFAULT_FRAMES),
        )
    config = source.config
    heads = getattr(config.model, "attention_heads", None)
    for option, value, found, what in (
        ("--input-shape", input_shape and input_shape[1], config.model.num_features, "features"),
        ("--classes", classes, config.model.num_labels, "classes"),
        # A .pt takes these two on the user's word; a .safetensors knows them, and a GRU has none.
        ("--attention-heads", attention_heads, heads, "heads"),
        ("--pooling", pooling, getattr(config.model, "pooling", None), "pooling"),
    ):
        if None not in (value, found) and value != found:
            raise BridgeError(f"{path} has {found} {what}, and not {value}: correct {option}")
    longest = source.kind.io_spec(config.model, None, None).longest
    frames = wanted or min(config.data.max_frames, longest or config.data.max_frames)
    if longest is not None and frames > longest:
        raise BridgeError(
            f"{path} has positions for {longest} frames, and not for {frames}: give "
            f"--sequence-length {longest} or less"
        )
    data = dataclasses.replace(config.data, max_frames=frames)
    return dataclasses.replace(source, config=dataclasses.replace(config, data=data))


def _published(kind: str, path: Path, **given: Any) -> Source:
    from signbart_torch.models import read_published

    model, notes = read_published(kind, path, **given)
    for note in notes:
        print(f"note: {path}: {note}", file=sys.stderr)
    labels = tuple(map(str, range(model.config.num_labels)))
    # What such models are fed where they were published; a checkpoint itself does not say.
    data = DataConfig(layout="kp89", max_frames=DEFAULT_FRAMES, normalization="gaps_filled")
    config = RunConfig(name=kind, model=model.config, data=data)
    return Source(model.eval(), config, labels, path, preprocessing_known=False)


def load_reference(
    path: str | Path,
    config: RunConfig | None = None,
    class_names: Sequence[str] = (),
    *,
    checksum: bool = True,
) -> tuple[nn.Module, RunConfig, tuple[str, ...]]:
    """Reads a checkpoint of any kind into a PyTorch model, its configuration and its labels.

    A Keras checkpoint goes through the weight map, all of whose tensors are moved unchanged.

    Args:
        path: .safetensors or published .pth of PyTorch, .keras or .weights.h5 of `signbart_tf`.
        config: For a .pth, the configuration it was trained with; refused for the others, which
            carry their own.
        class_names: For a .pth, its C labels; by default ``0`` … ``C-1``.
        checksum: Refuse a file that is not what its checksum was made of.

    Raises:
        CheckpointError: The file is missing, damaged, or of another kind.
        WeightMapError: The Keras model is not the twin of the PyTorch one.
    """
    if not is_keras(path):
        from signbart_torch.training.checkpoint import load_model

        return load_model(path, config, class_names, checksum=checksum)
    if config is not None or class_names:
        raise CheckpointError(
            f"{path} carries its own configuration and labels; give none beside it"
        )
    twin, config, class_names = load_twin(path)
    return build_original(twin), config, class_names


def load_twin(path: str | Path) -> tuple[keras.Model, RunConfig, tuple[str, ...]]:
    """Reads a Keras checkpoint, without what TensorFlow says when it starts.

    Raises:
        CheckpointError: The file is missing, damaged, or of another kind.
    """
    from signbart_tf.models.framework import import_tensorflow

    import_tensorflow()
    from signbart_tf.training.checkpoint import load_model

    return load_model(path)


def test_signers(path: str | Path, recordings: ClipSet) -> Sequence[str] | None:
    """Whom a checkpoint was tested on; None where it does not say or knows other recordings."""
    known = read_progress(path).get("recordings", {})
    return known["test_signers"] if known.get("fingerprint") == recordings.fingerprint() else None


def read_temperature(path: str | Path) -> float:
    """What training fitted to a checkpoint; 1 where it did not, or is another program's.

    Raises:
        SignBartError: The checkpoint cannot be read, or says no positive number.
    """
    return temperature_of(read_progress(path), path)


def is_keras(path: str | Path) -> bool:
    """Whether a file is a Keras checkpoint of this project; a missing one goes by its ending."""
    if not Path(path).is_file():
        return Path(path).name.endswith(KERAS_SUFFIXES)
    return has_header(path) and form_of(path) == "keras"


def read_labels(path: str | Path | None) -> tuple[str, ...]:
    """Class names in the order of their ids, from a label2id.json; none without a path.

    Raises:
        BridgeError: The file cannot be read, its ids are not 0, 1, 2, …, or its names are none.
    """
    if path is None:
        return ()
    try:
        return read_label_file(Path(path))
    except ClipError as error:
        raise BridgeError(f"{path} is no label2id.json (name -> id): {error}") from None


def published_options(
    config: str | Path | None, overrides: Sequence[str], labels: str | Path | None
) -> list[str]:
    """Those arguments again, for a command that is printed."""
    given = ["--config", str(config)] if config else []
    for override in overrides:
        given += ["--set", override]
    return given + (["--labels", str(labels)] if labels else [])

"""The models that `bridge/export_models.py` starts from, checked against what was asked for."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.errors import BridgeError
from signbart.configuration.schema import DataConfig, RunConfig
from signbart.errors import CheckpointError
from signbart.models import kind_of
from signbart.models.kind import ModelKind

if TYPE_CHECKING:
    from torch import nn

DEFAULT_FRAMES = 300  # of a checkpoint that says nothing of them


@dataclass(frozen=True)
class Source:
    """A model to export.

    Attributes:
        model: In inference mode.
        config: What it is, and the recordings it takes.
        class_names: C labels.
        checkpoint: The file it was read from.
        preprocessing_known: Whether `config.data` is the checkpoint's own word.
    """

    model: nn.Module
    config: RunConfig
    class_names: Sequence[str]
    checkpoint: Path
    preprocessing_known: bool

    @property
    def row(self) -> ModelKind:
        """Its kind."""
        return kind_of(self.config.model)


def read_source(
    kind: str,
    path: Path,
    *,
    sequence_length: int | None = None,
    input_shape: tuple[int, int] | None = None,
    classes: int | None = None,
    attention_heads: int | None = None,
    pooling: str | None = None,
    trust_pickle: bool = False,
) -> Source:
    """Reads a checkpoint of one of `signbart.models.MODEL_KINDS`.

    Args:
        kind: Which.
        path: .safetensors of `signbart_torch.train`, or somebody else's .pt or .pth.
        sequence_length: T of the artifacts; by default what the checkpoint was trained with, and
            `DEFAULT_FRAMES` where it does not say.
        input_shape: T and F that the model must have, where the user says.
        classes: C that it must have.
        attention_heads: Of a .pt, whose tensors do not tell.
        pooling: Of a .pt, whose tensors do not tell.
        trust_pickle: Read a whole pickled module, which executes code.

    Raises:
        SignBartError: It cannot be read, or is not what was asked for; says which.
    """
    wanted = input_shape[0] if input_shape else sequence_length
    if path.suffix == ".safetensors":
        source = _trained_here(kind, path)
    else:
        source = _published(
            kind,
            path,
            attention_heads=attention_heads,
            pooling=pooling,
            # The .onnx takes up to as many as positions are computed for.
            max_frames=wanted and max(wanted, DEFAULT_FRAMES),
            trust_pickle=trust_pickle,
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
    longest = source.row.io_spec(config.model, None, None).longest
    frames = wanted or min(config.data.max_frames, longest or config.data.max_frames)
    if longest is not None and frames > longest:
        raise BridgeError(
            f"{path} has positions for {longest} frames, and not for {frames}: give "
            f"--sequence-length {longest} or less"
        )
    data = dataclasses.replace(config.data, max_frames=frames)
    return dataclasses.replace(source, config=dataclasses.replace(config, data=data))


def _trained_here(kind: str, path: Path) -> Source:
    from signbart_torch.training.checkpoint import load_model

    model, config, class_names = load_model(path)
    if config.kind != kind:
        raise CheckpointError(
            f"{path} holds a model '{config.kind}', and not a '{kind}'; give it to the option for "
            "that"
        )
    return Source(model, config, class_names, path, preprocessing_known=True)


def _published(kind: str, path: Path, **given: Any) -> Source:
    from signbart_torch.models import read_published

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = read_published(kind, path, **given)
    for warning in caught:
        if issubclass(warning.category, UserWarning):  # and none of the libraries' deprecations
            print(f"warning: {warning.message}", file=sys.stderr)
    labels = tuple(map(str, range(model.config.num_labels)))
    # What such models are fed where they were published; a checkpoint itself does not say.
    data = DataConfig(layout="kp89", max_frames=DEFAULT_FRAMES, normalization="gaps_filled")
    config = RunConfig(name=kind, model=model.config, data=data)
    return Source(model.eval(), config, labels, path, preprocessing_known=False)

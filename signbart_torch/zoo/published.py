"""Checkpoints that other projects published for the classifiers of this package.

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
from signbart.zoo_config import (
    POOLINGS,
    MediapipeGruConfig,
    SignTransformerConfig,
    sinusoidal_positions,
)
from signbart_torch.zoo.mediapipe_gru import MediapipeGru
from signbart_torch.zoo.sign_transformer import SignTransformer

Config = TypeVar("Config", SignTransformerConfig, MediapipeGruConfig)
Model = TypeVar("Model", SignTransformer, MediapipeGru)

_WRAPPERS = ("model_state_dict", "state_dict", "model")
_POSITIONS = "pos_encoder.pe"


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


def load_sign_transformer(
    path: str | Path,
    *,
    attention_heads: int | None = None,
    pooling: str | None = None,
    max_frames: int = SignTransformerConfig.max_frames,
    trust_pickle: bool = False,
) -> SignTransformer:
    """Reads a published sign Transformer, in inference mode.

    Args:
        path: The .pt file.
        attention_heads: Tensors do not tell them. By default a whole module's own, or the published
            8.
        pooling: Tensors do not tell it either. By default a whole module's own, or ``mean``.
        max_frames: Frames to compute positions for, where the file stores none.
        trust_pickle: Whether a file may execute code.

    Raises:
        CheckpointError: The file cannot be read, or is no sign Transformer.
    """
    checkpoint = read_published(path, trust_pickle=trust_pickle)
    heads = attention_heads or checkpoint.attention_heads or SignTransformerConfig.attention_heads
    pooling = pooling or checkpoint.pooling or SignTransformerConfig.pooling
    if pooling not in POOLINGS:
        raise CheckpointError(
            f"{path}: pooling is {pooling!r}; give one of: {', '.join(POOLINGS)} (pooling)"
        )

    def read_sizes(tensors: Mapping[str, Tensor]) -> SignTransformerConfig:
        d_model, num_features = tensors["embedding.weight"].shape
        positions = tensors.get(_POSITIONS)
        layers = {re.match(r"encoder_layers\.(\d+)\.", name) for name in tensors} - {None}
        return SignTransformerConfig(
            num_features=num_features,
            # A class token takes a position too.
            max_frames=max_frames + (pooling == "cls") if positions is None else positions.shape[1],
            num_labels=len(tensors["gloss_head.3.weight"]),
            num_categories=len(tensors["category_head.3.weight"]),
            d_model=d_model,
            encoder_layers=len({match[1] for match in layers}),
            attention_heads=heads,
            ffn_dim=len(tensors["encoder_layers.0.feed_forward.linear1.weight"]),
            pooling=pooling,
        )

    config = _config(checkpoint, read_sizes, SignTransformerConfig(), SignTransformer)
    if config.d_model % heads:
        raise CheckpointError(
            f"{path}: {heads} attention heads do not divide the width {config.d_model}; tensors do "
            "not tell how many there are, so give the number it was trained with (attention_heads)"
        )
    tensors = dict(checkpoint.tensors)
    if _POSITIONS not in tensors:
        table = sinusoidal_positions(config.max_frames, config.d_model)
        tensors[_POSITIONS] = torch.from_numpy(table).unsqueeze(0)
    return _build(SignTransformer, config, tensors, checkpoint.source)


def load_mediapipe_gru(path: str | Path, *, trust_pickle: bool = False) -> MediapipeGru:
    """Reads a published MediaPipe GRU, in inference mode; its tensors tell every size.

    Args:
        path: The .pt file.
        trust_pickle: Whether a file may execute code.

    Raises:
        CheckpointError: The file cannot be read, or is no MediaPipe GRU.
    """
    checkpoint = read_published(path, trust_pickle=trust_pickle)

    def read_sizes(tensors: Mapping[str, Tensor]) -> MediapipeGruConfig:
        projection = tensors.get("input_projection.weight")
        first = tensors["gru1.weight_ih_l0"] if projection is None else projection
        return MediapipeGruConfig(
            num_features=first.shape[1],
            num_labels=len(tensors["gloss_head.weight"]),
            num_categories=len(tensors["category_head.weight"]),
            projection_dim=None if projection is None else len(projection),
            hidden1=tensors["gru1.weight_hh_l0"].shape[1],
            hidden2=tensors["gru2.weight_hh_l0"].shape[1],
            bidirectional="gru1.weight_ih_l0_reverse" in tensors,
        )

    config = _config(checkpoint, read_sizes, MediapipeGruConfig(), MediapipeGru)
    return _build(MediapipeGru, config, checkpoint.tensors, checkpoint.source)


def read_published(path: str | Path, *, trust_pickle: bool = False) -> PublishedCheckpoint:
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


def _config(
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


def _build(kind: type[Model], config: object, tensors: Mapping[str, Tensor], source: Path) -> Model:
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

"""The networks' Keras twins, one module or package a kind; its name is the kind's.

Each has ``Network``, a class that takes the kind's configuration and keeps it as ``config``, and
``for_export``, which makes the graph for a .tflite of it. What quantization-aware training knows
has ``joined_projections``, ``BIAS_FOLLOWS`` and ``one_query_attentions`` too, as in
`signbart_torch.models`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from signbart.models import kind_of
from signbart_tf.models.framework import import_triton

if TYPE_CHECKING:
    import keras


def new_model(config: Any) -> keras.Model:
    """The twin with fresh weights."""
    return _module(config).Network(config)


def export_graph(twin: keras.Model) -> keras.Model:
    """The graph of a twin that goes into a .tflite."""
    return _module(twin.config).for_export(twin)


def joined_projections(twin: keras.Model) -> Iterator[tuple[keras.layers.Layer, tuple[str, ...]]]:
    """Each attention, and which of its projections are one product in the graph for a .tflite."""
    return _module(twin.config).joined_projections(twin)


def one_query_attentions(twin: keras.Model) -> tuple[keras.layers.Layer, ...]:
    """The attentions that are computed as `OneQueryAttention` in that graph."""
    named = getattr(_module(twin.config), "one_query_attentions", None)
    return named(twin) if named else ()


def bias_follows(twin: keras.Model) -> tuple[str, ...]:
    """Names of the Dense layers whose biases that graph adds behind, with something else."""
    return getattr(_module(twin.config), "BIAS_FOLLOWS", ())


def layers_of(twin: keras.Model, kind: type[keras.layers.Layer]) -> Iterator[keras.layers.Layer]:
    """The twin's layers of a kind, however deep, always in the same order."""
    return (layer for layer in twin._flatten_layers() if isinstance(layer, kind))


def _module(config: Any) -> ModuleType:
    import_triton()
    return import_module(f"{__name__}.{kind_of(config).name}")

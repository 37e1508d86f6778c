"""The networks, one module or package a kind; its name is the kind's.

Each has ``Network``, a class that takes the kind's configuration and keeps it as ``config``, and
``for_export``, which makes the graph for a .tflite of it. ``for_onnx`` makes the graph for an .onnx
where that is neither, or ``folded`` a copy for an .onnx of open sizes with less to compute;
``read_published`` reads other people's checkpoints. What quantization-aware training knows has
``joined_projections``, ``BIAS_FOLLOWS`` where some layers' biases are added behind them, and
``one_query_attentions`` where some have one query alone. What pruning knows has ``units``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from signbart.models import MODEL_KINDS, kind_of
from signbart.models.io_spec import IOSpec, class_output
from signbart_torch.models.units import Units


def new_model(config: Any) -> nn.Module:
    """The network with fresh weights."""
    return _module(config).Network(config)


def example_inputs(spec: IOSpec) -> dict[str, Tensor]:
    """Inputs of the fixed shapes in `spec`, to trace by: values do not matter, dtypes do."""
    return {
        tensor.name: torch.ones(tensor.shape, dtype=getattr(torch, tensor.dtype))
        for tensor in spec.inputs
    }


def export_graph(model: nn.Module) -> nn.Module:
    """The graph that goes into a .tflite, for one clip of fixed length.

    Called with the inputs by name, it gives the one output, or a dict of them.
    """
    return _module(model.config).for_export(model)


def onnx_graph(model: nn.Module, *, dynamic: bool) -> nn.Module:
    """The graph that goes into an .onnx, of any batch and length or of one clip's.

    It need not be callable outside of an export.
    """
    module = _module(model.config)
    if hasattr(module, "for_onnx"):
        return module.for_onnx(model)
    if dynamic:
        return module.folded(model) if hasattr(module, "folded") else model
    return export_graph(model)


def joined_projections(model: nn.Module) -> Iterator[tuple[nn.Module, tuple[str, ...]]]:
    """Each attention, and which of its projections are one product in the graph for a .tflite."""
    return _module(model.config).joined_projections(model)


def one_query_attentions(model: nn.Module) -> tuple[str, ...]:
    """Paths of the attentions that are computed as `OneQueryAttention` in that graph.

    k's weights stand there transposed, and its bias does not.
    """
    named = getattr(_module(model.config), "one_query_attentions", None)
    return named(model) if named else ()


def bias_follows(model: nn.Module) -> tuple[str, ...]:
    """Names of the Linears whose biases that graph adds behind the product, with something else."""
    return getattr(_module(model.config), "BIAS_FOLLOWS", ())


def prunable_units(config: Any) -> list[Units]:
    """What can be removed from a network of this size; the kinds whose ``widths`` are known."""
    return _module(config).units(config)


def read_published(kind: str, path: Path, **given: Any) -> tuple[nn.Module, Sequence[str]]:
    """Somebody else's checkpoint, in inference mode, and what is to be said of it.

    Args:
        kind: Key in `MODEL_KINDS`.
        path: The file.
        given: What the user said; None, and what the kind does not ask for, is left out.
    """
    asks = MODEL_KINDS[kind].published.asks
    said = {name: value for name, value in given.items() if value is not None and name in asks}
    from signbart_torch.models.published import read_state_dict

    checkpoint = read_state_dict(path)
    return import_module(f"{__name__}.{kind}").read_published(checkpoint, **said), checkpoint.notes


def class_scores(outputs: Any) -> Any:
    """Logits (B, C) of the classes, of a model with one output or with several by name."""
    return outputs[class_output(outputs)] if isinstance(outputs, dict) else outputs


def num_parameters(model: nn.Module) -> int:
    """Values that training may change, shared ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _module(config: Any) -> ModuleType:
    return import_module(f"{__name__}.{kind_of(config).name}")

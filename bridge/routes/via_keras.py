"""PyTorch -> Keras twin, through the weight map -> .tflite, through Keras's LiteRT export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.weights.port import build_twin
from signbart.models.io_spec import IOSpec

if TYPE_CHECKING:
    from torch import nn


def export(model: nn.Module, spec: IOSpec, paths: Mapping[str, Path]) -> None:
    """Writes the float .tflite; see `bridge.routes.Route.export`."""
    # Behind signbart_tf, which says what Keras runs on.
    from signbart_tf.models import export_graph

    graph = export_graph(build_twin(model))
    import keras

    signature = {
        tensor.name: keras.InputSpec(shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)
        for tensor in spec.inputs
    }
    graph.export(str(paths[".tflite"]), format="litert", input_signature=[signature], verbose=False)

"""PyTorch -> Keras twin, through the weight map -> .tflite, through Keras's LiteRT export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.weights.port import build_twin
from signbart.models.io_spec import IOSpec
from signbart.models.raw_spec import RawSignature

if TYPE_CHECKING:
    import keras
    from torch import nn


def export(model: nn.Module, spec: IOSpec, paths: Mapping[str, Path]) -> None:
    """Writes the float .tflite; see `bridge.routes.Route.export`."""
    # Behind signbart_tf, which says what Keras runs on.
    from signbart_tf.models import export_graph

    _export(export_graph(build_twin(model)), spec, paths[".tflite"])


def export_around(raw: RawSignature, path: Path) -> None:
    """Writes what stands around the model in the second signature."""
    from signbart_tf.models.framework import import_tensorflow

    import_tensorflow()
    from signbart_tf.models.raw_graph import Around

    _export(Around(raw.config, raw.frames, raw.temperature), raw.around, path)


def _export(graph: keras.Model, spec: IOSpec, path: Path) -> None:
    import keras

    signature = {
        tensor.name: keras.InputSpec(shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)
        for tensor in spec.inputs
    }
    graph.export(str(path), format="litert", input_signature=[signature], verbose=False)

"""PyTorch -> .tflite through LiteRT Torch (formerly ai_edge_torch).

Shapes are fixed: dynamic batch and dynamic length fail in LiteRT Torch (its issues 679, 685, 716,
870).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from bridge.routes import while_loops
from signbart.models.io_spec import IOSpec
from signbart.models.raw_spec import RawSignature
from signbart_torch.models import example_inputs, export_graph
from signbart_torch.models.raw_graph import Around


class _Named(nn.Module):
    """Gives a lone output its name: the converter names outputs by the keys of a returned dict."""

    def __init__(self, model: nn.Module, name: str):
        super().__init__()
        self.model = model
        self.name = name

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        outputs = self.model(**inputs)
        return {self.name: outputs} if isinstance(outputs, Tensor) else outputs


def export(model: nn.Module, spec: IOSpec, paths: Mapping[str, Path]) -> None:
    """Writes the float .tflite; see `bridge.routes.Route.export`."""
    named = _Named(export_graph(model), spec.outputs[0].name).eval()
    while_loops.convert(named, example_inputs(spec), paths[".tflite"])


def export_around(raw: RawSignature, path: Path) -> None:
    """Writes what stands around the model in the second signature."""
    around = Around(raw.config, raw.frames, raw.temperature).eval()
    while_loops.convert(around, example_inputs(raw.around), path)

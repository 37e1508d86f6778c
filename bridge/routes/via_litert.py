"""PyTorch -> .tflite through LiteRT Torch (formerly ai_edge_torch).

Shapes are fixed: dynamic batch and dynamic length fail in LiteRT Torch (its issues 679, 685, 716,
870).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bridge.spec import LOGITS, IOSpec
from signbart_torch.export_graph import for_export

if TYPE_CHECKING:
    from signbart_torch.model import SignBart


class _Named(nn.Module):
    """Gives the output its name: the converter names outputs by the keys of a returned dict."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, keypoints: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        return {LOGITS: self.model(keypoints, attention_mask)}


def export(model: SignBart, spec: IOSpec, paths: Mapping[str, Path]) -> None:
    """Writes the float .tflite; see `bridge.routes.Route.export`."""
    import litert_torch

    # Values do not matter to the trace, shapes and dtypes do.
    example = {
        tensor.name: torch.ones(tensor.shape, dtype=getattr(torch, tensor.dtype))
        for tensor in spec.inputs
    }
    named = _Named(for_export(model)).eval()
    litert_torch.convert(named, sample_kwargs=example).export(str(paths[".tflite"]))

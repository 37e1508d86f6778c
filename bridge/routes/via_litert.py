"""PyTorch -> .tflite through LiteRT Torch (formerly ai_edge_torch).

Shapes are fixed: dynamic batch and dynamic length fail in LiteRT Torch (its issues 679, 685, 716,
870).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bridge.spec import LOGITS, IOSpec

if TYPE_CHECKING:
    from signbart_torch.model import SignBart


class _Named(nn.Module):
    """Gives the output its name: the converter names outputs by the keys of a returned dict."""

    def __init__(self, model: SignBart):
        super().__init__()
        self.model = model

    def forward(self, keypoints: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        return {LOGITS: self.model(keypoints, attention_mask)}


class _LayerNorm(nn.Module):
    """A LayerNorm whose weight and bias have the rank of what they multiply.

    The converter folds a factor of rank 1 into the FULLY_CONNECTED behind it, though the residual
    needs the product too. That saves nothing, and puts int8 weights on another grid than the
    checkpoint's, which is the one that quantization-aware training trains for and that the other
    routes have.
    """

    def __init__(self, norm: nn.LayerNorm):
        super().__init__()
        self.shape, self.eps = norm.normalized_shape, norm.eps
        self.weight = nn.Parameter(norm.weight.detach()[None, None])
        self.bias = nn.Parameter(norm.bias.detach()[None, None])

    def forward(self, states: Tensor) -> Tensor:
        return F.layer_norm(states, self.shape, eps=self.eps) * self.weight + self.bias


def _with_whole_norms(model: SignBart) -> SignBart:
    """A copy of `model` in which nothing of a LayerNorm can be folded into its neighbours."""
    model = copy.deepcopy(model)
    for name, part in list(model.named_modules()):
        if isinstance(part, nn.LayerNorm):
            owner, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(owner), attribute, _LayerNorm(part))
    return model


def export(model: SignBart, spec: IOSpec, paths: Mapping[str, Path]) -> None:
    """Writes the float .tflite; see `bridge.routes.Route.export`."""
    import litert_torch

    # Values do not matter to the trace, shapes and dtypes do.
    example = {
        tensor.name: torch.ones(tensor.shape, dtype=getattr(torch, tensor.dtype))
        for tensor in spec.inputs
    }
    module = _Named(_with_whole_norms(model)).eval()
    litert_torch.convert(module, sample_kwargs=example).export(str(paths[".tflite"]))

"""Floating-point operations of one forward pass, counted by PyTorch itself."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

COUNTED = (
    "matrix products of Linear layers, convolutions and attention as run, a multiply and an add "
    "counted as two; "
    "what works element by element (LayerNorm, softmax, GELU, additions) is not"
)


def count_flops(model: nn.Module, inputs: Mapping[str, Tensor]) -> int:
    """Operations of one call, as `torch.utils.flop_counter` counts them: see `COUNTED`.

    Args:
        model: In inference mode.
        inputs: Of the call, by name; one clip of full length gives what reports show.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(**inputs)
    return counter.get_total_flops()

"""Floating-point operations of one forward pass, counted by PyTorch itself."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from signbart_torch.model import SignBart

COUNTED = (
    "matrix products of Linear layers and attention as run, a multiply and an add counted as two; "
    "what works element by element (LayerNorm, softmax, GELU, additions) is not"
)


def count_flops(model: SignBart, frames: int) -> int:
    """Operations of one clip, as `torch.utils.flop_counter` counts them: see `COUNTED`.

    Args:
        model: In inference mode.
        frames: Length of the clip, without padding.
    """
    device = next(model.parameters()).device
    keypoints = torch.zeros((1, frames, model.config.num_keypoints, 2), device=device)
    attention_mask = torch.ones((1, frames), dtype=torch.int32, device=device)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(keypoints, attention_mask)
    return counter.get_total_flops()

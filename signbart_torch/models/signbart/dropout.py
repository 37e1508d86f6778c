"""Dropout whose masks cost little on a CPU.

PyTorch draws a Bernoulli mask number by number on one thread, which took a quarter of a training
step. Here one 64-bit draw decides about four elements, with 16 bits each.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEVELS = 1 << 16


def dropout(states: Tensor, p: float, training: bool) -> Tensor:
    """Sets elements to zero at random while training, and scales the others by 1 / (1 - p).

    Draws from PyTorch's global generator, so `torch.manual_seed` decides the masks. On a CPU `p`
    is the nearest of k / 65536, in the scale too, so that the expectation is exact but for the
    rounding of the scale; elsewhere it is `torch.nn.functional.dropout`.

    Args:
        states: Of any shape, floating point.
        p: Probability of a zero, in [0, 1).
        training: False returns `states` itself, and draws nothing.

    Raises:
        ValueError: `p` is not in [0, 1).
    """
    if not 0 <= p < 1:
        raise ValueError(f"p is {p}, not in [0, 1)")
    if not training or p == 0:
        return states
    if states.device.type != "cpu":
        return F.dropout(states, p)
    zeros = min(round(p * _LEVELS), _LEVELS - 1)
    drawn = torch.empty(-(-states.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    drawn = drawn.view(torch.int16)[: states.numel()].view(states.shape)
    # In place, and in integers: a comparison that makes booleans takes several times as long.
    kept = drawn.ge_(zeros - _LEVELS // 2).to(states.dtype)
    return states * kept.mul_(_LEVELS / (_LEVELS - zeros))


class Dropout(nn.Module):
    """`dropout` as a module."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, states: Tensor) -> Tensor:
        """As `dropout`."""
        return dropout(states, self.p, self.training)

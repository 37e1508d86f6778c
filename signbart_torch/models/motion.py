"""Motion as inputs of a network. Legend: T frames, F numbers a frame."""

import torch
from torch import Tensor
from torch.nn import functional as F

from signbart.models.motion import MOTIONS


def with_motion(frames: Tensor, present: Tensor) -> Tensor:
    """Adds, behind each frame's numbers, their differences to later frames.

    Args:
        frames: (…, T, F); finite in padded frames too.
        present: (…, T, 1), 1 a frame and 0 padding.

    Returns:
        (…, T, 3 F): the numbers, and by `MOTIONS` how they change; 0 where one of the two frames is
        padding or beyond the clip.
    """
    parts, present = [frames], present.to(frames.dtype)
    for step, factor in MOTIONS:
        pair = present * _later(present, step)
        parts.append((_later(frames, step) - frames) * (pair * factor))
    return torch.cat(parts, dim=-1)


def _later(frames: Tensor, step: int) -> Tensor:
    """(…, T, F) -> the frames `step` later, zeros behind the last one."""
    return F.pad(frames, (0, 0, 0, step))[..., step:, :]

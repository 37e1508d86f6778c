"""Motion as inputs of a network. Legend: T frames, F numbers a frame."""

from keras import ops

from signbart.models.motion import MOTIONS


def with_motion(frames, present):
    """Adds, behind each frame's numbers, their differences to later frames.

    The twin of `signbart_torch.models.motion.with_motion`: (…, T, F), finite, and (…, T, 1), 1 a
    frame and 0 padding, -> (…, T, 3 F).
    """
    parts, present = [frames], ops.cast(present, frames.dtype)
    for step, factor in MOTIONS:
        pair = present * _later(present, step)
        parts.append((_later(frames, step) - frames) * (pair * factor))
    return ops.concatenate(parts, axis=-1)


def _later(frames, step: int):
    """(…, T, F) -> the frames `step` later, zeros behind the last one."""
    widths = [(0, 0)] * (len(frames.shape) - 2) + [(0, step), (0, 0)]
    return ops.pad(frames, widths)[..., step:, :]

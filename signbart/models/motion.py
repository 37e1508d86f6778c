"""Motion: how far landmarks move from frame to frame, as further inputs of a network.

Networks compute it themselves, so that it travels in the graph. Differences between landmarks
(bones, hand to hand) need no such thing: they are linear, and the first layer forms any of them.
"""

from __future__ import annotations

# Frames apart, and a factor that brings the difference nearer to the size of a coordinate: on
# isl_kinect30 at 32 frames coordinates have a standard deviation of 1.0, and these differences of
# 0.05 and 0.07.
MOTIONS = ((1, 5.0), (2, 3.0))


def num_inputs(num_numbers: int, motion: bool) -> int:
    """How many numbers a frame of `num_numbers` has, with its motion or without."""
    return num_numbers * (1 + len(MOTIONS) * motion)

"""Which frames of a clip are shown, and what stands between two of them.

Legend: T frames of a clip, n frames of the result, K keypoints, D coordinates.
"""

from __future__ import annotations

import numpy as np

LONGEST_GAP = 5  # published: frames that are filled where a landmark is missing in between


def frame_indices(num_frames: int, max_frames: int) -> np.ndarray:
    """Which frames of a clip are kept: all, or `max_frames` evenly spaced with both ends.

    Whole-number arithmetic, so that every device picks the same frames: floor(i (T-1) / (n-1)). The
    published code rounds the same numbers down in floating point, which at some lengths (154, 162,
    178, …) falls one frame short of a whole number.
    """
    if num_frames <= max_frames:
        return np.arange(num_frames)
    return np.arange(max_frames) * (num_frames - 1) // max(max_frames - 1, 1)


def linear_positions(num_frames: int, max_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Where n evenly spaced moments lie between T frames, both ends among them.

    Moment i is at i (T-1) / (n-1): the quotient in whole numbers is the frame before it, and what
    is left of n-1 its way to the next frame.

    Returns:
        The frame before (n,) int64, from 0 to T-1, and the share of the way to the next (n,)
        float32, from 0 to below 1; at the last frame it is 0.
    """
    steps = max(max_frames - 1, 1)
    frames, rest = np.divmod(np.arange(max_frames) * (num_frames - 1), steps)
    return frames, (rest / steps).astype(np.float32)


def between(before: np.ndarray, after: np.ndarray, share: np.ndarray, *, holes: bool) -> np.ndarray:
    """Landmarks on the straight line between two frames.

    Where one of both is missing there is no line: the nearer frame's landmark is taken, missing or
    not, and half-way the earlier one's. So a gap stays as long as it was, and no landmark is drawn
    towards the corner in which missing ones stand.

    Args:
        before: (…, K, D) float32.
        after: The next frame's.
        share: (…) float32, 0 to 1: how far from `before` to `after`.
        holes: Whether landmarks with x and y at (0, 0) are missing.
    """
    share = share[..., None, None]
    points = before + share * (after - before)
    if holes:
        # Spelt out: a reduction over an axis of two takes several times as long.
        gone, follows = ((each[..., 0] == 0) & (each[..., 1] == 0) for each in (before, after))
        nearer = np.where(share > 0.5, after, before)
        points = np.where((gone != follows)[..., None], nearer, points)
    return points


def resample_linear(points: np.ndarray, max_frames: int, *, holes: bool) -> np.ndarray:
    """A clip at `max_frames` evenly spaced moments; one frame is repeated.

    Args:
        points: (T, K, D) float32.
        max_frames: n.
        holes: See `between`.

    Returns:
        (n, K, D) float32.
    """
    frames, share = linear_positions(len(points), max_frames)
    after = np.minimum(frames + 1, len(points) - 1)
    return between(points[frames], points[after], share, holes=holes)


def describe_resampling(max_frames: int, *, holes: bool) -> str:
    """`resample_linear` in words, exact enough to be written again elsewhere."""
    missing = (
        " Where a point is (0, 0) in one of the two and not in the other, take it as it is: of "
        "frame a if 2 r <= n - 1, else of frame b."
    )
    return (
        f"Resample every clip of T frames, shorter ones too, to n = {max_frames}: for i = 0 … "
        "n - 1 let a be the whole quotient of i (T - 1) and n - 1 (1 if n is 1), r the rest, and "
        "b the smaller of a + 1 and T - 1; the point is the one of frame a, plus r / (n - 1) times "
        f"the difference of frame b's from it, in float32.{missing if holes else ''}"
    )


def fill_gaps(points: np.ndarray, longest: int = LONGEST_GAP) -> np.ndarray:
    """Fills short gaps, landmark by landmark, with the straight line between their ends.

    Args:
        points: (T, K, 2); (0, 0) is a missing point.
        longest: Longer gaps stay, and so do those that a clip begins or ends with.

    Returns:
        A new array of the same shape, float32.
    """
    points = np.array(points, dtype=np.float32)
    there = (points != 0).any(axis=-1)
    time = np.arange(len(points))[:, None]
    before = np.maximum.accumulate(np.where(there, time, -1), axis=0)
    behind = np.minimum.accumulate(np.where(there, time, len(points))[::-1], axis=0)[::-1]
    inside = ~there & (before >= 0) & (behind < len(points)) & (behind - before - 1 <= longest)
    frame, landmark = np.nonzero(inside)
    start, end = before[inside], behind[inside]
    share = ((frame - start) / (end - start)).astype(np.float32)[:, None]
    first, last = points[start, landmark], points[end, landmark]
    points[frame, landmark] = first + share * (last - first)
    return points

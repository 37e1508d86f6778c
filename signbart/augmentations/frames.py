"""Which moments of a clip are shown. Legend: B batch, T frames."""

from __future__ import annotations

import numpy as np


def warp_frames(
    lengths: np.ndarray,
    rng: np.random.Generator,
    *,
    drop: float,
    warp: float,
    max_frames: int,
    chosen: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Which frames to show, and how many: speed changes, then dropped frames.

    Args:
        lengths: (B,) frames of each clip.
        rng: Source of randomness.
        drop: Up to this share of the frames is dropped at random places.
        warp: The clip plays by a factor in [1 - warp, 1 + warp] slower.
        max_frames: Longest result.
        chosen: (B,) bool; the others keep all their frames.

    Returns:
        Indices (B, T') into the clip's frames, ascending and padded with the last one, and the new
        lengths (B,), at least 1.
    """
    batch = len(lengths)
    scale = np.where(chosen, rng.uniform(1.0 - warp, 1.0 + warp, batch), 1.0)
    kept_share = np.where(chosen, 1.0 - rng.uniform(0.0, drop, batch), 1.0)
    warped = np.clip(np.rint(lengths * scale), 1, max_frames).astype(np.int64)
    kept = np.clip(np.ceil(warped * kept_share), 1, warped).astype(np.int64)

    width = int(warped.max())
    steps = np.arange(width)
    source = steps * (lengths - 1)[:, None] // np.maximum(warped - 1, 1)[:, None]
    # Drop by rank: the `warped - kept` valid positions with the largest random keys go.
    keys = np.where(steps < warped[:, None], rng.random((batch, max_frames))[:, :width], np.inf)
    keep = keys.argsort(axis=1).argsort(axis=1) < kept[:, None]
    order = np.where(keep, steps, width).argsort(axis=1)[:, : int(kept.max())]
    frames = np.take_along_axis(source, order, axis=1)
    last = np.take_along_axis(frames, (kept - 1)[:, None], axis=1)
    padded = np.arange(frames.shape[1]) >= kept[:, None]
    return np.where(padded, last, frames), kept


def bend_time(
    lengths: np.ndarray, counts: np.ndarray, cuts: np.ndarray, bends: np.ndarray
) -> np.ndarray:
    """Moments of a clip whose ends are cut off and whose pace changes on the way.

    Time u from 0 to 1 becomes u + w sin(πu): both ends stay, and below w = 1 / π it never runs
    backwards.

    Args:
        lengths: (B,) frames of each clip.
        counts: (B,) how many moments of it are wanted.
        cuts: (B, 2) shares that are cut off at the beginning and at the end.
        bends: (B,) w.

    Returns:
        (B, T) ascending, in frames from 0 to lengths - 1; behind a clip's count its last one.
    """
    steps = np.arange(int(counts.max()))
    time = np.minimum(steps / np.maximum(counts - 1, 1)[:, None], 1.0)
    time = time + bends[:, None] * np.sin(np.pi * time)
    last = (lengths - 1)[:, None]
    first = cuts[:, :1] * last
    return np.clip(first + time * ((1.0 - cuts[:, 1:]) * last - first), 0, last)

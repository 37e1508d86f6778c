"""Random changes to training clips, a whole batch at a time, drawn from an explicit generator.

Applied between `preprocessing.prepare` and `preprocessing.normalize`. Landmarks at exactly (0, 0)
are missing in image layouts and stay missing. Legend: B batch, T frames, K keypoints.
"""

from __future__ import annotations

import numpy as np

from signbart.configuration.schema import RunConfig
from signbart.preprocessing import joint_flip


def augment(
    points: np.ndarray, lengths: np.ndarray, config: RunConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Changes a share of a batch's clips as `config.augment` says.

    Every random number is drawn for every clip, whether it is used or not, so that one setting
    never shifts the numbers of another.

    Args:
        points: (B, T, K, 2 or 3) float32, zeros behind each clip.
        lengths: (B,) valid frames of each clip, at least 1.
        config: The run's configuration.
        rng: The only source of randomness.

    Returns:
        New points of as many coordinates and T' frames, and lengths (B,) with 1 ≤ lengths ≤ T' ≤
        max_frames.
    """
    settings = config.augment
    batch = len(points)
    chosen = rng.random(batch) < settings.probability
    frames, new_lengths = warp_frames(
        lengths,
        rng,
        drop=settings.drop_frames,
        warp=settings.time_warp,
        max_frames=config.data.max_frames,
        chosen=chosen,
    )
    points = points[np.arange(batch)[:, None], frames]
    valid = (np.arange(frames.shape[1]) < new_lengths[:, None])[:, :, None]
    if config.data.landmark_layout.unit == "image":
        detected = valid & ((points[..., 0] != 0.0) | (points[..., 1] != 0.0))
    else:
        detected = np.repeat(valid, points.shape[2], axis=2)

    limit = np.radians(settings.rotation_degrees)
    angles = rng.uniform(-limit, limit, batch)
    mirrored = rng.random(batch) < settings.flip
    # Of a generator of its own, because how much is drawn depends on the settings, and frames
    # first, because a frame's noise must not depend on how many follow.
    noise_shape = (frames.shape[1], batch, *points.shape[2:])
    noise = rng.spawn(1)[0].normal(size=noise_shape)

    rows = np.flatnonzero(chosen)
    some, some_detected = points[rows], detected[rows]
    centres = _centres(some, some_detected)
    changed = rotate(some, angles[rows], centres)
    changed += settings.noise * noise[:, rows].swapaxes(0, 1)
    mirrored = mirrored[rows]
    exchange = joint_flip(config)
    changed[mirrored] = flip(changed[mirrored], exchange, centres[mirrored])
    # The flip carries each landmark, missing or not, to its partner's place.
    some_detected[mirrored] = some_detected[mirrored][:, :, exchange]
    points[rows], detected[rows] = changed, some_detected
    return np.where(detected[..., None], points, np.float32(0.0)), new_lengths


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


def rotate(points: np.ndarray, angles: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Rotates each clip about its centre, in the plane of x and y; a depth stays.

    Args:
        points: (B, T, K, 2 or 3).
        angles: (B,) radians; positive turns x towards y.
        centres: (B, 2 or 3).
    """
    cosine, sine = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    centres = centres[:, None, None, :]
    centred = points - centres
    x, y = centred[..., 0], centred[..., 1]
    depth = [centred[..., axis] for axis in range(2, points.shape[-1])]
    # Spelt out: a product with a 2 x 2 matrix takes three times as long.
    return np.stack([x * cosine - y * sine, x * sine + y * cosine, *depth], axis=-1) + centres


def flip(points: np.ndarray, exchange: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Mirrors each clip about the vertical through its centre and exchanges left and right.

    Without the exchange a mirrored right hand would arrive in the left hand's columns.

    Args:
        points: (B, T, K, 2 or 3).
        exchange: (K,) from `preprocessing.joint_flip`.
        centres: (B, 2 or 3).
    """
    mirrored = points.copy()
    mirrored[..., 0] = 2 * centres[:, None, None, 0] - mirrored[..., 0]
    return mirrored[:, :, exchange]


def _centres(points: np.ndarray, detected: np.ndarray) -> np.ndarray:
    """(B, 2 or 3) mean of each clip's landmarks where `detected` (B, T, K); else the origin."""
    count = np.maximum(detected.sum(axis=(1, 2)), 1)[:, None]
    return np.where(detected[..., None], points, 0.0).sum(axis=(1, 2)) / count

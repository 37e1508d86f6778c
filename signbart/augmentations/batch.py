"""Random changes to training clips, a whole batch at a time, drawn from an explicit generator.

Applied between `preprocessing.prepare` and `preprocessing.normalize`. Landmarks at exactly (0, 0)
are missing in image layouts and stay missing. Legend: B batch, T frames, K keypoints, D
coordinates (2 or 3).
"""

from __future__ import annotations

import numpy as np

from signbart.augmentations.frames import bend_time, warp_frames
from signbart.augmentations.points import draw_matrices, flip, rotations, transform
from signbart.configuration.schema import RunConfig
from signbart.preprocessing import joint_flip
from signbart.resampling import between

# Clips whose points are moved together: as many as stay in cache between one step and the next.
_AT_ONCE = 16


def augment(
    points: np.ndarray, lengths: np.ndarray, config: RunConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Changes a share of a batch's clips as `config.augment` says.

    Every random number is drawn for every clip, whether it is used or not, or of a generator that
    serves one setting alone, so that one setting never shifts the numbers of another.

    Args:
        points: (B, T, K, D) float32, zeros behind each clip; D is `config.augmented_coordinates`.
        lengths: (B,) valid frames of each clip, at least 1; all `max_frames` where clips are
            resampled linearly.
        config: The run's configuration.
        rng: The only source of randomness.

    Returns:
        New points of as many coordinates and T' frames, and lengths (B,) with 1 ≤ lengths ≤ T' ≤
        max_frames.
    """
    settings, layout = config.augment, config.data.landmark_layout
    batch, holes = len(points), layout.unit == "image"
    chosen = rng.random(batch) < settings.probability
    frames, new_lengths = warp_frames(
        lengths,
        rng,
        drop=settings.drop_frames,
        warp=settings.time_warp,
        max_frames=config.data.max_frames,
        chosen=chosen,
    )
    # Of a generator of its own, because how much is drawn depends on the settings.
    noise_rng = rng.spawn(1)[0]
    # One for each setting that came later; the next one's goes last. The one that is not used was a
    # setting's that has gone: without it, runs from before would not be repeated.
    crops, curves, *matrix_rngs, _, offsets = noise_rng.spawn(8)
    cuts = crops.uniform(0.0, settings.crop, (batch, 2)) * chosen[:, None]
    bends = curves.uniform(-settings.time_curve, settings.time_curve, batch) * chosen
    if config.data.resample == "linear":
        points = _stretched(points, frames, new_lengths, cuts, bends, chosen, holes=holes)
        new_lengths = lengths
    else:
        frames, new_lengths = _picked(frames, new_lengths, cuts, bends)
        points = points[np.arange(batch)[:, None], frames]
    valid = (np.arange(points.shape[1]) < new_lengths[:, None])[:, :, None]
    if holes:
        detected = valid & ((points[..., 0] != 0.0) | (points[..., 1] != 0.0))
    else:
        detected = np.repeat(valid, points.shape[2], axis=2)

    limit = np.radians(settings.rotation_degrees)
    angles = rng.uniform(-limit, limit, batch)
    mirrored = rng.random(batch) < settings.flip
    # Frames first, because a frame's noise must not depend on how many follow.
    noise_shape = (points.shape[1], batch, *points.shape[2:])
    noise = noise_rng.normal(size=noise_shape)
    bodies = draw_matrices(settings, batch, points.shape[-1], matrix_rngs)
    shift = None
    if settings.joint_offset:
        shift = settings.joint_offset * offsets.normal(size=(batch, 1, *points.shape[2:]))
    exchange = joint_flip(config)
    changing = np.flatnonzero(chosen)
    for first in range(0, len(changing), _AT_ONCE):
        rows = changing[first : first + _AT_ONCE]
        some, some_detected = points[rows], detected[rows]
        centres = _centres(some, some_detected)
        # In metres a body turns and grows about its neck, the origin; it leans, and everything in
        # an image moves, about the clip's centre.
        targets = centres if holes else (bodies[rows] @ centres[..., None])[..., 0]
        leaning = rotations(angles[rows], (0, 1), points.shape[-1])
        changed = transform(some, leaning @ bodies[rows], centres, targets)
        if shift is not None:
            changed += shift[rows]
        changed += settings.noise * noise[:, rows].swapaxes(0, 1)
        back = mirrored[rows]
        changed[back] = flip(changed[back], exchange, targets[back])
        # The flip carries each landmark, missing or not, to its partner's place.
        some_detected[back] = some_detected[back][:, :, exchange]
        points[rows], detected[rows] = changed, some_detected
    points[~detected] = 0.0
    return points, new_lengths


def _picked(
    frames: np.ndarray, lengths: np.ndarray, cuts: np.ndarray, bends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of `frames` those nearest to the moments that are left, and how many these are."""
    if not cuts.any() and not bends.any():
        return frames, lengths
    counts = np.maximum(np.rint(lengths * (1.0 - cuts.sum(axis=1))), 1).astype(np.int64)
    moments = np.rint(bend_time(lengths, counts, cuts, bends)).astype(np.int64)
    return np.take_along_axis(frames, moments, axis=1), counts


def _stretched(
    points: np.ndarray,
    frames: np.ndarray,
    lengths: np.ndarray,
    cuts: np.ndarray,
    bends: np.ndarray,
    chosen: np.ndarray,
    *,
    holes: bool,
) -> np.ndarray:
    """Clips of which only `lengths` of `frames` are left, stretched to their old length again."""
    stretched = points.copy()
    rows = np.flatnonzero(chosen)
    longest = points.shape[1]
    if not len(rows) or (not cuts.any() and not bends.any() and lengths.min() == longest):
        return stretched
    moments = bend_time(lengths[rows], np.full(len(rows), longest), cuts[rows], bends[rows])
    before = moments.astype(np.int64)
    share = (moments - before).astype(np.float32)
    after = np.minimum(before + 1, (lengths[rows] - 1)[:, None])
    shown = [np.take_along_axis(frames[rows], at, axis=1) for at in (before, after)]
    for start in range(0, len(rows), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        ends = [points[rows[some, None], at[some]] for at in shown]
        stretched[rows[some]] = between(*ends, share[some], holes=holes)
    return stretched


def _centres(points: np.ndarray, detected: np.ndarray) -> np.ndarray:
    """(B, 2 or 3) mean of each clip's landmarks where `detected` (B, T, K); else the origin."""
    count = np.maximum(detected.sum(axis=(1, 2)), 1)[:, None]
    return np.where(detected[..., None], points, 0.0).sum(axis=(1, 2)) / count

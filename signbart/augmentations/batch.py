"""Random changes to training clips, a whole batch at a time, drawn from an explicit generator.

What is drawn is drawn for all clips, so that processes that train together draw the same; it is
applied to those that are wanted, between `preprocessing.prepare` and `preprocessing.normalize`.
Landmarks at exactly (0, 0) are missing in image layouts and stay missing. Legend: B batch, T
frames, K keypoints, D coordinates (2 or 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from signbart.augmentations.frames import bend_time, warp_frames
from signbart.augmentations.points import draw_matrices, flip, rotations, transform
from signbart.configuration.schema import RunConfig
from signbart.preprocessing import joint_flip
from signbart.resampling import between

# Clips whose points are moved together: as many as stay in cache between one step and the next.
_AT_ONCE = 16


@dataclass(frozen=True)
class Changes:
    """What is drawn for a batch's clips, before any point is touched.

    Attributes:
        chosen: (B,) bool, which clips are changed at all.
        frames: (B, T') the frames of each clip that are shown, its last one behind them.
        counts: (B,) how many of them are its own.
        lengths: (B,) frames of each clip in the end.
        cuts: (B, 2) shares that are cut off where clips are resampled linearly.
        bends: (B,) how the pace changes there.
        stretched: Whether any clip is.
        angles: (B,) radians.
        mirrored: (B,) bool.
        noise: (T', B, K, D) of standard deviation 1.
        bodies: (B, D, D) how each body's points are mapped.
        shift: (B, 1, K, D) what is added to them, if anything.
    """

    chosen: np.ndarray
    frames: np.ndarray
    counts: np.ndarray
    lengths: np.ndarray
    cuts: np.ndarray
    bends: np.ndarray
    stretched: bool
    angles: np.ndarray
    mirrored: np.ndarray
    noise: np.ndarray
    bodies: np.ndarray
    shift: np.ndarray | None

    def take(self, at: np.ndarray) -> Changes:
        """Those of some of the clips."""
        changed = {
            field.name: value[at]
            for field in fields(self)
            if field.name != "noise" and isinstance(value := getattr(self, field.name), np.ndarray)
        }
        return replace(self, **changed, noise=self.noise[:, at])


def draw_changes(
    lengths: np.ndarray, shape: Sequence[int], config: RunConfig, rng: np.random.Generator
) -> Changes:
    """Draws how a share of a batch's clips is changed, as `config.augment` says.

    Every random number is drawn for every clip, whether it is used or not, or of a generator that
    serves one setting alone, so that one setting never shifts the numbers of another.

    Args:
        lengths: (B,) valid frames of each clip, at least 1; all `max_frames` where clips are
            resampled linearly.
        shape: (T, K, D) of the batch's points; D is `config.augmented_coordinates`.
        config: The run's configuration.
        rng: The only source of randomness.
    """
    settings, batch = config.augment, len(lengths)
    chosen = rng.random(batch) < settings.probability
    frames, counts = warp_frames(
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
        width, final = shape[0], lengths
        stretched = bool(cuts.any() or bends.any() or counts.min() != width)
    else:
        frames, counts = _picked(frames, counts, cuts, bends)
        width, final, stretched = frames.shape[1], counts, False
    limit = np.radians(settings.rotation_degrees)
    angles = rng.uniform(-limit, limit, batch)
    mirrored = rng.random(batch) < settings.flip
    # Frames first, because a frame's noise must not depend on how many follow.
    noise = noise_rng.normal(size=(width, batch, *shape[1:]))
    bodies = draw_matrices(settings, batch, shape[-1], matrix_rngs)
    shift = None
    if settings.joint_offset:
        shift = settings.joint_offset * offsets.normal(size=(batch, 1, *shape[1:]))
    return Changes(
        chosen,
        frames,
        counts,
        final,
        cuts,
        bends,
        stretched,
        angles,
        mirrored,
        noise,
        bodies,
        shift,
    )


def apply_changes(points: np.ndarray, changes: Changes, config: RunConfig) -> np.ndarray:
    """Changes clips as was drawn for them; each clip's result depends on no other clip.

    Args:
        points: (B, T, K, D) float32, zeros behind each clip.
        changes: Of these clips.
        config: The run's configuration.

    Returns:
        New points of as many coordinates and T' frames.
    """
    settings, holes = config.augment, config.data.landmark_layout.unit == "image"
    if config.data.resample == "linear":
        points = _stretched(points, changes, holes=holes)
    else:
        points = points[np.arange(len(points))[:, None], changes.frames]
    valid = (np.arange(points.shape[1]) < changes.lengths[:, None])[:, :, None]
    if holes:
        detected = valid & ((points[..., 0] != 0.0) | (points[..., 1] != 0.0))
    else:
        detected = np.repeat(valid, points.shape[2], axis=2)
    exchange = joint_flip(config)
    changing = np.flatnonzero(changes.chosen)
    for first in range(0, len(changing), _AT_ONCE):
        rows = changing[first : first + _AT_ONCE]
        some, some_detected = points[rows], detected[rows]
        centres, bodies = _centres(some, some_detected), changes.bodies[rows]
        # In metres a body turns and grows about its neck, the origin; it leans, and everything in
        # an image moves, about the clip's centre.
        targets = centres if holes else (bodies @ centres[..., None])[..., 0]
        leaning = rotations(changes.angles[rows], (0, 1), points.shape[-1])
        changed = transform(some, leaning @ bodies, centres, targets)
        if changes.shift is not None:
            changed += changes.shift[rows]
        changed += settings.noise * changes.noise[:, rows].swapaxes(0, 1)
        back = changes.mirrored[rows]
        changed[back] = flip(changed[back], exchange, targets[back])
        # The flip carries each landmark, missing or not, to its partner's place.
        some_detected[back] = some_detected[back][:, :, exchange]
        points[rows], detected[rows] = changed, some_detected
    points[~detected] = 0.0
    return points


def _picked(
    frames: np.ndarray, lengths: np.ndarray, cuts: np.ndarray, bends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of `frames` those nearest to the moments that are left, and how many these are."""
    if not cuts.any() and not bends.any():
        return frames, lengths
    counts = np.maximum(np.rint(lengths * (1.0 - cuts.sum(axis=1))), 1).astype(np.int64)
    moments = np.rint(bend_time(lengths, counts, cuts, bends)).astype(np.int64)
    return np.take_along_axis(frames, moments, axis=1), counts


def _stretched(points: np.ndarray, changes: Changes, *, holes: bool) -> np.ndarray:
    """Clips of which only `counts` of `frames` are left, stretched to their old length again."""
    stretched = points.copy()
    rows = np.flatnonzero(changes.chosen)
    if not len(rows) or not changes.stretched:
        return stretched
    counts, frames, longest = changes.counts[rows], changes.frames[rows], points.shape[1]
    whole = np.full(len(rows), longest)
    moments = bend_time(counts, whole, changes.cuts[rows], changes.bends[rows])
    before = moments.astype(np.int64)
    share = (moments - before).astype(np.float32)
    after = np.minimum(before + 1, (counts - 1)[:, None])
    shown = [np.take_along_axis(frames, at, axis=1) for at in (before, after)]
    for start in range(0, len(rows), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        ends = [points[rows[some, None], at[some]] for at in shown]
        stretched[rows[some]] = between(*ends, share[some], holes=holes)
    return stretched


def _centres(points: np.ndarray, detected: np.ndarray) -> np.ndarray:
    """(B, 2 or 3) mean of each clip's landmarks where `detected` (B, T, K); else the origin."""
    count = np.maximum(detected.sum(axis=(1, 2)), 1)[:, None]
    return np.where(detected[..., None], points, 0.0).sum(axis=(1, 2)) / count

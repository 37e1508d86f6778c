"""The preprocessing contract as a layer, for graphs that take raw landmarks.

The twin of `signbart_torch.models.preprocessing`, which says what differs from
`signbart.preprocessing`, and why.

Legend: S raw frames, T frames of the model, N landmarks of the layout, K keypoints, D coordinates,
G groups.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from signbart.preprocessing import (
    BODY_FRAME,
    BOX_MARGIN,
    LONGEST_GAP,
    SHORTEST_TORSO,
    joint_groups,
)

if TYPE_CHECKING:
    from signbart.configuration.schema import RunConfig

_FAR = float(2 * LONGEST_GAP)  # frames: farther than any gap that is filled


class Preprocessing(keras.layers.Layer):
    """Raw landmarks and how many frames they are -> the model's inputs.

    Args:
        config: The run's configuration.
        raw_frames: S, the most frames that it takes.
    """

    def __init__(self, config: RunConfig, raw_frames: int):
        super().__init__(name="preprocessing")
        layout = config.data.landmark_layout
        self.normalization = config.data.normalization
        self.coordinates, self.features = config.coordinates, config.takes_features
        self.raw_frames, self.max_frames = raw_frames, config.data.max_frames
        self.num_landmarks = layout.num_keypoints
        self.in_metres = layout.unit == "metres"
        self.linear = config.data.resample == "linear"
        order = list(range(config.num_keypoints))
        self.group_sizes = []
        if self.normalization.startswith("bbox"):  # a group's keypoints side by side
            groups = joint_groups(config).values()
            self.group_sizes = [len(members) for members in groups]
            order = [at for members in groups for at in members]
        self.select = _positions(config.joint_idx[at] for at in order)
        self.reorder = _positions(sorted(range(len(order)), key=order.__getitem__))
        self.body = _positions(
            [layout.index(name) for name in BODY_FRAME] if self.in_metres else []
        )

    def call(self, landmarks, num_frames):
        """As `signbart_torch.models.preprocessing.Preprocessing.forward`."""
        used = ops.clip(num_frames, 1, self.raw_frames)
        raw = ops.reshape(
            landmarks, (self.raw_frames, self.num_landmarks, 3 if self.in_metres else 2)
        )
        if self.in_metres:
            body = self._body(raw, used)
            points = self._resample(
                raw, used, lambda frames: _body_centred(self._take(frames), body, self.coordinates)
            )
        elif self.normalization == "gaps_filled":
            points = ops.clip(_fill_gaps(self._take(raw), used), 0.0, 1.0)
            points = self._resample(points, used, lambda frames: frames)
        else:
            points = self._resample(
                raw, used, lambda frames: ops.clip(self._take(frames), 0.0, 1.0)
            )
            points = self._in_boxes(points)
        keypoints = ops.transpose(points, (0, 2, 1))
        if self.features:
            keypoints = ops.reshape(keypoints, (self.max_frames, -1))
        # Every one where frames are made between others.
        frames = used + self.max_frames if self.linear else used
        mask = ops.cast(ops.arange(self.max_frames, dtype="int32") < frames, "int32")
        return keypoints[None], mask[None], used

    def _resample(self, source, used, prepare):
        """As `signbart_torch.models.preprocessing.Preprocessing._resample`."""
        last = used - 1
        at = ops.arange(self.max_frames, dtype="int32")
        steps = max(self.max_frames - 1, 1)
        thinned = at * last // steps
        if not self.linear:
            chosen = ops.where(used > self.max_frames, thinned, ops.minimum(at, last))
            return prepare(ops.take(source, chosen, axis=0))
        before = prepare(ops.take(source, thinned, axis=0))
        after = prepare(ops.take(source, ops.minimum(thinned + 1, last), axis=0))
        rest = ops.reshape(at * last - thinned * steps, (-1, 1, 1))
        points = before + ops.cast(rest, before.dtype) / steps * (after - before)
        if self.in_metres:
            return points
        # Where one of both is missing there is no line: the nearer one's, missing or not.
        there, there_after = (ops.any(p != 0, axis=1, keepdims=True) for p in (before, after))
        nearer = ops.where(2 * rest > steps, after, before)
        return ops.where(there == there_after, points, nearer)

    def _take(self, raw):
        """(…, N, D) -> the model's keypoints (…, D, K), missing ones 0."""
        points = ops.transpose(raw, (0, 2, 1))
        if self.select.tolist() != list(range(self.num_landmarks)):
            points = ops.take(points, self.select, axis=2)
        return _without_nan(points)

    def _body(self, raw, used):
        """As `signbart_torch.models.preprocessing.Preprocessing._body`."""
        points = _without_nan(ops.take(ops.transpose(raw, (0, 2, 1)), self.body, axis=2))
        neck, base, left, right = ops.split(points, 4, axis=2)  # (S, 3, 1)
        origin = neck[:1]
        spans = ops.concatenate([neck - origin, neck - base, right - left], axis=2)
        present, count = _is_present(self.raw_frames, used), ops.cast(used, points.dtype)
        zeros = ops.zeros_like(spans)
        mean = ops.sum(ops.where(present, spans, zeros), axis=0, keepdims=True) / count
        # And the mean of what that leaves: a sum of many numbers is rounded by its size.
        rest = ops.sum(ops.where(present, spans - mean, zeros), axis=0) / count
        return origin[0], mean[0] + rest

    def _in_boxes(self, points):
        """(T, 2, K) in the order of `select` -> that of the model; see `normalize_boxes`."""
        low = high = points
        counted = None
        if self.normalization == "bbox_ignore_missing":
            counted = ops.any(points != 0, axis=1, keepdims=True)
            # Outside of [0, 1], so that no missing point is the lowest or the highest.
            low = ops.where(counted, points, ops.full_like(points, 2.0))
            high = ops.where(counted, points, ops.full_like(points, -1.0))
        parts = self.group_sizes
        low, high = (
            ops.concatenate(
                [extreme(part, axis=2, keepdims=True) for part in _split(ends, parts)], axis=2
            )
            for extreme, ends in ((ops.min, low), (ops.max, high))
        )
        sides = high - low  # (T, 2, G)
        longer = ops.max(sides, axis=1, keepdims=True)
        margin = BOX_MARGIN * longer + (longer - sides) / 2
        start = ops.clip(low - margin, 0.0, 1.0)
        size = ops.clip(high + margin, 0.0, 1.0) - start
        # From 0 and of size 1, a box changes nothing.
        flat = size == 0
        start = ops.where(flat, ops.zeros_like(start), start)
        size = ops.where(flat, ops.ones_like(size), size)
        count = len(parts)
        boxes = zip(
            _split(points, parts),
            ops.split(start, count, axis=2),
            ops.split(size, count, axis=2),
            strict=True,
        )
        scaled = ops.concatenate([(group - begin) / side for group, begin, side in boxes], axis=2)
        if counted is not None:
            scaled = ops.where(counted, scaled, points)
        if self.reorder.tolist() != list(range(len(self.reorder))):
            scaled = ops.take(scaled, self.reorder, axis=2)
        return scaled


def _positions(indices) -> np.ndarray:
    return np.array(list(indices), np.int32)


def _split(points, sizes: list[int]):
    return ops.split(points, list(accumulate(sizes))[:-1], axis=2)


def _is_present(frames: int, used):
    """(S, 1, 1): whether a frame is the recording's."""
    return ops.reshape(ops.arange(frames, dtype="int32") < used, (-1, 1, 1))


def _without_nan(points):
    """(…, D, K): a landmark whose x or y is NaN is 0, as it is where recordings are read."""
    total = points[:, :1] + points[:, 1:2]
    points = ops.where(total == total, points, ops.zeros_like(points))
    if points.shape[1] == 3:
        points = ops.where(points == points, points, ops.zeros_like(points))
    return points


def _fill_gaps(points, used):
    """(S, 2, K); see `signbart.preprocessing.fill_gaps`. Frames behind the recording become 0."""
    zeros = ops.zeros_like(points)
    points = ops.where(_is_present(points.shape[0], used), points, zeros)
    there = ops.cast(ops.any(points != 0, axis=1, keepdims=True), points.dtype)
    nearest = []
    for shift in (_later, _earlier):
        place, distance = zeros, ops.full_like(there, _FAR)
        # The farthest first: whatever is nearer replaces it.
        for frames in reversed(range(1, min(LONGEST_GAP + 1, points.shape[0]))):
            found = shift(there, frames) > 0
            place = ops.where(found, shift(points, frames), place)
            distance = ops.where(found, ops.full_like(distance, float(frames)), distance)
        nearest.append((place, distance))
    (first, before), (last, behind) = nearest
    span = before + behind
    filled = first + before / span * (last - first)
    return ops.where(ops.logical_and(there == 0, span <= LONGEST_GAP + 1), filled, points)


def _later(sequence, frames: int):
    return ops.concatenate([ops.zeros_like(sequence[:frames]), sequence[:-frames]])


def _earlier(sequence, frames: int):
    return ops.concatenate([sequence[frames:], ops.zeros_like(sequence[:frames])])


def _body_centred(points, body, coordinates: int):
    """(T, 3, K) -> (T, D, K); `body` from `Preprocessing._body`. See `body_centred` there."""
    origin, spans = body
    neck, spine, across = (spans[:, at : at + 1] for at in range(3))  # (3, 1)
    torso = ops.maximum(ops.sqrt(ops.sum(spine**2, axis=0)), SHORTEST_TORSO)
    squares = across[0] ** 2 + across[2] ** 2
    wide = squares > 0
    width = ops.sqrt(ops.where(wide, squares, ops.ones_like(squares)))
    cosine = ops.where(wide, across[0] / width, ops.ones_like(width))
    sine = across[2] / width
    centred = (points - origin - neck) / torso
    x, y, z = (centred[:, at : at + 1] for at in range(3))
    turned = [cosine * x + sine * z, -y, cosine * z - sine * x]
    return ops.concatenate(turned[:coordinates], axis=1)

"""The preprocessing contract as a module, for graphs that take raw landmarks.

Step by step what `signbart.preprocessing` does, with nothing but operators that every runtime has.
Where an order does not change a number, frames are chosen first: fewer are left to work on.

Points stand as (frames, coordinates, landmarks), so that what is side by side is reduced. Legend:
S raw frames, T frames of the model, N landmarks of the layout, K keypoints, D coordinates, G
groups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

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


class Preprocessing(nn.Module):
    """Raw landmarks and how many frames they are -> the model's inputs.

    Args:
        config: The run's configuration.
        raw_frames: S, the most frames that it takes.
    """

    def __init__(self, config: RunConfig, raw_frames: int):
        super().__init__()
        layout = config.data.landmark_layout
        self.normalization = config.data.normalization
        self.coordinates, self.features = config.coordinates, config.takes_features
        self.raw_frames, self.max_frames = raw_frames, config.data.max_frames
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

    def forward(self, landmarks: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Prepares one recording.

        Args:
            landmarks: (1, S, N, 2 or 3), as the layout has them. A landmark whose x or y is NaN is
                missing, and counts as 0. What stands behind the recording is not read.
            num_frames: (1,) int32, how many frames it has.

        Returns:
            ``keypoints`` (1, T, K, D), or (1, T, D K) for models that take features, whatever
            behind the recording; ``attention_mask`` (1, T) int32; and (1,) int32, the number of
            frames that was used: `num_frames` cut to 1 … S.
        """
        used = num_frames.clamp(1, self.raw_frames)
        raw = landmarks.reshape(landmarks.shape[1:])
        if self.in_metres:
            body = self._body(raw, used)
            points = self._resample(
                raw, used, lambda frames: _body_centred(self._take(frames), body, self.coordinates)
            )
        elif self.normalization == "gaps_filled":
            points = _fill_gaps(self._take(raw), used).clamp(0.0, 1.0)
            points = self._resample(points, used, lambda frames: frames)
        else:
            points = self._resample(raw, used, lambda frames: self._take(frames).clamp(0.0, 1.0))
            points = self._in_boxes(points)
        keypoints = points.permute(0, 2, 1)
        if self.features:
            keypoints = keypoints.reshape(len(keypoints), -1)
        # Every one where frames are made between others.
        frames = used + self.max_frames if self.linear else used
        mask = (torch.arange(self.max_frames, dtype=torch.int32) < frames).to(torch.int32)
        return keypoints.unsqueeze(0), mask.unsqueeze(0), used

    def _resample(
        self, source: Tensor, used: Tensor, prepare: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """The step from a recording's frames to the model's.

        Args:
            source: (S, …).
            used: (1,) int32, how many of them are the recording.
            prepare: What has to be done to frames before; done to those that were chosen.

        Returns:
            (T, 2 or 3, K): of a recording of at most T frames every one, and the last one behind
            them; of a longer one those that `frame_indices` chooses. Or what is between two.
        """
        last = used - 1
        at = torch.arange(self.max_frames, dtype=torch.int32)
        steps = max(self.max_frames - 1, 1)
        thinned = torch.div(at * last, steps, rounding_mode="floor")
        if not self.linear:
            chosen = torch.where(used > self.max_frames, thinned, torch.minimum(at, last))
            return prepare(_frames_at(source, chosen))
        before = prepare(_frames_at(source, thinned))
        after = prepare(_frames_at(source, torch.minimum(thinned + 1, last)))
        rest = (at * last - thinned * steps).reshape(-1, 1, 1)
        points = before + rest.to(before.dtype) / steps * (after - before)
        if self.in_metres:
            return points
        # Where one of both is missing there is no line: the nearer one's, missing or not.
        there, there_after = ((p != 0).any(dim=1, keepdim=True) for p in (before, after))
        nearer = torch.where(2 * rest > steps, after, before)
        return torch.where(there == there_after, points, nearer)

    def _take(self, raw: Tensor) -> Tensor:
        """(…, N, D) -> the model's keypoints (…, D, K), missing ones 0."""
        points = raw.permute(0, 2, 1)
        if self.select.tolist() != list(range(points.shape[2])):
            points = points.index_select(2, self.select)
        return _without_nan(points)

    def _body(self, raw: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
        """Where the body is.

        Returns:
            (3, 1), the first frame's neck, and (3, 3), means over the recording's frames: from
            there to the neck, from the base of the spine to the neck, from shoulder to shoulder.
            Differences within a frame come before the mean: a place in the room is rounded by its
            distance from 0, which a short torso and narrow shoulders would magnify.
        """
        points = _without_nan(raw.permute(0, 2, 1).index_select(2, self.body))
        neck, base, left, right = points.split(1, dim=2)  # (S, 3, 1)
        origin = neck[:1]
        spans = torch.cat([neck - origin, neck - base, right - left], dim=2)
        present, count = _is_present(self.raw_frames, used), used.to(points.dtype)
        zeros = torch.zeros_like(spans)
        mean = torch.where(present, spans, zeros).sum(dim=0, keepdim=True) / count
        # And the mean of what that leaves: a sum of many numbers is rounded by its size.
        rest = torch.where(present, spans - mean, zeros).sum(dim=0) / count
        return origin[0], mean[0] + rest

    def _in_boxes(self, points: Tensor) -> Tensor:
        """(T, 2, K) in the order of `select` -> that of the model; see `normalize_boxes`."""
        low = high = points
        counted = None
        if self.normalization == "bbox_ignore_missing":
            counted = (points != 0).any(dim=1, keepdim=True)
            # Outside of [0, 1], so that no missing point is the lowest or the highest.
            low = torch.where(counted, points, torch.full_like(points, 2.0))
            high = torch.where(counted, points, torch.full_like(points, -1.0))
        parts = self.group_sizes
        low = torch.cat([part.amin(dim=2, keepdim=True) for part in low.split(parts, 2)], dim=2)
        high = torch.cat([part.amax(dim=2, keepdim=True) for part in high.split(parts, 2)], dim=2)
        sides = high - low  # (T, 2, G)
        longer = sides.amax(dim=1, keepdim=True)
        margin = BOX_MARGIN * longer + (longer - sides) / 2
        start = (low - margin).clamp(0.0, 1.0)
        size = (high + margin).clamp(0.0, 1.0) - start
        # From 0 and of size 1, a box changes nothing.
        flat = size == 0
        start = torch.where(flat, torch.zeros_like(start), start)
        size = torch.where(flat, torch.ones_like(size), size)
        # Group by group: making a box a keypoint beforehand takes longer than all the rest.
        boxes = zip(points.split(parts, 2), start.split(1, 2), size.split(1, 2), strict=True)
        scaled = torch.cat([(group - begin) / side for group, begin, side in boxes], dim=2)
        if counted is not None:
            scaled = torch.where(counted, scaled, points)
        if self.reorder.tolist() != list(range(points.shape[2])):
            scaled = scaled.index_select(2, self.reorder)
        return scaled


def _positions(indices) -> Tensor:
    return torch.tensor(list(indices), dtype=torch.int32)


def _frames_at(source: Tensor, chosen: Tensor) -> Tensor:
    """(S, …) and (T,) indices -> (T, …)."""
    # Rows: for more axes converters make a slower operator.
    rows = source.reshape(len(source), -1).index_select(0, chosen)
    return rows.reshape(-1, *source.shape[1:])


def _is_present(frames: int, used: Tensor) -> Tensor:
    """(S, 1, 1): whether a frame is the recording's."""
    return (torch.arange(frames, dtype=torch.int32) < used).reshape(-1, 1, 1)


def _without_nan(points: Tensor) -> Tensor:
    """(…, D, K): a landmark whose x or y is NaN is 0, as it is where recordings are read."""
    total = points[:, :1] + points[:, 1:2]
    points = torch.where(total == total, points, torch.zeros_like(points))
    if points.shape[1] == 3:
        points = torch.where(points == points, points, torch.zeros_like(points))
    return points


def _fill_gaps(points: Tensor, used: Tensor) -> Tensor:
    """(S, 2, K); see `signbart.preprocessing.fill_gaps`. Frames behind the recording become 0."""
    zeros = torch.zeros_like(points)
    points = torch.where(_is_present(len(points), used), points, zeros)
    there = (points != 0).any(dim=1, keepdim=True).to(points.dtype)
    nearest = []
    for shift in (_later, _earlier):
        place, distance = zeros, torch.full_like(there, _FAR)
        # The farthest first: whatever is nearer replaces it.
        for frames in reversed(range(1, min(LONGEST_GAP + 1, len(points)))):
            found = shift(there, frames) > 0
            place = torch.where(found, shift(points, frames), place)
            distance = torch.where(found, torch.full_like(distance, float(frames)), distance)
        nearest.append((place, distance))
    (first, before), (last, behind) = nearest
    span = before + behind
    filled = first + before / span * (last - first)
    return torch.where((there == 0) & (span <= LONGEST_GAP + 1), filled, points)


def _later(sequence: Tensor, frames: int) -> Tensor:
    return torch.cat([torch.zeros_like(sequence[:frames]), sequence[:-frames]])


def _earlier(sequence: Tensor, frames: int) -> Tensor:
    return torch.cat([sequence[frames:], torch.zeros_like(sequence[:frames])])


def _body_centred(points: Tensor, body: tuple[Tensor, Tensor], coordinates: int) -> Tensor:
    """(T, 3, K) -> (T, D, K); `body` from `Preprocessing._body`. See `body_centred` there."""
    origin, spans = body
    neck, spine, across = spans.split(1, dim=1)  # (3, 1)
    torso = (spine**2).sum(dim=0).sqrt().clamp(min=SHORTEST_TORSO)
    squares = across[0] ** 2 + across[2] ** 2
    wide = squares > 0
    width = torch.where(wide, squares, torch.ones_like(squares)).sqrt()
    cosine = torch.where(wide, across[0] / width, torch.ones_like(width))
    sine = across[2] / width
    x, y, z = ((points - origin - neck) / torso).split(1, dim=1)
    turned = [cosine * x + sine * z, -y, cosine * z - sine * x]
    return torch.cat(turned[:coordinates], dim=1)

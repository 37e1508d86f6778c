"""Batches from a `ClipSet`: prepared once, augmented by the chunk, bucketed by length.

Both frameworks train on these arrays, so the same seed shows both the very same numbers.

Legend: N clips, B batch, T frames, K keypoints, D coordinates while clips are augmented, which are
more than a model of x and y sees where bodies turn through their depth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from signbart.augmentations.batch import Changes, apply_changes, draw_changes
from signbart.augmentations.mixing import draw_mixing
from signbart.configuration.schema import RunConfig
from signbart.preprocessing import as_model_input, normalize, num_frames, pad, prepare
from signbart.recordings.clip import ClipSet
from signbart.waiting import track

# A chunk of this many batches is augmented together, sorted by length and cut into batches: large
# enough that a batch's clips are about equally long, small enough to stay random and in cache.
CHUNK_BATCHES = 8

# Bytes of prepared clips that are kept; more are prepared again in every epoch, which takes a
# small part of the time that augmenting them does.
_KEPT = 256 << 20


@dataclass(frozen=True)
class _PreparedWhenTaken:
    """`PreparedClips.points` of clips that are too many to keep prepared."""

    clips: ClipSet
    config: RunConfig
    longest: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, T, K, D) of all of them."""
        config = self.config
        return len(self.clips), self.longest, config.num_keypoints, config.augmented_coordinates

    def __getitem__(self, rows: Iterable[int]) -> np.ndarray:
        coordinates = self.config.augmented_coordinates
        prepared = [
            prepare(self.clips.clips[row].landmarks, self.config, coordinates) for row in rows
        ]
        return pad(prepared, self.longest)[0]


@dataclass(frozen=True)
class PreparedClips:
    """Clips after the steps that are the same in every epoch.

    Attributes:
        points: (N, T, K, D) float32, zeros behind each clip. Of large sets they are prepared anew
            whenever some are taken.
        lengths: (N,) valid frames.
        labels: (N,) int64.
    """

    points: np.ndarray | _PreparedWhenTaken
    lengths: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Rows:
    """A batch before `make_batch`: what is drawn in order, since it takes random numbers.

    Attributes:
        points: (B, T, K, D) float32, augmented, not yet normalised, zeros behind each clip.
        lengths: (B,) int64 valid frames.
        labels: (B,) int64.
        indices: (B,) which of the prepared clips they are.
        mixed: What they are mixed with, if they are.
    """

    points: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    mixed: Mixed | None = None

    def take(self, at: np.ndarray | slice) -> Rows:
        """Some of them, unmixed."""
        return Rows(self.points[at], self.lengths[at], self.labels[at], self.indices[at])

    def split(self, parts: int) -> list[Rows]:
        """Cuts them into parts of nearly one size, in their order, mixed as they are.

        Each part has a clip: where there are fewer clips than parts, there are fewer parts. No clip
        at all is one part.
        """
        parts = max(min(parts, len(self.labels)), 1)
        if parts == 1:
            return [self]
        cuts = np.array_split(np.arange(len(self.labels)), parts)
        mixed = [None if self.mixed is None else self.mixed.take(at) for at in cuts]
        return [replace(self.take(at), mixed=found) for at, found in zip(cuts, mixed, strict=True)]


@dataclass(frozen=True)
class Mixed:
    """What a batch's clips are mixed with, clip by clip.

    Attributes:
        clips: All that are shown, each once.
        own: (B,) places among them of the batch's clips.
        partners: (B,) likewise of what is mixed into them.
        shares: (B,) float32, from 1/2 to 1: a clip's own weight against its partner's.
        pieces: (B, 2) int64: from which frame to before which one the partner's are shown, and the
            clip's own elsewhere; where both are 0, every frame is the weighted sum.
    """

    clips: Rows
    own: np.ndarray
    partners: np.ndarray
    shares: np.ndarray
    pieces: np.ndarray

    def take(self, at: np.ndarray | slice) -> Mixed:
        """What some of the batch's clips are mixed with, and of `clips` those that are shown."""
        places = np.stack([self.own, self.partners])[:, at]
        shown, places = np.unique(places, return_inverse=True)
        return Mixed(self.clips.take(shown), *places, self.shares[at], self.pieces[at])


@dataclass(frozen=True)
class Batch:
    """What the model is shown in one step.

    Attributes:
        keypoints: (B, T, K, 2) float32, zeros behind each clip; (B, T, 2K) for models that take
            features.
        attention_mask: (B, T) int32, from lengths and never from coordinates.
        labels: (B,) int64.
        indices: (B,) which of the prepared clips they are.
        partners: (B,) int64 labels of what was mixed into each clip, if anything was.
        shares: (B,) float32, from 1/2 to 1: the weight of `labels` against that of `partners`.
        rows: What it was made of: `make_batch` shows another model the very same clips by them.
    """

    keypoints: np.ndarray
    attention_mask: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    partners: np.ndarray | None = None
    shares: np.ndarray | None = None
    rows: Rows | None = None

    def targets(self, num_classes: int) -> np.ndarray:
        """(B, C) float32: what each clip is of, and of a mixed one both."""
        targets = np.zeros((len(self.labels), num_classes), np.float32)
        rows = np.arange(len(self.labels))
        shares = np.float32(1) if self.shares is None else self.shares
        np.add.at(targets, (rows, self.labels), shares)
        if self.partners is not None:
            np.add.at(targets, (rows, self.partners), 1 - shares)
        return targets


def prepare_clips(clips: ClipSet, config: RunConfig) -> PreparedClips:
    """Runs `preprocessing.prepare` over every clip.

    Raises:
        ClipError: The recordings do not fit `config.data.layout`.
    """
    clips = clips.to_layout(config.data.landmark_layout)
    if not len(clips):
        shape = (0, 1, config.num_keypoints, config.augmented_coordinates)
        return PreparedClips(np.zeros(shape, np.float32), np.zeros(0, int), np.zeros(0, int))
    lengths = np.array([num_frames(len(clip.landmarks), config) for clip in clips.clips])
    taken = _PreparedWhenTaken(clips, config, int(lengths.max()))
    size = len(clips) * taken.longest * config.num_keypoints * config.augmented_coordinates * 4
    points = taken if size > _KEPT else taken[track(range(len(clips)), "preparing")]
    return PreparedClips(points, lengths.astype(np.int64), clips.labels)


def training_rows(
    prepared: PreparedClips, config: RunConfig, epoch: int, *, rank: int = 0, world_size: int = 1
) -> Iterator[Rows]:
    """One epoch of shuffled, augmented, length-bucketed batches, before `make_batch`.

    They depend on nothing but the arguments: every process of a distributed run draws the same
    batches and makes every `world_size`-th clip of each, so together they are those of one process.
    """
    rng = np.random.default_rng([config.train.seed, epoch])
    # Of a generator of its own, so that mixing shifts no other number.
    mixing = np.random.default_rng([config.train.seed, epoch, 1]).spawn(3)
    size, own = config.train.batch_size, slice(rank, None, world_size)
    order = rng.permutation(len(prepared))
    for start in range(0, len(order), size * CHUNK_BATCHES):
        clips = order[start : start + size * CHUNK_BATCHES]
        drawn = draw_changes(prepared.lengths[clips], prepared.points.shape[1:], config, rng)
        by_length = drawn.lengths.argsort(kind="stable")
        cuts = [by_length[at : at + size] for at in range(0, len(clips), size)]
        cuts = [cuts[number] for number in rng.permutation(len(cuts))]
        mixes = config.train.mixes
        pairs = [(cut, mixing[0].permutation(cut) if mixes else cut) for cut in cuts]
        needed = np.concatenate([part[own] for pair in pairs for part in pair])
        points = _changed(prepared, clips, drawn, needed if world_size > 1 else None, config)
        chunk = Rows(points, drawn.lengths, prepared.labels[clips], clips)
        del drawn, points  # the noise is twice as large as the points
        for cut, others in pairs:
            rows = chunk.take(cut[own])
            if mixes:
                lengths = chunk.lengths[cut], chunk.lengths[others]
                shares, pieces = draw_mixing(*lengths, config, *mixing[1:])
                rows = replace(rows, mixed=Mixed(chunk, cut, others, shares, pieces).take(own))
            yield rows
        del chunk  # before the next one is made


def _changed(
    prepared: PreparedClips,
    clips: np.ndarray,
    drawn: Changes,
    needed: np.ndarray | None,
    config: RunConfig,
) -> np.ndarray:
    """(B, T', K, D) of a chunk's clips, changed; of some only where it says which are `needed`."""
    if needed is None:
        return apply_changes(prepared.points[clips], drawn, config)
    rows = np.union1d(needed, 0)  # one at least
    some = apply_changes(prepared.points[clips[rows]], drawn.take(rows), config)
    points = np.zeros((len(clips), *some.shape[1:]), np.float32)
    points[rows] = some
    return points


def evaluation_rows(prepared: PreparedClips, config: RunConfig) -> Iterator[Rows]:
    """Every clip once, unchanged, the shortest first, before `make_batch`."""
    by_length = prepared.lengths.argsort(kind="stable")
    for at in range(0, len(prepared), config.train.batch_size):
        rows = by_length[at : at + config.train.batch_size]
        yield Rows(prepared.points[rows], prepared.lengths[rows], prepared.labels[rows], rows)


def make_batch(rows: Rows, config: RunConfig) -> Batch:
    """Normalises, mixes, and cuts the padding down to the longest clip of the batch.

    A clip and its partner are mixed as the model would see them, zeros behind the shorter one. Two
    that are added up are as long as the longer one.

    Takes no random numbers: batches may be made in parallel.
    """
    mixed, lengths = rows.mixed, rows.lengths
    if mixed is not None:
        whole = (mixed.pieces[:, 1] == 0) & (mixed.shares < 1)
        others = mixed.clips.lengths[mixed.partners]
        lengths = np.where(whole, np.maximum(lengths, others), lengths)
    longest = int(lengths.max(initial=1))
    keypoints = _normalized(rows if mixed is None else mixed.clips, longest, config)
    if mixed is not None:
        start, stop = mixed.pieces[:, :1], mixed.pieces[:, 1:]
        steps = np.arange(longest)
        own = np.where((steps >= start) & (steps < stop), 0, 1).astype(np.float32)
        own = np.where(whole[:, None], mixed.shares[:, None], own)[:, :, None, None]
        keypoints = own * keypoints[mixed.own] + (1 - own) * keypoints[mixed.partners]
    return Batch(
        keypoints=as_model_input(keypoints, config),
        attention_mask=(np.arange(longest) < lengths[:, None]).astype(np.int32),
        labels=rows.labels.astype(np.int64),
        indices=rows.indices,
        partners=None if mixed is None else mixed.clips.labels[mixed.partners],
        shares=None if mixed is None else mixed.shares,
        rows=rows,
    )


def _normalized(rows: Rows, longest: int, config: RunConfig) -> np.ndarray:
    """(B, longest, K, 2 or 3) float32: points as the model sees them, zeros behind each clip."""
    mask = np.arange(longest) < rows.lengths[:, None]
    keypoints = normalize(rows.points[:, :longest, :, : config.coordinates], config)
    return np.where(mask[:, :, None, None], keypoints, np.float32(0))


def training_batches(
    prepared: PreparedClips, config: RunConfig, epoch: int, *, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """One epoch's batches; see `training_rows`."""
    rows = training_rows(prepared, config, epoch, rank=rank, world_size=world_size)
    return (make_batch(batch, config) for batch in rows)


def evaluation_batches(prepared: PreparedClips, config: RunConfig) -> Iterator[Batch]:
    """Every clip once, unchanged, the shortest first."""
    return (make_batch(batch, config) for batch in evaluation_rows(prepared, config))

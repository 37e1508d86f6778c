"""Batches from a `ClipSet`: prepared once, augmented by the chunk, bucketed by length.

Both frameworks train on these arrays, so the same seed shows both the very same numbers.

Legend: N clips, B batch, T frames, K keypoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from signbart.augmentations import augment
from signbart.configuration.schema import RunConfig
from signbart.console import track
from signbart.preprocessing import as_model_input, normalize, pad, prepare
from signbart.recordings.clip import ClipSet

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

    def __getitem__(self, rows: Iterable[int]) -> np.ndarray:
        prepared = [prepare(self.clips.clips[row].landmarks, self.config) for row in rows]
        return pad(prepared, self.longest)[0]


@dataclass(frozen=True)
class PreparedClips:
    """Clips after the steps that are the same in every epoch.

    Attributes:
        points: (N, T, K, 2) float32, zeros behind each clip. Of large sets they are prepared anew
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
        points: (B, T, K, 2) float32, augmented, not yet normalised, zeros behind each clip.
        lengths: (B,) int64 valid frames.
        labels: (B,) int64.
        indices: (B,) which of the prepared clips they are.
    """

    points: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    indices: np.ndarray


@dataclass(frozen=True)
class Batch:
    """What the model is shown in one step.

    Attributes:
        keypoints: (B, T, K, 2) float32, zeros behind each clip; (B, T, 2K) for models that take
            features.
        attention_mask: (B, T) int32, from lengths and never from coordinates.
        labels: (B,) int64.
        indices: (B,) which of the prepared clips they are.
    """

    keypoints: np.ndarray
    attention_mask: np.ndarray
    labels: np.ndarray
    indices: np.ndarray


def prepare_clips(clips: ClipSet, config: RunConfig) -> PreparedClips:
    """Runs `preprocessing.prepare` over every clip.

    Raises:
        ClipError: The recordings do not fit `config.data.layout`.
    """
    clips = clips.to_layout(config.data.landmark_layout)
    if not len(clips):
        shape = (0, 1, config.num_keypoints, config.coordinates)
        return PreparedClips(np.zeros(shape, np.float32), np.zeros(0, int), np.zeros(0, int))
    lengths = np.minimum([len(clip.landmarks) for clip in clips.clips], config.data.max_frames)
    taken = _PreparedWhenTaken(clips, config, int(lengths.max()))
    size = len(clips) * taken.longest * config.num_keypoints * config.coordinates * 4
    points = taken if size > _KEPT else taken[track(range(len(clips)), "preparing")]
    return PreparedClips(points, lengths.astype(np.int64), clips.labels)


def training_rows(
    prepared: PreparedClips, config: RunConfig, epoch: int, *, rank: int = 0, world_size: int = 1
) -> Iterator[Rows]:
    """One epoch of shuffled, augmented, length-bucketed batches, before `make_batch`.

    They depend on nothing but the arguments: every process of a distributed run makes the same
    batches and keeps every `world_size`-th clip of each, so together they are those of one process.
    """
    rng = np.random.default_rng([config.train.seed, epoch])
    size = config.train.batch_size
    order = rng.permutation(len(prepared))
    for start in range(0, len(order), size * CHUNK_BATCHES):
        chunk = order[start : start + size * CHUNK_BATCHES]
        points, lengths = augment(prepared.points[chunk], prepared.lengths[chunk], config, rng)
        by_length = lengths.argsort(kind="stable")
        cuts = [by_length[at : at + size] for at in range(0, len(chunk), size)]
        for number in rng.permutation(len(cuts)):
            rows = cuts[number][rank::world_size]
            yield Rows(points[rows], lengths[rows], prepared.labels[chunk[rows]], chunk[rows])


def evaluation_rows(prepared: PreparedClips, config: RunConfig) -> Iterator[Rows]:
    """Every clip once, unchanged, the shortest first, before `make_batch`."""
    by_length = prepared.lengths.argsort(kind="stable")
    for at in range(0, len(prepared), config.train.batch_size):
        rows = by_length[at : at + config.train.batch_size]
        yield Rows(prepared.points[rows], prepared.lengths[rows], prepared.labels[rows], rows)


def make_batch(rows: Rows, config: RunConfig) -> Batch:
    """Normalises and cuts the padding down to the longest clip of the batch.

    Takes no random numbers: batches may be made in parallel.
    """
    longest = int(rows.lengths.max(initial=1))
    mask = np.arange(longest) < rows.lengths[:, None]
    keypoints = normalize(rows.points[:, :longest], config)
    return Batch(
        keypoints=as_model_input(
            np.where(mask[:, :, None, None], keypoints, np.float32(0)), config
        ),
        attention_mask=mask.astype(np.int32),
        labels=rows.labels.astype(np.int64),
        indices=rows.indices,
    )


def training_batches(
    prepared: PreparedClips, config: RunConfig, epoch: int, *, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """One epoch's batches; see `training_rows`."""
    rows = training_rows(prepared, config, epoch, rank=rank, world_size=world_size)
    return (make_batch(batch, config) for batch in rows)


def evaluation_batches(prepared: PreparedClips, config: RunConfig) -> Iterator[Batch]:
    """Every clip once, unchanged, the shortest first."""
    return (make_batch(batch, config) for batch in evaluation_rows(prepared, config))

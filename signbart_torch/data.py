"""Batches from a `ClipSet`: prepared once, augmented by the chunk, bucketed by length.

Legend: N clips, B batch, T frames, K keypoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from signbart.augmentations import augment
from signbart.clips import ClipSet
from signbart.config import RunConfig
from signbart.layouts import get_layout
from signbart.preprocessing import normalize, pad, prepare

# A chunk of this many batches is augmented together, sorted by length and cut into batches: large
# enough that a batch's clips are about equally long, small enough to stay random and in cache.
CHUNK_BATCHES = 8


@dataclass(frozen=True)
class PreparedClips:
    """Clips after the steps that are the same in every epoch.

    Attributes:
        points: (N, T, K, 2) float32, zeros behind each clip.
        lengths: (N,) valid frames.
        labels: (N,) int64.
    """

    points: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Batch:
    """Tensors of one step, and which of the prepared clips they are."""

    keypoints: Tensor  # (B, T, K, 2) float32
    attention_mask: Tensor  # (B, T) int32
    labels: Tensor  # (B,) int64
    indices: np.ndarray  # (B,)


def prepare_clips(clips: ClipSet, config: RunConfig) -> PreparedClips:
    """Runs `preprocessing.prepare` over every clip.

    Raises:
        ClipError: The recordings do not fit `config.data.layout`.
    """
    clips = clips.to_layout(get_layout(config.data.layout))
    prepared = [prepare(clip.landmarks, config) for clip in clips.clips]
    if not prepared:
        shape = (0, 1, config.model.num_keypoints, 2)
        return PreparedClips(np.zeros(shape, np.float32), np.zeros(0, int), np.zeros(0, int))
    points, mask = pad(prepared)
    return PreparedClips(points, mask.sum(axis=1).astype(np.int64), clips.labels)


def training_batches(
    prepared: PreparedClips, config: RunConfig, epoch: int, *, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """One epoch of shuffled, augmented, length-bucketed batches.

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
            yield _batch(
                points[rows], lengths[rows], prepared.labels[chunk[rows]], chunk[rows], config
            )


def evaluation_batches(prepared: PreparedClips, config: RunConfig) -> Iterator[Batch]:
    """Every clip once, unchanged, the shortest first."""
    by_length = prepared.lengths.argsort(kind="stable")
    for at in range(0, len(prepared), config.train.batch_size):
        rows = by_length[at : at + config.train.batch_size]
        yield _batch(
            prepared.points[rows], prepared.lengths[rows], prepared.labels[rows], rows, config
        )


def _batch(
    points: np.ndarray,
    lengths: np.ndarray,
    labels: np.ndarray,
    indices: np.ndarray,
    config: RunConfig,
) -> Batch:
    """Normalises and cuts the padding down to the longest clip of the batch."""
    longest = int(lengths.max(initial=1))
    mask = np.arange(longest) < lengths[:, None]
    keypoints = normalize(points[:, :longest], config)
    return Batch(
        keypoints=torch.from_numpy(np.where(mask[:, :, None, None], keypoints, np.float32(0))),
        attention_mask=torch.from_numpy(mask.astype(np.int32)),
        labels=torch.from_numpy(labels.astype(np.int64)),
        indices=indices,
    )

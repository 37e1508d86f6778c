"""The batches of `signbart.batches` as tensors that share their memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from signbart import batches
from signbart.batches import PreparedClips, Rows
from signbart.configuration.schema import RunConfig


@dataclass(frozen=True)
class Batch:
    """`batches.Batch` in tensors; `indices` and `rows` stay arrays.

    `mixed` are (B,) int64 partners and (B,) float32 shares, where clips were mixed.
    """

    keypoints: Tensor  # (B, T, K, 2) float32
    attention_mask: Tensor  # (B, T) int32
    labels: Tensor  # (B,) int64
    indices: np.ndarray  # (B,)
    mixed: tuple[Tensor, Tensor] | None = None
    rows: Rows | None = None


def training_batches(
    prepared: PreparedClips, config: RunConfig, epoch: int, *, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """One epoch of shuffled, augmented, length-bucketed batches; see `batches.training_rows`."""
    return map(
        _tensors,
        batches.training_batches(prepared, config, epoch, rank=rank, world_size=world_size),
    )


def evaluation_batches(prepared: PreparedClips, config: RunConfig) -> Iterator[Batch]:
    """Every clip once, unchanged, the shortest first."""
    return map(_tensors, batches.evaluation_batches(prepared, config))


def _tensors(batch: batches.Batch) -> Batch:
    return Batch(
        torch.from_numpy(batch.keypoints),
        torch.from_numpy(batch.attention_mask),
        torch.from_numpy(batch.labels),
        batch.indices,
        None
        if batch.partners is None
        else (torch.from_numpy(batch.partners), torch.from_numpy(batch.shares)),
        batch.rows,
    )

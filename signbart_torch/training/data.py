"""The batches of `signbart.batches` as tensors that share their memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from signbart import batches
from signbart.batches import PreparedClips, Rows
from signbart.configuration.schema import RunConfig

T = TypeVar("T")
# Steps whose batches are made before they are asked for: of one chunk, which is augmented at once.
_AHEAD = batches.CHUNK_BATCHES


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

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Those that there are, in the order above."""
        return self.keypoints, self.attention_mask, self.labels, *(self.mixed or ())

    def with_each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same with every tensor changed: moved, pinned."""
        keypoints, mask, labels, *mixed = map(change, self.tensors)
        return replace(
            self,
            keypoints=keypoints,
            attention_mask=mask,
            labels=labels,
            mixed=tuple(mixed) if mixed else None,
        )


def training_batches(
    prepared: PreparedClips, config: RunConfig, epoch: int, *, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """One epoch of shuffled, augmented, length-bucketed batches; see `batches.training_rows`."""
    return map(
        _tensors,
        batches.training_batches(prepared, config, epoch, rank=rank, world_size=world_size),
    )


def training_steps(
    prepared: PreparedClips, config: RunConfig, epoch: int, *, rank: int = 0, world_size: int = 1
) -> Iterator[list[Batch]]:
    """The same batches, each in the parts that ``train.accumulate`` asks for."""
    rows = batches.training_rows(prepared, config, epoch, rank=rank, world_size=world_size)
    for batch in rows:
        parts = batch.split(config.train.accumulate)
        yield [_tensors(batches.make_batch(part, config)) for part in parts]


def made_ahead(items: Iterator[T], prepare: Callable[[], None] = lambda: None) -> Iterator[T]:
    """The items, made in a thread of its own while the last ones are worked on.

    Args:
        items: None of them is None.
        prepare: Called in that thread before anything else.

    Raises:
        Exception: What making an item raised, in its place.
    """
    with ThreadPoolExecutor(1, initializer=prepare) as maker:
        try:
            coming = deque(maker.submit(next, items, None) for _ in range(_AHEAD))
            while (item := coming.popleft().result()) is not None:
                coming.append(maker.submit(next, items, None))
                yield item
        finally:  # who leaves early waits for the one in work alone
            maker.shutdown(cancel_futures=True)


def pinned_ahead(steps: Iterator[list[Batch]]) -> Iterator[list[Batch]]:
    """The same, made ahead in memory from which the GPU copies while it computes."""
    device = torch.cuda.current_device()
    pinned = ([part.with_each(Tensor.pin_memory) for part in parts] for parts in steps)
    return made_ahead(pinned, lambda: torch.cuda.set_device(device))


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

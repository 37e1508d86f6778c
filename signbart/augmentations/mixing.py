"""By how much clips are mixed, or which piece of a clip is another one's. Legend: B batch."""

from __future__ import annotations

import numpy as np

from signbart.configuration.schema import RunConfig


def draw_mixing(
    lengths: np.ndarray,
    others: np.ndarray,
    config: RunConfig,
    mixing: np.random.Generator,
    cutting: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """How clips are mixed with their partners: see `signbart.batches.Mixed`.

    Args:
        lengths: (B,) frames of the clips.
        others: (B,) of their partners.
        config: The run's configuration.
        mixing: Draws the shares of mixup.
        cutting: Draws the pieces of cutmix.

    Returns:
        ``shares`` (B,) float32 and ``pieces`` (B, 2) int64.
    """
    batch, mixup = len(lengths), config.train.mixup
    shares = mixing.beta(mixup, mixup, batch) if mixup else np.ones(batch)
    shares = np.maximum(shares, 1.0 - shares)
    is_cut = cutting.random(batch) < config.train.cutmix
    both = np.minimum(lengths, others)
    count = np.floor(cutting.random(batch) * 0.5 * both + 0.5)
    first = np.floor(cutting.random(batch) * (both - count + 1))
    pieces = np.stack([first, first + count], axis=1).astype(np.int64)
    # A piece of no frame is none, and leaves its clip alone.
    shares = np.where(is_cut, 1.0 - count / lengths, shares).astype(np.float32)
    return shares, np.where((is_cut & (count > 0))[:, None], pieces, 0)

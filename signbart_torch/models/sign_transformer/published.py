"""Sign Transformers that other projects published."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from signbart.errors import CheckpointError
from signbart.models.sign_transformer import POOLINGS, SignTransformerConfig, sinusoidal_positions
from signbart_torch.models.published import PublishedCheckpoint, build, read_sizes_of
from signbart_torch.models.sign_transformer.model import SignTransformer

_POSITIONS = "pos_encoder.pe"


def read_published(
    checkpoint: PublishedCheckpoint,
    *,
    attention_heads: int | None = None,
    pooling: str | None = None,
    max_frames: int = SignTransformerConfig.max_frames,
) -> SignTransformer:
    """Reads a published sign Transformer, in inference mode.

    Args:
        checkpoint: What the file holds.
        attention_heads: Tensors do not tell them. By default a whole module's own, or the published
            8.
        pooling: Tensors do not tell it either. By default a whole module's own, or ``mean``.
        max_frames: Frames to compute positions for, where the file stores none.

    Raises:
        CheckpointError: It is no sign Transformer.
    """
    heads = attention_heads or checkpoint.attention_heads or SignTransformerConfig.attention_heads
    pooling = pooling or checkpoint.pooling or SignTransformerConfig.pooling
    if pooling not in POOLINGS:
        raise CheckpointError(
            f"{checkpoint.source}: pooling is {pooling!r}; give one of: {', '.join(POOLINGS)} "
            "(pooling)"
        )

    def read_sizes(tensors: Mapping[str, Tensor]) -> SignTransformerConfig:
        d_model, num_features = tensors["embedding.weight"].shape
        positions = tensors.get(_POSITIONS)
        layers = {re.match(r"encoder_layers\.(\d+)\.", name) for name in tensors} - {None}
        return SignTransformerConfig(
            num_features=num_features,
            # A class token takes a position too.
            max_frames=max_frames + (pooling == "cls") if positions is None else positions.shape[1],
            num_labels=len(tensors["gloss_head.3.weight"]),
            num_categories=len(tensors["category_head.3.weight"]),
            d_model=d_model,
            encoder_layers=len({match[1] for match in layers}),
            attention_heads=heads,
            ffn_dim=len(tensors["encoder_layers.0.feed_forward.linear1.weight"]),
            pooling=pooling,
        )

    config = read_sizes_of(checkpoint, read_sizes, SignTransformerConfig(), SignTransformer)
    if config.d_model % heads:
        raise CheckpointError(
            f"{checkpoint.source}: {heads} attention heads do not divide the width "
            f"{config.d_model}; tensors do not tell how many there are, so give the number it was "
            "trained with (attention_heads)"
        )
    tensors = dict(checkpoint.tensors)
    if _POSITIONS not in tensors:
        table = sinusoidal_positions(config.max_frames, config.d_model)
        tensors[_POSITIONS] = torch.from_numpy(table).unsqueeze(0)
    return build(SignTransformer, config, tensors, checkpoint.source)

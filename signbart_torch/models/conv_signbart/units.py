"""What can be removed from a ConvSignBART."""

from __future__ import annotations

from signbart.models.conv_signbart import ConvSignBartConfig
from signbart_torch.models.units import (
    Place,
    Units,
    attention_units,
    feed_forward_units,
    normed,
    read,
    written,
)


def units(config: ConvSignBartConfig) -> list[Units]:
    """Units of a ConvSignBART of this size, in an order that its sizes do not change."""
    sides = {"blocks_before": config.blocks_before, "blocks_after": config.blocks_after}
    blocks = [f"{side}.{i}" for side, count in sides.items() for i in range(count)]
    attended = [f"attention.self_attn.{part}_proj" for part in "qkv"]
    stream = (
        *written("input_projection"),
        ("embed_positions.weight", 1),
        *normed("attention.self_attn_layer_norm", "attention.final_layer_norm"),
        *read(*attended, "attention.fc1"),
        *written("attention.self_attn.out_proj", "attention.fc2"),
        *normed("head.layer_norm"),
        *read("head.out_proj"),
    )
    for block in blocks:
        stream += (
            *normed(f"{block}.layer_norm"),
            *read(f"{block}.expand"),
            *written(f"{block}.contract"),
        )
    return [
        Units(config.d_model, stream),
        *(Units(config.width, _channels(block)) for block in blocks),
        *attention_units("attention.self_attn", config.d_model, config.attention_heads),
        feed_forward_units("attention", config.ffn_dim),
    ]


def _channels(block: str) -> tuple[Place, ...]:
    norm = f"{block}.depthwise.norm"
    return (
        *written(f"{block}.expand"),
        (f"{block}.depthwise.weight", 0),
        *normed(norm),
        (f"{norm}.running_mean", 0),
        (f"{norm}.running_var", 0),
        *read(f"{block}.contract"),
    )

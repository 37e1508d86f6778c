"""The weight map of SignBART."""

from __future__ import annotations

from collections.abc import Sequence

from signbart.models.signbart import SignBartConfig
from signbart.weights.rules import IDENTITY, Rule, layer_norm, linear


def rules(config: SignBartConfig) -> list[Rule]:
    """The map of a SignBART of this size."""
    return [
        *linear("projection.proj_x1"),
        *linear("projection.proj_y1"),
        *_stack("encoder", config.encoder_layers, ("self_attn",)),
        *_stack("decoder", config.decoder_layers, ("self_attn", "encoder_attn")),
        *linear("classification_head.out_proj"),
    ]


def _stack(side: str, layers: int, attentions: Sequence[str]) -> list[Rule]:
    """The encoder or the decoder, whose layers differ in their attentions only."""
    found = [
        Rule(f"{side}.embed_positions.weight", f"{side}/embed_positions/embeddings", IDENTITY),
        *layer_norm(f"{side}.layernorm_embedding"),
    ]
    for i in range(layers):
        layer = f"{side}.layers.{i}"
        for attention in attentions:
            for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
                found += linear(f"{layer}.{attention}.{projection}")
        for name in ("fc1", "fc2"):
            found += linear(f"{layer}.{name}")
        for norm in (*(f"{name}_layer_norm" for name in attentions), "final_layer_norm"):
            found += layer_norm(f"{layer}.{norm}")
    return found

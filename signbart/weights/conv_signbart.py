"""The weight map of ConvSignBART."""

from __future__ import annotations

from signbart.models.conv_signbart import ConvSignBartConfig
from signbart.weights.rules import DEPTHWISE, IDENTITY, Rule, batch_norm, layer_norm, linear


def rules(config: ConvSignBartConfig) -> list[Rule]:
    """The map of a ConvSignBART of this size."""
    attention = [
        rule
        for name in ("q_proj", "k_proj", "v_proj", "out_proj")
        for rule in linear(f"attention.self_attn.{name}")
    ]
    return [
        *linear("input_projection"),
        *_blocks("blocks_before", config.blocks_before),
        Rule("embed_positions.weight", "embed_positions/embeddings", IDENTITY),
        *layer_norm("attention.self_attn_layer_norm"),
        *attention,
        *layer_norm("attention.final_layer_norm"),
        *linear("attention.fc1"),
        *linear("attention.fc2"),
        *_blocks("blocks_after", config.blocks_after),
        *layer_norm("head.layer_norm"),
        *linear("head.out_proj"),
    ]


def _blocks(side: str, count: int) -> list[Rule]:
    """A row of convolution blocks."""
    found = []
    for block in (f"{side}.{i}" for i in range(count)):
        conv = f"{block}.depthwise"
        found += [
            *layer_norm(f"{block}.layer_norm"),
            *linear(f"{block}.expand"),
            Rule(f"{conv}.weight", f"{conv.replace('.', '/')}/kernel", DEPTHWISE),
            *batch_norm(f"{conv}.norm", counted=False),
            *linear(f"{block}.contract"),
        ]
    return found

"""The weight map of the sign Transformer."""

from __future__ import annotations

from signbart.models.sign_transformer import SignTransformerConfig
from signbart.weights.rules import IDENTITY, Rule, layer_norm, linear

_NORM = ("gamma", "beta")  # the published modules name these as Keras does


def rules(config: SignTransformerConfig) -> list[Rule]:
    """The map of a sign Transformer of this size."""
    found = [
        Rule("cls_token", "cls_token", IDENTITY),
        *linear("embedding"),
        Rule("pos_encoder.pe", "pos_encoder/pe", IDENTITY),
        *layer_norm("input_norm", _NORM),
    ]
    for i in range(config.encoder_layers):
        layer = f"encoder_layers.{i}"
        for projection in ("W_q", "W_k", "W_v", "W_o"):
            found += linear(f"{layer}.attention.{projection}")
        for name in ("linear1", "linear2"):
            found += linear(f"{layer}.feed_forward.{name}")
        for residual in ("residual1", "residual2"):
            found += layer_norm(f"{layer}.{residual}.norm", _NORM)
    for head in ("gloss_head", "category_head"):
        found += [*linear(f"{head}.0"), *linear(f"{head}.3")]
    return found

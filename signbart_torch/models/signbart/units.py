"""What can be removed from a SignBART."""

from __future__ import annotations

from signbart.models.signbart import SignBartConfig
from signbart_torch.models.units import (
    Place,
    Units,
    attention_units,
    feed_forward_units,
    normed,
    read,
    written,
)


def units(config: SignBartConfig) -> list[Units]:
    """Units of a SignBART of this size, in an order that its sizes do not change.

    Encoder and decoder each have channels of their own, which cross-attention joins.
    """
    encoder = [f"encoder.layers.{i}" for i in range(config.encoder_layers)]
    decoder = [f"decoder.layers.{i}" for i in range(config.decoder_layers)]
    attentions = {f"{layer}.self_attn": config.encoder_attention_heads for layer in encoder}
    for layer in decoder:
        attentions |= dict.fromkeys(
            (f"{layer}.self_attn", f"{layer}.encoder_attn"), config.decoder_attention_heads
        )
    encoded, decoded = _begin("encoder", "proj_x1"), _begin("decoder", "proj_y1")
    for layer in encoder:
        encoded += _self_attention(layer)
    for layer in decoder:
        other = f"{layer}.encoder_attn"
        decoded += (
            *_self_attention(layer),
            *read(f"{other}.q_proj"),
            *written(f"{other}.out_proj"),
            *normed(f"{other}_layer_norm"),
        )
        encoded += read(f"{other}.k_proj", f"{other}.v_proj")
    found = [
        Units(config.d_model, encoded),
        Units(config.d_model, (*decoded, *read("classification_head.out_proj"))),
    ]
    for name, heads in attentions.items():
        found += attention_units(name, config.d_model, heads)
    found += [feed_forward_units(layer, config.encoder_ffn_dim) for layer in encoder]
    found += [feed_forward_units(layer, config.decoder_ffn_dim) for layer in decoder]
    return found


def _begin(side: str, projection: str) -> tuple[Place, ...]:
    return (
        *written(f"projection.{projection}"),
        (f"{side}.embed_positions.weight", 1),
        *normed(f"{side}.layernorm_embedding"),
    )


def _self_attention(layer: str) -> tuple[Place, ...]:
    """What self-attention and feed-forward of a layer read and write."""
    return (
        *read(*(f"{layer}.self_attn.{part}_proj" for part in "qkv"), f"{layer}.fc1"),
        *written(f"{layer}.self_attn.out_proj", f"{layer}.fc2"),
        *normed(f"{layer}.self_attn_layer_norm", f"{layer}.final_layer_norm"),
    )

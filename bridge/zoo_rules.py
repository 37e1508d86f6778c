"""The weight maps of the other classifiers, in the terms of `bridge.weight_map`.

The GRU's twin keeps PyTorch's order of gates and its two biases, so that every rule stays one
tensor on both sides, and the map its own inverse.
"""

from __future__ import annotations

from bridge.weight_map import IDENTITY, TRANSPOSE, Rule
from signbart.zoo_config import MediapipeGruConfig, SignTransformerConfig


def sign_transformer_rules(config: SignTransformerConfig) -> list[Rule]:
    """The map of a sign Transformer of this size."""
    rules = [
        Rule("cls_token", "cls_token", IDENTITY),
        *_linear("embedding"),
        Rule("pos_encoder.pe", "pos_encoder/pe", IDENTITY),
        *_layer_norm("input_norm"),
    ]
    for i in range(config.encoder_layers):
        layer = f"encoder_layers.{i}"
        for projection in ("W_q", "W_k", "W_v", "W_o"):
            rules += _linear(f"{layer}.attention.{projection}")
        for linear in ("linear1", "linear2"):
            rules += _linear(f"{layer}.feed_forward.{linear}")
        for residual in ("residual1", "residual2"):
            rules += _layer_norm(f"{layer}.{residual}.norm")
    for head in ("gloss_head", "category_head"):
        rules += [*_linear(f"{head}.0"), *_linear(f"{head}.3")]
    return rules


def mediapipe_gru_rules(config: MediapipeGruConfig) -> list[Rule]:
    """The map of a MediaPipe GRU of this size."""
    rules = _linear("input_projection") if config.projection_dim is not None else []
    directions = (
        {"": "forwards", "_reverse": "backwards"} if config.bidirectional else {"": "forwards"}
    )
    for gru in ("gru1", "gru2"):
        for suffix, direction in directions.items():
            rules += [
                Rule(f"{gru}.{torch_name}_l0{suffix}", f"{gru}/{direction}/{keras_name}", transform)
                for torch_name, keras_name, transform in (
                    ("weight_ih", "kernel", TRANSPOSE),
                    ("weight_hh", "recurrent_kernel", TRANSPOSE),
                    ("bias_ih", "bias", IDENTITY),
                    ("bias_hh", "recurrent_bias", IDENTITY),
                )
            ]
    return [*rules, *_linear("gloss_head"), *_linear("category_head")]


def _linear(name: str) -> list[Rule]:
    path = name.replace(".", "/")
    return [
        Rule(f"{name}.weight", f"{path}/kernel", TRANSPOSE),
        Rule(f"{name}.bias", f"{path}/bias", IDENTITY),
    ]


def _layer_norm(name: str) -> list[Rule]:
    path = name.replace(".", "/")
    return [Rule(f"{name}.{weight}", f"{path}/{weight}", IDENTITY) for weight in ("gamma", "beta")]

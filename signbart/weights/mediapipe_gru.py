"""The weight map of the MediaPipe GRU.

Its twin keeps PyTorch's order of gates and its two biases, so that every rule stays one tensor on
both sides, and the map its own inverse.
"""

from __future__ import annotations

from signbart.models.mediapipe_gru import MediapipeGruConfig
from signbart.weights.rules import IDENTITY, TRANSPOSE, Rule, linear


def rules(config: MediapipeGruConfig) -> list[Rule]:
    """The map of a MediaPipe GRU of this size."""
    found = linear("input_projection") if config.projection_dim is not None else []
    directions = (
        {"": "forwards", "_reverse": "backwards"} if config.bidirectional else {"": "forwards"}
    )
    for gru in ("gru1", "gru2"):
        for suffix, direction in directions.items():
            found += [
                Rule(f"{gru}.{torch_name}_l0{suffix}", f"{gru}/{direction}/{keras_name}", transform)
                for torch_name, keras_name, transform in (
                    ("weight_ih", "kernel", TRANSPOSE),
                    ("weight_hh", "recurrent_kernel", TRANSPOSE),
                    ("bias_ih", "bias", IDENTITY),
                    ("bias_hh", "recurrent_bias", IDENTITY),
                )
            ]
    return [*found, *linear("gloss_head"), *linear("category_head")]

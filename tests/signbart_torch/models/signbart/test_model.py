"""The network's sizes and names, and its arithmetic against a second, slow implementation."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from signbart.configuration.reading import load_config
from signbart.errors import ConfigError
from signbart.models.signbart import SignBartConfig
from signbart_torch.models.signbart.model import SignBart

CONFIGS = Path(__file__).resolve().parents[4] / "configs"
RUNS = sorted(
    path
    for path in CONFIGS.glob("*.yaml")
    if path.stem != "parity" and load_config(path).kind == "signbart"  # parity: tolerances
)

# (K, d_model, FFN, heads, positions, C) -> parameters of 2 + 2 layers, as published.
PUBLISHED = {
    (90, 144, 144, 8, 256, 10): 773_578,
    (63, 144, 144, 8, 256, 10): 765_802,
    (65, 144, 144, 8, 256, 10): 766_378,
    (100, 144, 144, 8, 256, 10): 776_458,
    (48, 128, 256, 16, 256, 64): 749_888,
    (48, 128, 256, 16, 256, 100): 754_532,
    (48, 256, 512, 16, 256, 200): 2_845_384,
}


def sized(keypoints, d_model, ffn, heads, positions, labels) -> SignBartConfig:
    return SignBartConfig(
        joint_idx=tuple(range(keypoints)),
        num_labels=labels,
        d_model=d_model,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=ffn,
        decoder_ffn_dim=ffn,
        max_position_embeddings=positions,
    )


@pytest.mark.parametrize("sizes", PUBLISHED, ids=str)
def test_parameter_counts_are_the_published_ones(sizes):
    assert SignBart(sized(*sizes)).num_parameters == PUBLISHED[sizes]


def test_a_wider_feed_forward_does_not_have_the_published_count():
    # The conflict in the sources: 773,578 belongs to FFN 144, not to FFN 576.
    assert SignBart(sized(90, 144, 576, 4, 256, 10)).num_parameters == 1_272_970


@pytest.mark.parametrize(
    ("name", "parameters"),
    {
        "arabic_63": 765_802,
        "arabic_65": 766_378,
        "arabic_90": 773_578,
        "arabic_100": 776_458,
        "lsa64": 749_888,
        "wlasl_100": 754_532,
        "asl_citizen_100": 754_532,
        "asl_citizen_200": 2_845_384,
    }.items(),
)
def test_shipped_configurations_have_the_published_counts(name, parameters):
    config = load_config(CONFIGS / f"{name}.yaml")
    assert SignBart(config.model).num_parameters == parameters


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_shipped_configuration_builds(path):
    model = load_config(path).model
    network = SignBart(dataclasses.replace(model, num_labels=model.num_labels or 10))
    tensors = 12 + 16 * model.encoder_layers + 26 * model.decoder_layers
    assert len(network.state_dict()) == tensors


def published_names(layers: int) -> set[str]:
    """The 96 tensors of a published checkpoint, spelt out from BART's names."""

    def both(*modules: str) -> list[str]:
        return [f"{module}.{kind}" for module in modules for kind in ("weight", "bias")]

    def attention(name: str) -> list[str]:
        return both(*(f"{name}.{part}_proj" for part in "qkv"), f"{name}.out_proj")

    names = both("projection.proj_x1", "projection.proj_y1", "classification_head.out_proj")
    for side in ("encoder", "decoder"):
        names.append(f"{side}.embed_positions.weight")
        names += both(f"{side}.layernorm_embedding")
        for layer in (f"{side}.layers.{number}" for number in range(layers)):
            names += attention(f"{layer}.self_attn")
            names += both(f"{layer}.self_attn_layer_norm", f"{layer}.fc1", f"{layer}.fc2")
            names += both(f"{layer}.final_layer_norm")
            if side == "decoder":
                names += attention(f"{layer}.encoder_attn")
                names += both(f"{layer}.encoder_attn_layer_norm")
    return set(names)


def test_state_dict_has_the_published_names():
    model = SignBart(sized(90, 144, 144, 8, 256, 10))
    assert len(published_names(2)) == 96
    assert set(model.state_dict()) == published_names(2)
    assert sum(isinstance(module, nn.Linear) for module in model.modules()) == 35
    assert model.encoder.embed_positions.weight.shape == (256 + 2, 144)


def test_a_model_needs_to_know_how_many_classes():
    with pytest.raises(ConfigError, match="num_labels"):
        SignBart(SignBartConfig(joint_idx=(0, 1)))
    with pytest.raises(ConfigError, match="joint_idx"):
        SignBart(SignBartConfig(num_labels=2))


# The model once more, one number at a time where that is bearable: float64, loops over clips, heads
# and queries, masked keys left out rather than given a bias, nothing shared with signbart_torch.


def linear(states, weights, name):
    return states @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def layer_norm(states, weights, name, eps):
    centred = states - states.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def exact_gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def tanh_gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def attend(asking, asked, allowed, weights, name, heads, scaled):
    """`allowed[q]`: the keys that query q may see; queries that see none give nothing."""
    query, key, value = (
        linear(states, weights, f"{name}.{part}_proj")
        for part, states in (("q", asking), ("k", asked), ("v", asked))
    )
    width = query.shape[1] // heads
    context = np.zeros_like(query)
    for head in range(heads):
        columns = slice(head * width, (head + 1) * width)
        for q, keys in enumerate(allowed):
            if len(keys) == 0:
                continue
            scores = key[keys, columns] @ query[q, columns] * (width**-0.5 if scaled else 1.0)
            shares = np.exp(scores - scores.max())
            context[q, columns] = shares / shares.sum() @ value[keys, columns]
    return linear(context, weights, f"{name}.out_proj")


def slow_model(
    state_dict, config, keypoints, mask, *, gelu=exact_gelu, offset=2, eps=1e-5, scaled=True,
    heads=None, mask_shift=0, swapped=False, causal=True, last=max,
):  # fmt: skip
    """Logits (B, C), by SignBART's description; the keyword arguments are ways to get it wrong."""
    weights = {name: tensor.double().numpy() for name, tensor in state_dict.items()}
    encoder_heads, decoder_heads = heads or (
        config.encoder_attention_heads,
        config.decoder_attention_heads,
    )

    def embed(values, projection, side):
        positions = weights[f"{side}.embed_positions.weight"][offset : offset + len(values)]
        states = linear(values, weights, f"projection.{projection}") + positions
        return layer_norm(states, weights, f"{side}.layernorm_embedding", eps)

    def feed_forward(states, layer):
        fed = gelu(linear(states, weights, f"{layer}.fc1"))
        states = states + linear(fed, weights, f"{layer}.fc2")
        return layer_norm(states, weights, f"{layer}.final_layer_norm", eps)

    logits = []
    for points, row in zip(keypoints.double().numpy(), mask.numpy(), strict=True):
        frames = np.flatnonzero(row)
        points = np.where(row[:, None, None] == 1, points, 0.0)
        x, y = points[..., 1 if swapped else 0], points[..., 0 if swapped else 1]
        seen = (frames + mask_shift) % len(row)
        everything = [seen] * len(row)
        past = [seen[seen <= q] for q in range(len(row))] if causal else everything

        states = embed(x, "proj_x1", "encoder")
        for number in range(config.encoder_layers):
            layer = f"encoder.layers.{number}"
            attended = attend(
                states, states, everything, weights, f"{layer}.self_attn", encoder_heads, scaled
            )
            states = layer_norm(states + attended, weights, f"{layer}.self_attn_layer_norm", eps)
            states = feed_forward(states, layer)
        encoded = states

        states = embed(y, "proj_y1", "decoder")
        for number in range(config.decoder_layers):
            layer = f"decoder.layers.{number}"
            for attention, asked, allowed in (
                ("self_attn", states, past),
                ("encoder_attn", encoded, everything),
            ):
                name = f"{layer}.{attention}"
                attended = attend(states, asked, allowed, weights, name, decoder_heads, scaled)
                states = layer_norm(states + attended, weights, f"{name}_layer_norm", eps)
            states = feed_forward(states, layer)
        logits.append(linear(states[last(frames)], weights, "classification_head.out_proj"))
    return np.array(logits)


def largest_difference(model, keypoints, mask, **mistakes) -> float:
    with torch.no_grad():
        found = model(keypoints, mask).double().numpy()
    expected = slow_model(model.state_dict(), model.config, keypoints, mask, **mistakes)
    return float(np.abs(found - expected).max())


def test_the_model_computes_what_its_description_says(model, keypoints, mask):
    assert largest_difference(model, keypoints, mask) <= 1e-5


@pytest.mark.parametrize(
    "mistake",
    [
        {"gelu": tanh_gelu},
        {"offset": 0},
        {"eps": 1e-3},
        {"scaled": False},
        {"heads": (6, 4)},
        {"mask_shift": 1},
        {"swapped": True},
        {"causal": False},
        {"last": lambda frames: len(frames) - 1},
        {"last": lambda frames: 10},
    ],
    ids=[
        "tanh GELU", "position offset 0", "LayerNorm eps 1e-3", "unscaled q", "heads exchanged",
        "mask off by one", "x and y exchanged", "decoder not causal", "read at sum(mask) - 1",
        "read at the last time step",
    ],
)  # fmt: skip
def test_the_comparison_notices_mistakes(model, keypoints, mask, mistake):
    # Ten times the tolerance that the right description keeps.
    assert largest_difference(model, keypoints, mask, **mistake) > 1e-4

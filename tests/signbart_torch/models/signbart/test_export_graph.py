"""The graph for export gives the model's logits, and leaves the model as it was."""

import copy
import dataclasses

import pytest
import torch
from torch.nn import functional as F

from signbart.models.signbart import MASK_BIAS
from signbart_torch.models.signbart.attention import Attention, OneQueryAttention
from signbart_torch.models.signbart.export_graph import (
    for_export,
    joined_projections,
    one_query_attentions,
)
from signbart_torch.models.signbart.model import SignBart

ATOL = 5e-6  # float32 sums in another order; that nothing else differs, float64 shows
# In double precision nothing but the algebra is left to differ.
EXACT = 1e-12


def difference(model, keypoints, mask, dtype=torch.float32) -> float:
    """Largest, over clips one by one: the graph takes no more."""
    model, keypoints = copy.deepcopy(model).to(dtype), keypoints.to(dtype)
    graph = for_export(model)
    with torch.no_grad():
        expected = model(keypoints, mask)
        found = torch.cat([graph(k[None], m[None]) for k, m in zip(keypoints, mask, strict=True)])
    assert found.shape == expected.shape and found.dtype == expected.dtype
    return float((found - expected).abs().max())


def test_logits_are_the_models(model, keypoints, mask):
    assert difference(model, keypoints, mask) <= ATOL


@pytest.mark.parametrize("anything", [float("nan"), float("inf"), 1e30])
def test_what_padded_frames_hold_is_never_read(model, keypoints, mask, anything):
    keypoints[mask == 0] = anything
    assert difference(model, keypoints, mask) <= ATOL


@pytest.mark.parametrize("frames", [1, 2, 16])
def test_any_number_of_frames(model, frames):
    generator = torch.Generator().manual_seed(frames)
    keypoints = torch.randn(4, frames, 5, 2, generator=generator)
    mask = (torch.rand(4, frames, generator=generator) < 0.7).int()
    mask[:, frames // 2] = 1
    assert difference(model, keypoints, mask, torch.float64) <= EXACT
    assert difference(model, keypoints, mask) <= 3 * ATOL


@pytest.mark.parametrize("layers", [1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_random_models(model, keypoints, mask, layers, seed):
    torch.manual_seed(seed)
    config = dataclasses.replace(
        model.config, d_model=24, encoder_layers=layers, decoder_layers=layers
    )
    other = SignBart(config).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    assert difference(other, keypoints, mask, torch.float64) <= EXACT
    assert difference(other, keypoints, mask) <= ATOL


def test_scores_that_would_overflow_without_their_maximum(model, keypoints, mask):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                parameter.mul_(10)
        graph = for_export(model)
        for k, m in zip(keypoints, mask, strict=True):
            found, expected = graph(k[None], m[None]), model(k[None], m[None])
            assert found.isfinite().all()
            # Sharp attention magnifies rounding.
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_clip_without_frames_gives_finite_logits(model, keypoints):
    with torch.no_grad():
        assert for_export(model)(keypoints[:1], torch.zeros(1, 11).int()).isfinite().all()


def test_a_batch_is_refused(model, keypoints, mask):
    with pytest.raises(ValueError, match="one clip, and not 6"):
        for_export(model)(keypoints, mask)


def test_parameters_are_the_models_own_but_for_what_is_joined(model, keypoints, mask):
    graph = for_export(model)
    own = {id(parameter): name for name, parameter in model.named_parameters()}
    lent = {own[id(p)] for p in graph.parameters() if id(p) in own}
    assert lent == set(own.values())
    copies = [p for p in graph.parameters() if id(p) not in own]
    assert not any(copy.requires_grad for copy in copies)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        for parameter in copies:
            parameter.zero_()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_constants_are_contiguous(model):
    """LiteRT Torch 0.10 takes one of several equal in size for another otherwise."""
    graph = for_export(model)
    assert all(tensor.is_contiguous() for tensor in [*graph.parameters(), *graph.buffers()])


def test_what_reads_the_same_input_is_one_product(model):
    joined = list(joined_projections(model))
    alone = [model.get_submodule(path) for path in one_query_attentions(model)]
    attentions = [part for part in model.modules() if isinstance(part, Attention)]
    together = [*(attention for attention, _ in joined), *alone]
    assert sorted(map(id, together)) == sorted(map(id, attentions))
    everything, keys = ("q_proj", "k_proj", "v_proj"), ("k_proj", "v_proj")
    assert [names for _, names in joined] == [everything] * 3 + [everything, keys]
    assert alone == [model.decoder.layers[-1].self_attn, model.decoder.layers[-1].encoder_attn]


def test_attention_of_one_query_is_attention(model):
    """As fake-quantized models and the search for wrong layers compute it, in batches."""
    attention = model.decoder.layers[-1].encoder_attn
    with torch.no_grad():
        attention.k_proj.bias.add_(torch.randn(attention.k_proj.bias.shape))
    one_query = copy.deepcopy(attention).double()
    one_query.__class__ = OneQueryAttention
    states, width = torch.randn(6, 11, attention.q_proj.in_features).double(), attention.head_dim
    query, bias = torch.randn_like(states[:, :1]), torch.zeros(6, 1, 1, 11).double()
    bias[:3, ..., 4:7] = MASK_BIAS
    with torch.no_grad():
        expected = copy.deepcopy(attention).double()(query, states, bias)
        torch.testing.assert_close(one_query(query, states, bias), expected, rtol=0, atol=EXACT)
        keys, values = one_query.products(query, states, bias)
        one_query.k_proj.weight[:width] += 1
        assert (one_query(query, states, bias) - expected).abs().max() > 1e-3
    assert keys.shape == values.shape == (6, attention.num_heads, states.shape[2])


def test_a_wrong_graph_would_be_noticed(model, keypoints, mask, monkeypatch):
    exact = F.gelu
    graph = for_export(model)
    with torch.no_grad():
        expected = model(keypoints[:1], mask[:1])
        monkeypatch.setattr(F, "gelu", lambda x: exact(x, approximate="tanh"))
        assert (graph(keypoints[:1], mask[:1]) - expected).abs().max() > 20 * ATOL

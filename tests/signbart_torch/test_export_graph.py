"""The graph for export gives the model's logits, and leaves the model as it was."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from signbart_torch.export_graph import for_export
from signbart_torch.model import SignBart

ATOL = 2e-6


def difference(model, keypoints, mask, dtype=torch.float32) -> float:
    """Largest, over clips one by one: the graph takes no more."""
    model, keypoints = model.to(dtype), keypoints.to(dtype)
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
    assert difference(model, keypoints, mask) <= ATOL


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


def test_parameters_are_the_models_own(model, keypoints, mask):
    graph = for_export(model)
    before = {name: id(parameter) for name, parameter in model.named_parameters()}
    assert set(before.values()) == {id(parameter) for parameter in graph.parameters()}
    with torch.no_grad():
        model.encoder.layers[1].fc1.weight.mul_(1.5)
    assert difference(model, keypoints, mask) <= ATOL
    assert not any(name.startswith("export") for name in model.state_dict())


def test_a_wrong_graph_would_be_noticed(model, keypoints, mask, monkeypatch):
    exact = F.gelu
    graph = for_export(model)
    with torch.no_grad():
        expected = model(keypoints[:1], mask[:1])
        monkeypatch.setattr(F, "gelu", lambda x: exact(x, approximate="tanh"))
        assert (graph(keypoints[:1], mask[:1]) - expected).abs().max() > 20 * ATOL

"""ConvSignBART: BatchNorm over frames that are there, folded without loss, and its options."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from signbart.configuration.reading import from_dict
from signbart.errors import ConfigError
from signbart.models.conv_signbart import ConvSignBartConfig
from signbart_torch.models import export_graph, new_model, num_parameters
from signbart_torch.models.conv_signbart import folded
from signbart_torch.models.conv_signbart.layers import BatchNorm, DepthwiseConv

SMALL = ConvSignBartConfig(
    joint_idx=(0, 2, 3, 5, 8),
    num_labels=7,
    coordinates=2,
    d_model=12,
    blocks_before=2,
    blocks_after=1,
    kernel_size=5,
    attention_heads=3,
    ffn_dim=10,
    max_position_embeddings=16,
    dropout=0.0,
    classifier_dropout=0.0,
)


@pytest.fixture
def network() -> nn.Module:
    """Nothing is left as it was made."""
    torch.manual_seed(3)
    model = new_model(SMALL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            buffer.uniform_(0.5, 1.5) if name.endswith("var") else buffer.uniform_(-0.3, 0.3)
    return model.eval()


def test_folding_changes_nothing_but_the_last_bits(network, keypoints, mask):
    with torch.inference_mode():
        expected, found = network(keypoints, mask), folded(network)(keypoints, mask)
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()
    # The control: a norm that is forgotten.
    network.blocks_after[0].depthwise.norm = BatchNorm(SMALL.width).eval()
    assert (network(keypoints, mask) - expected).abs().max() > 1e-2


def test_a_convolution_and_its_norm_are_one_convolution():
    torch.manual_seed(0)
    conv, reference = DepthwiseConv(6, 5), nn.Conv1d(6, 6, 5, padding=2, groups=6, bias=False)
    norm = nn.BatchNorm1d(6)
    with torch.no_grad():
        for tensor in (*conv.norm.parameters(), *conv.norm.buffers()):
            tensor.uniform_(0.5, 1.5)
        reference.weight.copy_(conv.weight)
    norm.load_state_dict(conv.norm.state_dict(), strict=False)
    states, present = torch.randn(3, 9, 6), torch.ones(3, 9, 1)
    expected = norm.eval()(reference(states.mT)).mT
    torch.testing.assert_close(conv.eval()(states, present), expected)
    weight, bias = conv.folded()
    one = F.conv1d(states.mT, weight, bias, padding=2, groups=6).mT
    torch.testing.assert_close(one, expected)


def test_the_graph_for_export_computes_the_same(network, keypoints, mask):
    graph = export_graph(network)
    for points, row in zip(keypoints, mask, strict=True):
        expected = network(points[None], row[None])
        torch.testing.assert_close(graph(points[None], row[None]), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="one clip, and not 6"):
        graph(keypoints, mask)


def test_batch_norm_counts_the_frames_that_are_there_alone():
    torch.manual_seed(0)
    norm, theirs = BatchNorm(6).train(), nn.BatchNorm1d(6).train()
    states = torch.randn(3, 9, 6)
    present = (torch.rand(3, 9, 1) < 0.6).float()
    states[present[..., 0] == 0] = 1e6  # would be seen anywhere
    states.requires_grad_()
    there = present[..., 0] > 0
    expected = theirs(states[there])
    found = norm(states, present)
    torch.testing.assert_close(found[there], expected)
    assert (found[~there] == 0).all()
    for name, buffer in norm.named_buffers():
        torch.testing.assert_close(buffer, theirs.get_buffer(name))
    found.square().sum().backward()
    assert states.grad[~there].abs().max() == 0 and states.grad[there].abs().max() >= 0
    # Without padding it goes another way, to the same numbers.
    whole = torch.randn(3, 9, 6)
    torch.testing.assert_close(
        norm(whole, torch.ones(3, 9, 1)), theirs(whole.flatten(0, 1)).view_as(whole)
    )


@pytest.mark.parametrize("frames", ["some", "all", "one"])
def test_batch_norm_by_mask_is_the_same(frames):
    """What a GPU computes, which is not asked how many frames there are."""
    torch.manual_seed(0)
    states, present = 3 + 2 * torch.randn(3, 9, 6), torch.ones(3, 9, 1)
    if frames != "all":
        present = (torch.rand(3, 9, 1) < 0.6).float()
    if frames == "one":
        present = torch.zeros(3, 9, 1)
        present[0, 4] = 1
    norms = [BatchNorm(6).train() for _ in range(2)]
    found = []
    for norm, course in zip(norms, (norms[0].forward, norms[1].by_mask), strict=True):
        with torch.no_grad():
            norm.weight.copy_(torch.linspace(0.5, 2, 6))
            norm.bias.copy_(torch.linspace(-1, 1, 6))
        given = states.clone().requires_grad_()
        out = course(given, present)
        (out * torch.arange(6.0)).square().sum().backward()
        found.append([out, given.grad, norm.weight.grad, norm.bias.grad, *norm.buffers()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)
    assert (norms[1].running_mean == 0).all() == (frames == "one")


def test_training_sees_no_padding(network, keypoints, mask):
    """Losses, gradients and running statistics, however much padding there is."""
    results = []
    for frames in (11, 15):
        points = F.pad(keypoints, (0, 0, 0, 0, 0, frames - 11), value=torch.nan)
        rows = F.pad(mask, (0, frames - 11))
        points[rows == 0] = torch.nan
        model = new_model(SMALL)
        model.load_state_dict(network.state_dict())
        model.train()(points, rows).square().sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters()}
        results.append(gradients | dict(model.named_buffers()))
    before = dict(network.named_buffers())
    for name, tensor in results[0].items():
        torch.testing.assert_close(results[1][name], tensor, rtol=1e-4, atol=1e-5)
        assert name not in before or not torch.equal(tensor, before[name])


def test_a_frozen_norm_keeps_its_statistics():
    norm = BatchNorm(4).train()
    norm.weight.requires_grad_(False)
    states, present = torch.randn(2, 5, 4), torch.ones(2, 5, 1)
    frozen = norm(states, present)
    assert (norm.running_mean == 0).all() and (norm.running_var == 1).all()
    assert torch.equal(frozen, norm.eval()(states, present))


def test_a_lone_frame_has_no_variance():
    norm = BatchNorm(4).train()
    states = torch.randn(1, 3, 4)
    found = norm(states, torch.tensor([[[1.0], [0.0], [0.0]]]))
    assert found.isfinite().all() and (norm.running_var == 1).all()


def test_its_default_size_is_the_documented_one():
    config = dataclasses.replace(
        ConvSignBartConfig(num_labels=30), joint_idx=tuple(range(12)), coordinates=3
    )
    assert num_parameters(new_model(config)) == 663_726


DATA = {"layout": "kinect20", "normalization": "body_centred"}


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ({"kernel_size": 8}, DATA, r"model\.kernel_size is 8; it must be odd"),
        ({"attention_heads": 5}, DATA, r"d_model \(144\) is not divisible by .*heads \(5\)"),
        ({"coordinates": 4}, DATA, r"model\.coordinates is 4; it must be in \[2, 3\]"),
        ({"coordinates": 3}, {"layout": "kp65"}, r"no depth; .* set model\.coordinates to 2"),
    ],
)
def test_what_does_not_fit_is_refused(model, data, message):
    with pytest.raises(ConfigError, match=message):
        from_dict({"model": {"kind": "conv_signbart", **model}, "data": data}, source="tests")


def test_depth_is_taken_where_there_is_one():
    for data, coordinates in ((DATA, 3), ({"layout": "kp65"}, 2)):
        config = from_dict({"model": {"kind": "conv_signbart"}, "data": data}, source="tests")
        assert config.coordinates == config.model.coordinates == coordinates
        assert from_dict(config.to_dict(), source="header") == config


def test_signbarts_options_are_written_only_where_they_are_used():
    plain = from_dict({"model": {}, "data": DATA}, source="tests").to_dict()["model"]
    assert not {"coordinates", "motion"} & plain.keys()
    model = {"coordinates": 3, "motion": True}
    config = from_dict({"model": model, "data": DATA}, source="tests")
    assert model.items() <= config.to_dict()["model"].items()
    assert from_dict(config.to_dict(), source="header") == config
    with pytest.raises(ConfigError, match=r"model 'signbart' .* set model\.coordinates to 2"):
        from_dict({"model": model, "data": {"layout": "kp65"}}, source="tests")

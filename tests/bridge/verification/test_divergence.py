"""The layer that is named is the one that was changed: parameter by parameter, route by route.

The reference is what changes, since that takes no conversion: to the search it is all the same
which side is wrong.
"""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bridge.artifact.runtimes import TorchRuntime, open_runtime
from bridge.verification.compare import compare, diagnose
from bridge.verification.computed import LAST_FRAME, artifact_tensors, reference_layers
from bridge.verification.divergence import Divergence, first_divergence, reads_another_frame
from bridge.verification.limits import Limits, load_limits
from bridge.verification.samples import make_samples
from bridge.verification.verdict import PASS, WRONG, Verdict
from signbart.models.io_spec import ATTENTION_MASK
from signbart_torch.models.signbart import decoder, encoder, layers
from signbart_torch.models.signbart.layers import PositionalEmbedding
from signbart_torch.models.signbart.model import SignBart

# One of each kind of layer, at every depth, in x's half and in y's.
CHANGED = [
    "projection.proj_x1.weight", "projection.proj_x1.bias",
    "projection.proj_y1.weight", "projection.proj_y1.bias",
    "encoder.embed_positions.weight", "decoder.embed_positions.weight",
    "encoder.layernorm_embedding.weight", "decoder.layernorm_embedding.bias",
    "encoder.layers.0.self_attn.q_proj.weight", "encoder.layers.0.self_attn.v_proj.bias",
    "encoder.layers.1.self_attn.k_proj.weight", "encoder.layers.1.self_attn.out_proj.bias",
    "encoder.layers.1.self_attn_layer_norm.weight", "encoder.layers.1.fc1.weight",
    "encoder.layers.1.final_layer_norm.bias",
    "decoder.layers.0.self_attn.q_proj.bias", "decoder.layers.0.self_attn.out_proj.weight",
    "decoder.layers.0.encoder_attn.v_proj.weight", "decoder.layers.0.encoder_attn.k_proj.weight",
    "decoder.layers.1.encoder_attn.q_proj.weight", "decoder.layers.1.encoder_attn_layer_norm.bias",
    "decoder.layers.2.self_attn.k_proj.weight", "decoder.layers.2.encoder_attn.out_proj.bias",
    "decoder.layers.2.fc2.weight", "decoder.layers.2.final_layer_norm.weight",
    "classification_head.out_proj.bias",
]  # fmt: skip


@pytest.fixture
def samples(config, recordings):
    return make_samples(config, clips=recordings)


@pytest.fixture(scope="session")
def tensors() -> dict:
    """What artifacts compute, by file and number of the sample: they do not change."""
    return {}


@pytest.fixture
def search(model, samples, tensors):
    """`search(path)`: as `diagnose` does, where the altered model differs most."""

    def logits():
        with torch.no_grad():
            return model(*(torch.from_numpy(array) for array in stacked))

    stacked = [np.concatenate([s.inputs[name] for s in samples]) for name in samples[0].inputs]
    before = logits()

    def searched(path, rms: float | None = None) -> Divergence | None:
        worst = int((logits() - before).abs().amax(dim=1).argmax())
        if (path, worst) not in tensors:
            tensors[path, worst] = artifact_tensors(path, samples[worst].inputs)
        layers = reference_layers(model, samples[worst].inputs)
        return first_divergence(layers, tensors[path, worst], rms=rms)

    return searched


def check_parameters(model, search, path, names):
    """Changes one parameter after the other; each time its own layer must be named."""
    parameters = dict(model.named_parameters())
    wrong = {}
    for name in names:
        kept = parameters[name].detach().clone()
        with torch.no_grad():
            parameters[name].add_(0.5 * torch.randn(kept.shape, generator=torch.manual_seed(3)))
            found = search(path)
            parameters[name].copy_(kept)
        if found is None or found.layer != name.rpartition(".")[0]:
            wrong[name] = found
    assert wrong == {}
    assert search(path) is None


@pytest.mark.slow
def test_the_layer_of_a_changed_parameter_is_named_in_the_twin(model, search, twin_file):
    check_parameters(model, search, twin_file, CHANGED)


@pytest.mark.slow
def test_the_layer_of_a_changed_parameter_is_named(model, search, artifact):
    # Projections' biases and positions included, which converters to LiteRT add as one constant.
    check_parameters(model, search, artifact, CHANGED)


@pytest.mark.slow
def test_every_parameter_is_told_apart_in_the_default_route(model, search, converted):
    # The bias of k adds the same to all scores of a query: softmax takes it out again.
    names = [name for name, _ in model.named_parameters() if not name.endswith("k_proj.bias")]
    assert len(names) == 122 - 8
    check_parameters(model, search, converted.artifact, names)


def test_what_changes_no_logit_is_no_divergence(model, search, twin_file):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("k_proj.bias"):
                parameter.add_(1.0)
    assert search(twin_file) is None


# Mistakes that people make. Each returns the layer that is to be named and the one before it.


def transpose_q(model, _):
    weight = model.encoder.layers[1].self_attn.q_proj.weight
    with torch.no_grad():
        weight.copy_(weight.T.clone())
    return "encoder.layers.1.self_attn.q_proj", "encoder.layers.0"


def approximate_gelu(_, monkeypatch):
    exact = F.gelu
    monkeypatch.setattr(F, "gelu", lambda x: exact(x, approximate="tanh"))
    return "encoder.layers.0.fc2", "encoder.layers.0.fc1"


def keras_epsilon(model, _):
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-3
    return "encoder.layernorm_embedding", "encoder.embed_positions"


def positions_without_offset(_, monkeypatch):
    monkeypatch.setattr(layers, "POSITION_OFFSET", 0)
    return "encoder.embed_positions", "projection.proj_x1"


def exchange_x_and_y(model, monkeypatch):
    forward = model.projection.forward
    monkeypatch.setattr(
        model.projection, "forward", lambda points, *mask: forward(points.flip(-1), *mask)
    )
    return "projection.proj_x1", ""


def no_padding(_, monkeypatch):
    biased = encoder.padding_bias
    monkeypatch.setattr(encoder, "padding_bias", lambda *given: 0 * biased(*given))
    return "encoder.layers.0.self_attn.out_proj", "encoder.layers.0.self_attn.v_proj"


def not_causal(_, monkeypatch):
    biased = decoder.causal_bias
    monkeypatch.setattr(decoder, "causal_bias", lambda *given: 0 * biased(*given))
    return "decoder.layers.0.self_attn.out_proj", "decoder.layers.0.self_attn.v_proj"


def read_another_frame(_, monkeypatch):
    select = decoder.last_frame_selector
    monkeypatch.setattr(
        decoder, "last_frame_selector", lambda mask, dtype: select(mask, dtype).roll(1, dims=-1)
    )
    return "decoder.last_frame", "decoder.layers.1"


MISTAKES = [
    transpose_q, approximate_gelu, keras_epsilon, positions_without_offset, exchange_x_and_y,
    no_padding, not_causal, read_another_frame,
]  # fmt: skip


def check_mistake(mistake, model, monkeypatch, search, path):
    layer, after = mistake(model, monkeypatch)
    found = search(path)
    assert (found.layer, found.after) == (layer, after)
    # ... and it is far off there, not by rounding.
    assert found.nearest > 1e-4


@pytest.mark.parametrize(
    "mistake",
    [pytest.param(m, marks=[pytest.mark.slow] * (m is not approximate_gelu)) for m in MISTAKES],
    ids=lambda mistake: mistake.__name__,
)
def test_mistakes_are_named_in_the_twin(mistake, model, monkeypatch, search, twin_file):
    check_mistake(mistake, model, monkeypatch, search, twin_file)


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_mistakes_are_named(mistake, model, monkeypatch, search, artifact):
    check_mistake(mistake, model, monkeypatch, search, artifact)


# Of quantized files: what is smaller than rounding to eight bits is not to be seen there.
SMALL = (approximate_gelu, keras_epsilon)
QUANTIZED_MISTAKES = [
    (scheme, mistake)
    for scheme in ("fp16", "dynamic_int8", "int8")
    for mistake in MISTAKES
    if mistake not in SMALL
]


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "mistake"), QUANTIZED_MISTAKES)
def test_mistakes_are_named_in_quantized_files(
    scheme, mistake, model, monkeypatch, search, quantized
):
    path, rms = quantized("litert", scheme), load_limits(scheme).layer_rms
    assert search(path, rms) is None
    layer, _ = mistake(model, monkeypatch)
    assert search(path, rms).layer == layer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("route", "scheme", "mistake"),
    [("onnx", "dynamic_int8", not_causal), ("litert", "int8", read_another_frame)],
)
def test_a_quantized_file_that_passes_is_looked_into(
    route, scheme, mistake, model, samples, monkeypatch, quantized
):
    """This model's classes hardly depend on the mask, or on the frame; its layers do."""
    path = quantized(route, scheme)
    rms = load_limits(scheme).layer_rms
    passed = Verdict(path.name, PASS, scheme=scheme, worst_sample=samples[-1].description)
    assert diagnose(model, path, passed, samples, rms) is passed
    layer, _ = mistake(model, monkeypatch)
    told = diagnose(model, path, passed, samples, rms)
    assert told.verdict == WRONG and told.reason.startswith(f"first diverging layer: {layer} (")


def test_parity_says_which_layer_of_an_artifact_that_is_wrong(model, config, samples, twin_file):
    samples = samples[4::12]
    limits = Limits(atol=1e-5, rtol=1e-5)
    reference, candidate = TorchRuntime(model, config), open_runtime(twin_file)
    result = compare(reference, candidate, samples, limits)
    assert result.passed and diagnose(model, twin_file, result, samples) is result
    layer, _ = transpose_q(model, None)
    result = compare(reference, candidate, samples, limits)
    told = diagnose(model, twin_file, result, samples)
    assert result.verdict == told.verdict == WRONG
    assert told.reason.startswith(result.reason + f"; first diverging layer: {layer} (encoder.")


@pytest.mark.parametrize(
    ("mistake", "layer"),
    [
        (not_causal, "decoder.layers.0.self_attn.out_proj"),
        (read_another_frame, "decoder.last_frame"),
    ],
)
def test_a_layer_that_reads_one_frame_acquits_none_that_read_all(
    mistake, layer, config, samples, monkeypatch
):
    """Of two layers, the last one's query is right without a causal mask before it."""
    torch.manual_seed(2)
    model = SignBart(dataclasses.replace(config.model, decoder_layers=2)).eval()
    inputs = next(s.inputs for s in samples if s.inputs[ATTENTION_MASK].all())
    expected = reference_layers(model, inputs)
    mistake(model, monkeypatch)
    wrong = reference_layers(model, inputs)
    query = "decoder.layers.1.self_attn.q_proj"
    assert np.allclose(wrong[query], expected[query], atol=1e-6) == (mistake is not_causal)
    # As an artifact has them: nameless, and the frame that is read as one tensor of its own.
    found = first_divergence(expected, [*wrong.values()])
    assert found.layer == layer


def test_an_artifact_of_nothing_but_nan_diverges_at_once(model, samples):
    reference = reference_layers(model, samples[0].inputs)
    nothing = [np.full(values.shape, np.nan, np.float32) for values in reference.values()]
    for tensors, text in ((nothing, "off by up to inf"), ([], "computes no tensor of that size")):
        found = first_divergence(reference, tensors)
        assert found.layer == "projection.proj_x1" and found.after == ""
        assert text in found.describe()


def test_layers_are_listed_as_they_are_computed(model, samples):
    inputs = next(s.inputs for s in samples if s.inputs[ATTENTION_MASK].all())
    outputs = reference_layers(model, inputs)
    leaves = [
        name for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.LayerNorm | PositionalEmbedding)
    ]  # fmt: skip
    assert set(leaves) < set(outputs) and list(outputs)[-1] == "logits"
    order = [name for name in outputs if name in leaves]
    assert order.index("encoder.layers.0.fc2") < order.index("encoder.layers.1.fc1")
    assert outputs["decoder.layers.1"].shape == (1, 12, 24)
    assert outputs["decoder.layers.2"].shape == (1, 1, 24)
    # No hook stays behind.
    assert not any(module._forward_hooks for module in model.modules())


def test_the_frame_that_is_asked_with_is_told_where_rounding_is_more_than_frames_differ_by():
    rng = np.random.default_rng(4)
    states = rng.normal(size=(1, 1, 8)) + 0.01 * rng.normal(size=(1, 5, 8))
    layers = {"decoder.layers.0": states, LAST_FRAME: states[:, 3:4]}
    own = states + 0.02 * rng.normal(size=states.shape)
    rounded = 0.001 * rng.normal(size=(1, 1, 8))
    assert not reads_another_frame(layers, [own, own[:, 3:4] + rounded], rms=0.1)
    assert reads_another_frame(layers, [own, own[:, 4:5] + rounded], rms=0.1)
    # What is not there tells nothing.
    assert not reads_another_frame(layers, [own], rms=0.1)

"""Fake quantization: PyTorch's grids to the last step, every Dense, and ordinary weights."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

from bridge.weights.port import build_original
from signbart.errors import ConfigError
from signbart_tf.compression import grids
from signbart_tf.compression.fake_quantization import (
    DynamicDense,
    FakeQuantization,
    StaticDense,
    check_count,
)
from signbart_tf.compression.grids import round_tensor, round_tokens, round_weight
from signbart_tf.models import layers_of
from signbart_tf.models.signbart.layers import dense_layers
from signbart_tf.models.signbart.model import SignBart
from signbart_tf.training.learner import copy_weights
from signbart_torch.compression import fake_quantized_layers as theirs
from signbart_torch.compression.fake_quantization import FakeQuantization as TorchFakeQuantization


@pytest.fixture
def states() -> np.ndarray:
    """(3, 5, 8): rows of both signs, of one sign, of zeros, and with an outlier."""
    states = np.random.default_rng(0).normal(size=(3, 5, 8)).astype(np.float32)
    states[0, 0] = np.abs(states[0, 0])
    states[1, 1] = -np.abs(states[1, 1])
    states[2, 2] = 0.0
    states[2, 3, 4] = 40.0
    return states


def both(ours, other, states) -> tuple[np.ndarray, ...]:
    """Values and gradients (of a sum with different weights) on both sides."""
    weights = np.random.default_rng(1).normal(size=states.shape).astype(np.float32)
    x = tf.Variable(states)
    with tf.GradientTape() as tape:
        found = ours(x)
        total = tf.reduce_sum(found * weights)
    y = torch.tensor(states, requires_grad=True)
    wanted = other(y)
    (wanted * torch.from_numpy(weights)).sum().backward()
    gradient = tf.convert_to_tensor(tape.gradient(total, x)).numpy()
    return found.numpy(), gradient, wanted.detach().numpy(), y.grad.numpy()


def assert_same(ours, other, states):
    found, gradient, wanted, other_gradient = both(ours, other, states)
    np.testing.assert_allclose(found, wanted, rtol=2e-7, atol=1e-7)
    np.testing.assert_array_equal(gradient, other_gradient)
    assert np.abs(found - states).max() > 1e-3, "nothing was rounded"


def test_tokens_are_on_pytorchs_grids(states):
    assert_same(round_tokens, theirs.TokenFakeQuantizer(), states)


def test_weights_are_on_pytorchs_grids(states):
    kernel = states[2].copy()
    kernel[:, 5] = 0.0  # an output channel of zeros
    quantizer = theirs.WeightFakeQuantizer()
    assert_same(round_weight, lambda tensor: quantizer(tensor.T).T, kernel)
    levels = round_weight(kernel) / grids.weight_scale(kernel)
    assert np.abs(levels).max() == pytest.approx(127, abs=1e-4)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (-3.3, 0.0), (0.0, 0.7), (0.0, 0.0)])
def test_tensors_are_on_pytorchs_grids_and_clipped_values_learn_nothing(states, low, high):
    quantizer = theirs.TensorFakeQuantizer()
    quantizer.start_measuring()
    quantizer(torch.tensor([low, high]))
    quantizer.stop_measuring()
    bounds = tf.constant(low), tf.constant(high)
    assert_same(lambda x: round_tensor(x, *bounds), quantizer, states)
    _, gradient, _, _ = both(lambda x: round_tensor(x, *bounds), quantizer, states)
    assert (gradient == 0).any()


def dense_and_linear(kind, other, states, bias_follows=False):
    """The same layer on both sides."""
    rng = np.random.default_rng(2)
    kernel = rng.normal(size=(8, 6)).astype(np.float32)
    bias = rng.normal(size=6).astype(np.float32)
    layer = kind(6)
    layer.build((None, 8))
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)
    linear = other(8, 6, True)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(kernel.T.copy()))
        linear.bias.copy_(torch.from_numpy(bias))
    linear.quantize()
    layer.bias_follows = linear.bias_follows = bias_follows
    return layer, linear


def test_dynamic_layers_compute_the_same(states):
    layer, linear = dense_and_linear(DynamicDense, theirs.DynamicLinear, states)
    wanted = linear(torch.from_numpy(states)).detach().numpy()
    np.testing.assert_allclose(layer(states).numpy(), wanted, atol=2e-6)
    plain = states @ layer.kernel.numpy() + layer.bias.numpy()
    assert np.abs(wanted - plain).max() > 1e-2


@pytest.mark.parametrize("bias_follows", [False, True])
def test_static_layers_measure_and_compute_the_same(states, bias_follows):
    layer, linear = dense_and_linear(StaticDense, theirs.StaticLinear, states, bias_follows)
    quantizers = (linear.activation_fake_quantizer, linear.output_fake_quantizer)
    for quantizer in quantizers:
        quantizer.start_measuring()
    linear.weight_fake_quantizer.enabled = False
    layer.forget_ranges()
    layer.measuring = True
    for part in (states[:2], 0.5 * states[2:]):
        layer(part)
        with torch.no_grad():
            linear(torch.from_numpy(part))
    layer.measuring = False
    linear.weight_fake_quantizer.enabled = True
    for quantizer in quantizers:
        quantizer.stop_measuring()
    scales = [grids.tensor_scale(*layer.ranges[at : at + 2]) for at in (0, 2)]
    np.testing.assert_allclose(scales, [float(q.scale) for q in quantizers], rtol=1e-6)
    wanted = linear(torch.from_numpy(states)).detach().numpy()
    difference = np.abs(layer(states).numpy() - wanted)
    # A sum that lies between two steps of the output may fall to either side.
    assert (difference > 1e-5).mean() <= 0.02 and difference.max() < 1.01 * float(scales[1])


@pytest.fixture
def calibration(make_inputs):
    inputs = make_inputs(60, 11)
    keypoints = np.nan_to_num(inputs["keypoints"])
    return keypoints, inputs["attention_mask"]


@pytest.fixture(params=[False, True], ids=["dynamic", "static"])
def quantization(request, calibration) -> FakeQuantization:
    return FakeQuantization(calibration if request.param else None)


def test_a_whole_model_computes_what_pytorchs_computes(quantization, twin, config, make_inputs):
    model = quantization.build(config.model)
    copy_weights(twin.trainable_variables, model.trainable_variables)
    quantization.refresh(model)
    original = build_original(twin)
    other = TorchFakeQuantization(quantization.calibration)
    other.prepare(original)
    other.refresh(original)
    assert quantization.scheme == other.scheme
    inputs = make_inputs(6, 11)
    inputs["keypoints"] = np.nan_to_num(inputs["keypoints"])
    with torch.no_grad():
        wanted = original(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    found = model(inputs)["logits"].numpy()
    change = np.abs(twin(inputs)["logits"].numpy() - wanted.numpy()).mean()
    difference = np.abs(found - wanted.numpy()).mean()
    # Where a sum falls to another step, later layers carry it on. Measured: 1e-5 of the change.
    assert change > 1e-3 and difference < 0.01 * change


def test_every_dense_is_swapped_and_the_weights_stay_ordinary(quantization, twin, config):
    model = quantization.build(config.model)
    layers = list(layers_of(model, keras.layers.Dense))
    assert len(layers) == quantization.count == 2 + 3 * 6 + 2 * 10 + 1
    assert {layer.name for layer in layers if layer.bias_follows} == {"proj_x1", "proj_y1"}
    names = [(v.name, v.shape) for v in model.trainable_variables]
    assert names == [(v.name, v.shape) for v in twin.trainable_variables]
    # Models made outside are ordinary again.
    assert not list(layers_of(SignBart(config.model), DynamicDense | StaticDense))


def test_a_dense_that_was_missed_is_an_error(config):
    with dense_layers(DynamicDense):
        model = SignBart(config.model)
    assert check_count(model, config.model) == 41
    smaller = dataclasses.replace(config.model, encoder_layers=2)
    with pytest.raises(ConfigError, match=r"41 of 41 layers .* fake-quantized, and 35 were"):
        check_count(model, smaller)
    with pytest.raises(ConfigError, match="0 of 41 layers"):
        check_count(SignBart(config.model), config.model)


def test_ranges_follow_the_weights(twin, config, calibration):
    quantization = FakeQuantization(calibration)
    model = quantization.build(config.model)
    copy_weights(twin.trainable_variables, model.trainable_variables)

    def ranges():
        quantization.refresh(model)
        return [float(v) for layer in layers_of(model, StaticDense) for v in layer.ranges]

    first = ranges()
    assert ranges() == first and min(first) < 0 < max(first)
    kernel = model.projection.proj_x1.kernel
    kernel.assign(3 * kernel)
    assert ranges() != first
    kernel.assign(kernel / 3)
    np.testing.assert_allclose(ranges(), first, rtol=1e-3, atol=1e-4)


def test_every_weight_gets_a_gradient(quantization, twin, config, make_inputs):
    model = quantization.build(config.model)
    copy_weights(twin.trainable_variables, model.trainable_variables)
    quantization.refresh(model)
    inputs = make_inputs(6, 11)
    inputs["keypoints"] = np.nan_to_num(inputs["keypoints"])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.math.log_softmax(model(inputs)["logits"])[:, 0])
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
    sizes = [float(tf.reduce_max(tf.abs(tf.convert_to_tensor(g)))) for g in gradients]
    assert np.mean(np.array(sizes) > 1e-6) > 0.9

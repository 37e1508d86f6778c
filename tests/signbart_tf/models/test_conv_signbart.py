"""ConvSignBART in Keras: it trains as PyTorch's does, and what training learned is kept."""

import numpy as np
import pytest
import tensorflow as tf
import torch

from bridge.weights.port import build_original, build_twin
from signbart.weights.stored import read_stored
from signbart_tf.models import export_graph, layers_of
from signbart_tf.models.conv_signbart.layers import BatchNorm
from signbart_tf.training.checkpoint import load_checkpoint
from signbart_tf.training.learner import KerasLearner
from signbart_torch.models import new_model


def test_a_step_has_pytorchs_gradients_and_statistics(conv_network, small_conv, make_inputs):
    """Dropout is 0, so that nothing is random."""
    twin, inputs = build_twin(conv_network), make_inputs(6)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(twin(inputs, training=True)["logits"]))
    gradients = tape.gradient(loss, twin.trainable_variables)
    original = new_model(small_conv.model)
    original.load_state_dict(conv_network.state_dict())
    original.train()
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    expected = original(**tensors).square().sum()
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=1e-4)
    for name, buffer in build_original(twin).named_buffers():
        torch.testing.assert_close(buffer, original.get_buffer(name), rtol=1e-5, atol=1e-6)
        assert not torch.equal(buffer, conv_network.get_buffer(name))
    norms = {
        "Keras": sum(float(tf.reduce_sum(tf.square(gradient))) for gradient in gradients),
        "PyTorch": sum(float(p.grad.square().sum()) for p in original.parameters()),
    }
    assert norms["Keras"] == pytest.approx(norms["PyTorch"], rel=1e-3)


def test_the_graph_for_export_computes_the_same(conv_network, make_inputs):
    twin = build_twin(conv_network)
    graph, inputs = export_graph(twin), make_inputs(1)
    expected = twin(inputs)["logits"].numpy()
    np.testing.assert_allclose(graph(inputs)["logits"].numpy(), expected, rtol=1e-5, atol=1e-5)


def test_checkpoints_keep_the_running_statistics(small_conv, make_inputs, tmp_path):
    names = ("left", "right", "both")
    learner = KerasLearner("tape", "/CPU:0", small_conv, names, None)
    assert learner.parameters == sum(p.numel() for p in new_model(small_conv.model).parameters())
    learner.model(make_inputs(6), training=True)
    learner.save(tmp_path / "best.keras", {}, resumable=False)
    learner.save(tmp_path / "last.weights.h5", {}, resumable=True)
    expected = [norm.moving_mean.numpy() for norm in layers_of(learner.model, BatchNorm)]
    assert min(np.abs(mean).max() for mean in expected) > 1e-4
    tensors = build_original(learner.saved).state_dict()
    for file in ("best.keras", "last.weights.h5"):
        stored = read_stored(tmp_path / file).tensors  # without Keras, by PyTorch's names
        assert stored.keys() == tensors.keys()
        assert all(np.array_equal(stored[name], tensors[name].numpy()) for name in tensors)
    other = KerasLearner("tape", "/CPU:0", small_conv, names, None)
    other.restore(load_checkpoint(tmp_path / "last.weights.h5"), "last.weights.h5")
    for model in (load_checkpoint(tmp_path / "best.keras").model, other.model):
        found = [norm.moving_mean.numpy() for norm in layers_of(model, BatchNorm)]
        np.testing.assert_array_equal(found, expected)

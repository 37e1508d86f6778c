"""One step of the optimiser is PyTorch's step: loss, clipping, AdamW, learning rates."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from torch.nn import functional as F

from bridge.weights.port import build_original, build_twin
from signbart.batches import Batch
from signbart.configuration.schema import TrainConfig
from signbart.models.signbart import SignBartConfig
from signbart.training.metrics import cross_entropy
from signbart.training.schedule import Plateau
from signbart.weights.port import keras_variables
from signbart.weights.signbart import rules as signbart_rules
from signbart_tf.training.loops import SmoothedCrossEntropy, TapeLoop
from signbart_tf.training.optimizer import AdamW, clip_by_norm
from signbart_torch.models.signbart.model import SignBart
from signbart_torch.training.averaging import WeightAverage
from signbart_torch.training.objective import Objective

TRAIN = TrainConfig(lr=1e-3, weight_decay=0.1, label_smoothing=0.1, grad_clip=0.5)
LABELS = np.array([0, 6, 2, 2, 5, 1])


@pytest.fixture(scope="module")
def plain(config) -> SignBartConfig:
    """The small model without dropout, whose random numbers no two frameworks share."""
    names = ("dropout", "activation_dropout", "attention_dropout", "classifier_dropout")
    return dataclasses.replace(config.model, **dict.fromkeys(names, 0.0))


@pytest.fixture
def ours(plain, original) -> SignBart:
    model = SignBart(plain)
    model.load_state_dict(original.state_dict())
    return model.train()


@pytest.fixture
def batch(make_inputs) -> Batch:
    inputs = make_inputs(6, 11)
    inputs["keypoints"] = np.nan_to_num(inputs["keypoints"])
    return Batch(**inputs, labels=LABELS, indices=np.arange(6))


def torch_steps(model: SignBart, batch: Batch, train: TrainConfig, steps: int) -> list[float]:
    """What `signbart_torch.training.learner` does with a batch; the losses."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=train.lr, weight_decay=train.weight_decay, fused=True
    )
    labels, found = torch.from_numpy(batch.labels), []
    for _ in range(steps):
        optimizer.zero_grad()
        logits = model(torch.from_numpy(batch.keypoints), torch.from_numpy(batch.attention_mask))
        losses = F.cross_entropy(
            logits, labels, label_smoothing=train.label_smoothing, reduction="sum"
        )
        (losses / len(labels)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), train.grad_clip)
        optimizer.step()
        found.append(float(losses.detach()) / len(labels))
    return found


def keras_steps(twin, batch: Batch, config, steps: int) -> list[float]:
    """The same steps of the tape's loop; the losses."""
    optimizer = AdamW(config.train)
    optimizer.build(twin.trainable_variables)
    loop = TapeLoop(twin, optimizer, config)
    inputs = {"keypoints": batch.keypoints, "attention_mask": batch.attention_mask}
    rate = optimizer.learning_rate
    return [
        loop.run_epoch([(inputs, batch.labels)], lambda _: rate.assign(config.train.lr))[0]
        for _ in range(steps)
    ]


def compare(ours: SignBart, batch: Batch, config, steps: int) -> tuple[float, float]:
    """Largest difference of the losses, and of the weights, after steps from the same weights."""
    twin = build_twin(ours)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    run = dataclasses.replace(config, model=ours.config)
    theirs = keras_steps(twin, batch, run, steps)
    losses = np.abs(np.subtract(theirs, torch_steps(ours, batch, TRAIN, steps))).max()
    assert losses < np.inf
    back = build_original(twin).state_dict()
    # Softmax is blind to k_proj's bias: its gradient is rounding alone, and Adam makes steps of
    # any gradient, however small.
    compared = {name: tensor for name, tensor in back.items() if "k_proj.bias" not in name}
    weights = max(
        float((tensor - ours.state_dict()[name]).abs().max()) for name, tensor in compared.items()
    )
    # Every tensor was moved, so that none passes for having stood still.
    for name in compared:
        assert (ours.state_dict()[name] - before[name]).abs().max() > 1e-4, name
    return float(losses), weights


def test_one_step_is_the_step_of_pytorch(ours, batch, config):
    config = dataclasses.replace(config, train=TRAIN)
    losses, weights = compare(ours, batch, config, steps=1)
    # Measured: 1e-7 and 1e-6.
    assert losses <= 1e-6 and weights <= 1e-5


@pytest.fixture
def eagerly():
    """Without tracing a step for each setting, which takes longer than some steps do."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize(
    "change",
    [
        {}, {"label_smoothing": 0.0}, {"grad_clip": 0.0}, {"weight_decay": 0.0}, {"lr": 1.1e-3},
    ],
    ids=lambda change: next(iter(change), "nothing"),
)  # fmt: skip
def test_the_comparison_notices_other_settings(eagerly, ours, batch, config, change):
    # Adam's first step hardly depends on the gradients' scale; the second tells clipping too.
    config = dataclasses.replace(config, train=dataclasses.replace(TRAIN, **change))
    losses, weights = compare(ours, batch, config, steps=2)
    assert (losses > 1e-5 or weights > 2e-5) == bool(change)


def test_mixed_clips_and_averaged_weights_are_those_of_pytorch(eagerly, ours, batch, config):
    train = dataclasses.replace(TRAIN, mixup=0.4, ema=0.7)
    config = dataclasses.replace(
        config, train=train, model=dataclasses.replace(ours.config, num_labels=7)
    )
    shares = np.float32([0.5, 0.6, 0.9, 1.0, 0.7, 0.8])
    mixed = dataclasses.replace(batch, partners=LABELS[::-1].copy(), shares=shares)
    twin = build_twin(ours)

    optimizer = AdamW(train)
    optimizer.build(twin.trainable_variables)
    loop = TapeLoop(twin, optimizer, config)
    inputs = {"keypoints": batch.keypoints, "attention_mask": batch.attention_mask}
    answers = mixed.targets(7)
    theirs = torch.optim.AdamW(
        ours.parameters(), lr=train.lr, weight_decay=train.weight_decay, fused=True
    )
    objective = Objective(config, "abcdefg", torch.device("cpu"))
    average = WeightAverage(ours.parameters(), train)
    tensors = [torch.from_numpy(inputs[name]) for name in ("keypoints", "attention_mask")]
    labels, partners = torch.from_numpy(LABELS), torch.from_numpy(mixed.partners)
    for step in range(3):
        loss, _ = loop.run_epoch([(inputs, answers)], lambda _: None)
        theirs.zero_grad()
        mean = objective(ours(*tensors), labels, (partners, torch.from_numpy(shares))) / 6
        mean.backward()
        torch.nn.utils.clip_grad_norm_(ours.parameters(), train.grad_clip)
        theirs.step()
        average.update(step)
        assert loss == pytest.approx(float(mean.detach()), abs=1e-5)
    plain = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    average.exchange()
    optimizer.exchange_average()
    for name, tensor in build_original(twin).state_dict().items():
        if "k_proj.bias" in name:
            continue  # softmax is blind to it
        assert (tensor - ours.state_dict()[name]).abs().max() < 2e-5, name
        assert (tensor - plain[name]).abs().max() > 1e-4, name
    # The next step must begin where the last one ended.
    optimizer.exchange_average()
    back = build_original(twin).state_dict()["projection.proj_x1.weight"]
    assert torch.allclose(back, plain["projection.proj_x1.weight"], atol=2e-5)


def test_epsilon_stands_where_pytorch_has_it():
    # Where gradients are about as small as epsilon its place decides the size of the step.
    gradients = np.array([1e-8, -3e-8, 2e-7, 0.0], np.float32)
    config = TrainConfig(lr=0.1, weight_decay=0.0, grad_clip=0.0)
    values = {}
    for name, optimizer in {
        "ours": AdamW(config),
        "keras": keras.optimizers.AdamW(0.1, weight_decay=0.0, epsilon=1e-8),
    }.items():
        variable = keras.Variable(np.zeros(4, np.float32))
        optimizer.build([variable])
        for scale in (1.0, 0.3, 2.0):
            optimizer.apply([keras.ops.convert_to_tensor(scale * gradients)], [variable])
        values[name] = variable.numpy()
    parameter = torch.nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.AdamW([parameter], lr=0.1, weight_decay=0.0)
    for scale in (1.0, 0.3, 2.0):
        parameter.grad = torch.from_numpy(np.float32(scale) * gradients)
        optimizer.step()
    wanted = parameter.detach().numpy()
    np.testing.assert_allclose(values["ours"], wanted, rtol=1e-5)
    assert np.abs(values["keras"] - wanted).max() > 0.05


@pytest.mark.parametrize("scale", [1e-7, 0.1, 10.0])
def test_gradients_are_clipped_as_pytorch_clips_them(scale):
    rng = np.random.default_rng(0)
    arrays = [scale * rng.normal(size=shape).astype(np.float32) for shape in ((3, 4), (5,))]
    parameters = [torch.nn.Parameter(torch.zeros(array.shape)) for array in arrays]
    for parameter, array in zip(parameters, arrays, strict=True):
        parameter.grad = torch.from_numpy(array.copy())
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    clipped = clip_by_norm([keras.ops.convert_to_tensor(array) for array in arrays], 1.0)
    for found, parameter, array in zip(clipped, parameters, arrays, strict=True):
        np.testing.assert_allclose(found.numpy(), parameter.grad.numpy(), rtol=1e-6)
        assert np.array_equal(found.numpy(), array) == (scale < 1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_pytorchs(smoothing):
    logits = np.random.default_rng(1).normal(scale=4, size=(9, 5)).astype(np.float32)
    labels = np.arange(9) % 5
    wanted = F.cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(labels), label_smoothing=smoothing
    )
    found = SmoothedCrossEntropy(smoothing)(labels, keras.ops.convert_to_tensor(logits))
    assert float(found) == pytest.approx(float(wanted), rel=1e-6)
    if not smoothing:
        assert cross_entropy(logits, labels) == pytest.approx(float(wanted), rel=1e-6)


def test_the_plateau_is_pytorchs():
    rng = np.random.default_rng(2)
    # Falling, then wandering about: improvements too small to count among them.
    losses = np.concatenate([1 / np.arange(1, 9), 0.125 + rng.normal(scale=1e-5, size=40)])
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.01, patience=3)
    ours, rate, rates = Plateau(factor=0.01, patience=3), 1.0, []
    for loss in losses:
        theirs.step(float(loss))
        rate = ours.next_rate(rate, float(loss))
        rates.append(rate)
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
    assert len(set(rates)) >= 4, "the rate hardly fell: the test shows little"
    # Falls too small to matter are not made, there as here.
    assert math.isclose(rates[-1], 1e-8, rel_tol=1e-6)


def test_the_optimizer_has_every_weight(twin):
    optimizer = AdamW(TRAIN)
    optimizer.build(twin.trainable_variables)
    reached = keras_variables(twin, signbart_rules(twin.config))
    assert {id(v) for v in twin.trainable_variables} == {id(v) for v in reached.values()}

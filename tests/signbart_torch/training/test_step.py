"""CUDA graphs of a step: what they read, and on a GPU that they train as ordinary calls do."""

import dataclasses

import numpy as np
import pytest
import torch

from signbart.batches import prepare_clips
from signbart.configuration.reading import from_dict
from signbart.configuration.schema import RunConfig
from signbart.training.requirements import with_labels
from signbart_torch.training.data import training_batches
from signbart_torch.training.learner import TorchLearner, train
from signbart_torch.training.step import fill
from signbart_torch.training.workers import Workers
from tests.signbart_torch.training.test_learner import history
from tests.signbart_torch.training.test_other_kinds import SIZES

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def test_a_longer_batch_is_filled_up_with_padding(tiny_clips, tiny_config, with_train):
    config = with_labels(with_train(mixup=0.4), tiny_clips)
    prepared = prepare_clips(tiny_clips, config)
    batches = [b for b in training_batches(prepared, config, 0) if len(b.labels) == 8]
    assert len({batch.keypoints.shape[1] for batch in batches}) > 1
    frames = max(batch.keypoints.shape[1] for batch in batches) + 2
    inputs = batches[0].with_each(
        lambda t: t.new_full((8, frames, *t.shape[2:])[: t.ndim], 7)  # of an earlier batch
    )
    learner = TorchLearner(Workers(0, 1, torch.device("cpu")), config, tiny_clips.class_names, None)
    for batch in sorted(batches, key=lambda b: -b.keypoints.shape[1]):
        fill(inputs, batch)
        length = batch.keypoints.shape[1]
        for found, wanted in zip(inputs.tensors, batch.tensors, strict=True):
            assert torch.equal(found[:, :length] if found.ndim > 1 else found, wanted)
            assert found.ndim == 1 or not found[:, length:].any()
        learner.model.eval()
        with torch.no_grad():
            logits = [learner.model(b.keypoints, b.attention_mask) for b in (batch, inputs)]
        torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-5)


def of_kind(kind: str, config: RunConfig) -> RunConfig:
    """The same run of a small model of another kind."""
    if kind == "signbart":
        return config
    sizes = {"joint_idx": list(config.model.joint_idx), "d_model": 16}
    if kind in SIZES:
        sizes = {**SIZES[kind], "num_features": 40}  # x and y of kinect20
    return from_dict({**config.to_dict(), "model": {"kind": kind, **sizes}}, source="tests")


@on_a_gpu
@pytest.mark.parametrize("kind", ["signbart", "conv_signbart", "sign_transformer"])
def test_graphs_train_as_ordinary_calls_do(tiny_clips, tiny_config, tmp_path, kind):
    rows = {}
    for graphs in (False, True):
        changes = {"epochs": 4, "mixup": 0.4, "ema": 0.5, "cuda_graphs": graphs}
        config = dataclasses.replace(
            tiny_config, train=dataclasses.replace(tiny_config.train, **changes)
        )
        config = of_kind(kind, config)
        folder = tmp_path / str(graphs)
        train(tiny_clips, config, folder, test_signers=["dan"], device="cuda")
        rows[graphs] = history(folder)
    for plain, graphed in zip(rows[False], rows[True], strict=True):
        # The same dropout masks, by the same seed: rounding differs alone.
        assert graphed["train_loss"] == pytest.approx(plain["train_loss"], rel=1e-2)


@on_a_gpu
@pytest.mark.parametrize("kind", ["mediapipe_gru", "sign_transformer"])
def test_other_kinds_train_on_a_gpu(tiny_clips, with_train, tmp_path, kind):
    config = of_kind(kind, with_train(epochs=2))
    train(tiny_clips, config, tmp_path, test_signers=["dan"], device="cuda")
    losses = [row["train_loss"] for row in history(tmp_path)]
    assert len(losses) == 2 and np.isfinite(losses).all()

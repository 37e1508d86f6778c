"""Quantization-aware training in Keras: an ordinary run, from a trained checkpoint."""

import dataclasses
import functools
import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from bridge.weights.port import build_original
from signbart.errors import CheckpointError, ClipError, ConfigError
from signbart.recordings.clip import ClipSet
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips
from signbart.training import calibration
from signbart.training.qat import training_config
from signbart_tf import qat
from signbart_tf.compression.fake_quantization import DynamicDense, StaticDense
from signbart_tf.models import layers_of
from signbart_tf.training.checkpoint import load_checkpoint
from signbart_tf.training.learner import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recordings(tmp_path_factory, made_clips) -> Path:
    path = tmp_path_factory.mktemp("recordings") / "tiny.npz"
    write_packed(made_clips, path)
    return path


@pytest.fixture(scope="module")
def clips(recordings) -> ClipSet:
    """As read back: packing rounds landmarks, and other landmarks are other recordings."""
    return read_clips(recordings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, clips, tiny_config, eager_keras) -> Path:
    """A run folder: trained on ben and cleo, anna chose the epoch, dan was tested."""
    folder = tmp_path_factory.mktemp("runs") / "float"
    settings = dataclasses.replace(tiny_config.train, epochs=4)
    config = dataclasses.replace(tiny_config, train=settings)
    with eager_keras():
        train(clips, config, folder, test_signers=["dan"], device="cpu")
    return folder


@pytest.fixture(autouse=True)
def few_clips_are_enough(monkeypatch):
    """To calibrate on; there are 18."""
    monkeypatch.setattr(calibration, "MIN_CLIPS", 10)


def train_on(trained, clips, folder, overrides=(), **options):
    """Trains on from a run: results, folder."""
    source = trained / "best.keras"
    checkpoint = load_checkpoint(source)
    overrides = ["train.epochs=3", "train.batch_size=4", "train.lr=1e-3", *overrides]
    config = training_config(checkpoint.config, overrides, source="here")
    options = {"source": source, "device": "cpu", **options}
    return qat.train_quantized(clips, checkpoint, config, folder, **options), folder


@pytest.fixture
def fit(trained, clips, tmp_path):
    """`fit("name", ["train.epochs=3"], static=True)` trains on from `trained`: results, folder."""

    def run(name="qat", overrides=(), **options):
        return train_on(trained, options.pop("clips", clips), tmp_path / name, overrides, **options)

    return run


@pytest.fixture(scope="module")
def whole(trained, clips, tmp_path_factory):
    """`whole(static)`: what `fit` does, once for all tests: results, folder, what it said.

    Beside the folder is another, ``stopped``: as a kill behind the first epoch leaves it.
    """

    @functools.cache
    def run(static):
        said, folder = [], tmp_path_factory.mktemp("whole") / "run"

        def copy(row):
            if row["epoch"] == 1:
                shutil.copytree(folder, folder.with_name("stopped"))

        options = {"static": static, "announce": said.append, "report": copy}
        return *train_on(trained, clips, folder, **options), said

    return run


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
def test_the_result_is_an_ordinary_run(whole, trained, static, clips):
    results, folder, said = whole(static)
    scheme = "int8" if static else "dynamic_int8"
    assert f"{scheme}: 19 Dense layers fake-quantized" in said[0]
    # What a prepared model says, its checkpoint alone does not.
    assert {*os.listdir(folder)} == {*os.listdir(trained)} - {"evaluation"}
    before, after = (load_checkpoint(run / "best.keras") for run in (trained, folder))
    assert after.class_names == clips.class_names
    assert not list(layers_of(after.model, DynamicDense | StaticDense))
    assert len(list(layers_of(after.model, keras.layers.Dense))) == 19
    assert after.progress["start"]["scheme"] == results["start"]["scheme"] == scheme
    assert after.progress["recordings"] == before.progress["recordings"]
    # The weights were trained, and the last ones are the run's.
    last = load_checkpoint(folder / "last.weights.h5").model
    assert len(last.weights) == len(before.model.weights)
    moved = [
        np.abs(one.numpy() - other.numpy()).max()
        for one, other in zip(last.weights, before.model.weights, strict=True)
    ]
    assert np.mean(np.array(moved) > 1e-5) > 0.9
    assert results["start"]["plain"] == {
        key: json.loads((trained / "results.json").read_text())[key] for key in ("val", "test")
    }
    # Its checkpoint goes on through the weight map like any.
    assert build_original(after.model).num_parameters == results["parameters"]


def test_rounding_is_in_use_while_it_trains(whole, fit, monkeypatch, tmp_path):
    _, rounded, _ = whole(False)
    for name in ("round_tokens", "round_weight"):
        monkeypatch.setattr(
            f"signbart_tf.compression.fake_quantized_layers.{name}", lambda states: states
        )

    def stop(row):
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit("plain", report=stop)
    losses = [
        load_checkpoint(run / "last.weights.h5").progress["history"]
        for run in (rounded, tmp_path / "plain")
    ]
    assert losses[0][0]["train_loss"] != losses[1][0]["train_loss"]
    assert losses[0][0]["train_loss"] == pytest.approx(losses[1][0]["train_loss"], rel=0.1)


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
def test_an_interrupted_run_ends_with_the_same_bits_by_either_loop(fit, whole, static, tmp_path):
    wanted, uninterrupted, _ = whole(static)
    stopped = shutil.copytree(uninterrupted.with_name("stopped"), tmp_path / "stopped")
    assert load_checkpoint(stopped / "last.weights.h5").progress["epoch"] == 1
    with pytest.raises(ConfigError, match="started from another model: scheme was"):
        fit("stopped", static=not static, resume=True)
    results, _ = fit("stopped", static=static, resume=True, loop="tape")
    assert results == wanted
    for name in ("best.keras", "last.weights.h5"):
        one, other = (load_checkpoint(run / name) for run in (uninterrupted, stopped))
        for a, b in zip(one.model.weights, other.model.weights, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
        for a, b in zip(one.optimizer, other.optimizer, strict=True):
            np.testing.assert_array_equal(a, b)


def test_who_was_tested_is_never_trained_on(fit, clips, monkeypatch):
    with pytest.raises(ConfigError, match=r"best.keras was tested on dan and trained on the"):
        fit(test_signers=["anna"])
    others = dataclasses.replace(clips, class_names=("left", "right", "neither"))
    with pytest.raises(CheckpointError, match="other classes"):
        fit(clips=others)
    fewer = clips.select(range(len(clips) - 1))
    with pytest.raises(ConfigError, match="these recordings are not those"):
        fit(clips=fewer)
    monkeypatch.setattr(calibration, "MIN_CLIPS", 19)
    with pytest.raises(ClipError, match="too few to calibrate"):
        fit(static=True)


def test_the_command_and_that_the_start_is_a_candidate_for_the_best(
    trained, recordings, tmp_path, capsys
):
    arguments = [
        "--checkpoint", f"{trained}/best.keras", "--data", str(recordings),
        "--output", str(tmp_path / "qat"), "--epochs", "1",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"--set model\.d_model=32"):
        qat.main([*arguments, "--set", "model.d_model=32"])
    with pytest.raises(CheckpointError, match="no checkpoint at /nowhere"):
        qat.main([*arguments, "--checkpoint", "/nowhere.keras"])
    assert not (tmp_path / "qat").exists()
    # A rate of 0 never improves on the start.
    assert qat.main([*arguments, "--lr", "0", "--set", "train.weight_decay=0"]) == 0
    printed = capsys.readouterr().out
    assert "float32, before" in printed and "dynamic_int8, epoch 0" in printed
    assert f"wrote {tmp_path}/qat/best.keras" in printed
    before, after = (load_checkpoint(run / "best.keras") for run in (trained, tmp_path / "qat"))
    assert after.config.model == before.config.model, "dropout included"
    config = after.config.train
    assert (config.epochs, config.lr, config.batch_size, config.grad_clip, config.patience) == (
        1, 0.0, 4, 1.0, 10,
    )  # fmt: skip
    results = json.loads((tmp_path / "qat" / "results.json").read_text())
    assert results["best_epoch"] == 0
    assert results["val"] == results["start"]["prepared"]["val"]
    for one, other in zip(after.model.weights, before.model.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_the_commands_rate_is_small(monkeypatch):
    given = {}

    def train(options, *_, **__):
        given.update(vars(options))

    monkeypatch.setattr(qat, "train_one_quantized", train)
    qat.main(["--checkpoint", "a.keras", "--data", "b", "--output", "c"])
    assert (given["lr"], given["epochs"], given["loop"]) == ("5e-5", "10", "fit")

"""Quantization-aware training: an ordinary run, from a trained checkpoint, of int8 arithmetic."""

import csv
import dataclasses
import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from signbart.batches import prepare_clips
from signbart.configuration.schema import RunConfig
from signbart.console import run_command
from signbart.errors import CheckpointError, ClipError, ConfigError
from signbart.recordings.clip import ClipSet
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips
from signbart.training import calibration
from signbart.training.qat import training_config
from signbart.training.splits import split_clips
from signbart_torch import qat
from signbart_torch.compression.fake_quantization import FakeQuantization
from signbart_torch.training import learner
from signbart_torch.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_model,
    save_checkpoint,
)
from signbart_torch.training.learner import predict, train

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory, made_clips) -> Path:
    path = tmp_path_factory.mktemp("recordings") / "tiny.npz"
    write_packed(made_clips, path)
    return path


@pytest.fixture(scope="module")
def tiny_clips(recordings) -> ClipSet:
    """As read back: packing rounds landmarks, and other landmarks are other recordings."""
    return read_clips(recordings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_clips, tiny_config) -> Path:
    """A run folder: trained on ben and cleo, anna chose the epoch, dan was tested."""
    folder = tmp_path_factory.mktemp("runs") / "float"
    config = dataclasses.replace(
        tiny_config, train=dataclasses.replace(tiny_config.train, epochs=12)
    )
    train(tiny_clips, config, folder, test_signers=["dan"], device="cpu")
    return folder


@pytest.fixture(autouse=True)
def few_clips_are_enough(monkeypatch):
    """To calibrate on; there are 18."""
    monkeypatch.setattr(calibration, "MIN_CLIPS", 10)


def train_on(source, clips, folder, overrides=(), checkpoint=None, **options):
    """Trains a checkpoint on: results, folder."""
    checkpoint = checkpoint or load_checkpoint(source)
    overrides = ["train.epochs=3", "train.batch_size=4", "train.lr=1e-3", *overrides]
    config = training_config(checkpoint.config, overrides, source="here")
    options = {"source": source, "device": "cpu", **options}
    return qat.train_quantized(clips, checkpoint, config, folder, **options), folder


@pytest.fixture
def fit(trained, tiny_clips, tmp_path):
    """`fit("name", ["train.epochs=3"], static=True)` trains on from `trained`: results, folder."""

    def run(name="qat", overrides=(), *, source=trained / "best.safetensors", **options):
        clips = options.pop("clips", tiny_clips)
        return train_on(source, clips, tmp_path / name, overrides, **options)

    return run


@pytest.fixture(scope="module")
def whole(trained, tiny_clips, tmp_path_factory):
    """`whole(static)`: what `fit` does, once for all tests: results, folder, its rows and words."""

    @functools.cache
    def run(static):
        rows, said, folder = [], [], tmp_path_factory.mktemp("whole") / "run"
        options = {"static": static, "report": rows.append, "announce": said.append}
        return *train_on(trained / "best.safetensors", tiny_clips, folder, **options), rows, said

    return run


@pytest.fixture(params=[False, True], ids=["dynamic", "static"])
def static(request) -> bool:
    return request.param


def bits(path: Path) -> dict[str, bytes]:
    checkpoint = load_checkpoint(path)
    tensors = {**checkpoint.tensors, **{f"o/{k}": v for k, v in checkpoint.optimizer.items()}}
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def history(folder: Path) -> list[dict[str, str]]:
    with open(folder / "summary.csv", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


# What comes out


def test_the_result_is_an_ordinary_run(whole, trained, static, tiny_clips):
    results, folder, _, _ = whole(static)
    before = load_checkpoint(trained / "best.safetensors")
    after = load_checkpoint(folder / "best.safetensors")
    assert list(after.tensors) == list(before.tensors)
    assert after.class_names == tiny_clips.class_names and not after.optimizer
    model, config, _ = load_model(folder / "best.safetensors")
    assert {type(part) for part in model.modules() if "Linear" in type(part).__name__} == {
        torch.nn.Linear
    }
    settings = (config.train.epochs, config.train.batch_size, config.train.lr)
    assert settings == (3, 4, 1e-3)
    scheme = "int8" if static else "dynamic_int8"
    assert after.progress["start"]["scheme"] == results["start"]["scheme"] == scheme
    assert after.progress["recordings"] == before.progress["recordings"]
    # What a prepared model says, its checkpoint alone does not.
    assert {*os.listdir(folder)} == {*os.listdir(trained)} - {"evaluation"}
    assert results == json.loads((folder / "results.json").read_text())
    assert (results["test_signers"], results["val_signers"]) == (["dan"], ["anna"])
    assert [row["epoch"] for row in history(folder)] == ["1", "2", "3"]


def test_it_trains_and_validates_the_quantized_model(whole, trained, static, tiny_clips):
    results, folder, rows, _ = whole(static)
    float_before = json.loads((trained / "results.json").read_text())
    assert results["start"]["plain"] == {key: float_before[key] for key in ("val", "test")}
    # Epoch 0 is the model that is quantized without training.
    model, config, _ = load_model(trained / "best.safetensors")
    split = split_clips(tiny_clips, config.train, ["dan"])
    inputs = calibration.calibration_inputs(tiny_clips.select(split.train), config, count=100)
    quantization = FakeQuantization(inputs if static else None)
    losses = []
    for _ in range(2):
        data = prepare_clips(tiny_clips.select(split.val), config)
        logits = torch.from_numpy(predict(model, data, config, torch.device("cpu")))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(data.labels))
        losses.append(float(loss))
        quantization.prepare(model)
        quantization.refresh(model)
    assert rows[0]["epoch"] == 0 and rows[0]["val_loss"] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] != pytest.approx(losses[1], rel=1e-5), "quantization changed nothing"
    assert bits(folder / "last.safetensors") != bits(trained / "last.safetensors")


def test_training_that_only_harms_leaves_the_model_as_it_came(fit, trained, static):
    results, folder = fit(
        "harm", ["train.lr=3", "train.grad_clip=0", "train.patience=2", "train.epochs=9"],
        static=static,
    )  # fmt: skip
    assert (results["best_epoch"], results["epochs"]) == (0, 2)
    after = load_checkpoint(folder / "best.safetensors").tensors
    before = load_checkpoint(trained / "best.safetensors").tensors
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert results["val"] == results["start"]["prepared"]["val"]


def test_the_best_epoch_validates_no_worse_than_the_start(whole, static):
    results, _, rows, _ = whole(static)
    keys = [(row["val_accuracy"], -row["val_loss"]) for row in rows]
    assert results["best_epoch"] == keys.index(max(keys))
    assert results["val"]["accuracy"] >= results["start"]["prepared"]["val"]["accuracy"]


def test_without_validation_clips_the_last_epoch_is_kept(tiny_clips, with_train, tmp_path, fit):
    config = with_train(epochs=4, val_signers=0, val_fraction=0.0)
    train(tiny_clips, config, tmp_path / "float", test_signers=["dan"], device="cpu")
    said = []
    results, folder = fit(source=tmp_path / "float" / "best.safetensors", announce=said.append)
    assert results["best_epoch"] == 3 and "val" not in results
    assert "the last one is kept" in said[0]
    assert history(folder)[0].keys() == {"epoch", "lr", "train_loss", "train_accuracy"}


def test_every_linear_is_counted_aloud(whole, static):
    *_, said = whole(static)
    # 1 + 1 layers: 2 + 6 + 10 + 1.
    assert len(said) == 1 and "int8: 19 Linear layers fake-quantized" in said[0]
    assert ("ranges measured on 18 training clips" in said[0]) == static


# Resuming


class Killed(BaseException):
    """As sudden as a signal."""


@pytest.mark.parametrize("saves", [0, 1, 2, 4])
def test_an_interrupted_run_ends_with_the_same_bits(fit, whole, static, saves, monkeypatch):
    wanted, uninterrupted, _, _ = whole(static)
    done = 0

    def save(*arguments):
        nonlocal done
        if done == saves:
            raise Killed
        done += 1
        save_checkpoint(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(learner, "save_checkpoint", save)
        with pytest.raises(Killed):
            fit("stopped", static=static)
    results, stopped = fit("stopped", static=static, resume=True)
    assert results == wanted
    assert history(stopped) == history(uninterrupted)
    for name in ("best.safetensors", "last.safetensors"):
        assert bits(stopped / name) == bits(uninterrupted / name)


def test_a_run_is_resumed_from_the_same_start_only(fit, trained, tiny_clips, tmp_path):
    fit()
    with pytest.raises(
        ConfigError, match=r"another model: scheme was 'dynamic_int8' and is 'int8'"
    ):
        fit(static=True, resume=True)
    other = tmp_path / "other.safetensors"
    state = load_checkpoint(trained / "best.safetensors")
    save_checkpoint(
        dataclasses.replace(state, tensors={n: 2 * t for n, t in state.tensors.items()}), other
    )
    with pytest.raises(ConfigError, match="another model: checkpoint was"):
        fit(source=other, resume=True)
    with pytest.raises(ConfigError, match="another model: scheme was 'dynamic_int8' and is None"):
        config = load_checkpoint(tmp_path / "qat" / "last.safetensors").config
        train(tiny_clips, config, tmp_path / "qat", test_signers=["dan"], device="cpu", resume=True)
    with pytest.raises(ConfigError, match="already holds a run"):
        fit()


# Who is tested


def without_recordings(trained: Path, path: Path) -> Path:
    """As checkpoints were before they said what they were trained on."""
    state = load_checkpoint(trained / "best.safetensors")
    save_checkpoint(dataclasses.replace(state, progress={"epoch": 1}), path)
    return path


def test_whom_the_model_was_trained_on_is_not_tested(fit, trained, tmp_path):
    with pytest.raises(ConfigError, match=r"tested on dan and trained on the others"):
        fit(test_signers=["ben"])
    with pytest.raises(ConfigError, match=r"tested on dan"):
        fit(test_signers=[])
    assert not (tmp_path / "qat").exists()
    assert fit(test_signers=["dan"])[0]["test_signers"] == ["dan"]


def test_an_old_checkpoint_does_not_say_who_was_tested(fit, trained, tmp_path):
    old = without_recordings(trained, tmp_path / "old.safetensors")
    with pytest.raises(ConfigError, match=r"does not say which signers.*--test-signers"):
        fit(source=old)
    assert fit("one", source=old, test_signers=["dan"])[0]["test_signers"] == ["dan"]
    assert fit("none", source=old, test_signers=[])[0]["test_signers"] == []


def test_other_recordings_have_to_be_meant(fit, tiny_clips, tmp_path):
    fewer = ClipSet(tiny_clips.clips[:-1], tiny_clips.class_names)
    with pytest.raises(ConfigError, match=r"not those that .* \(35 clips here, 36 there"):
        fit(clips=fewer)
    assert not (tmp_path / "qat").exists()
    assert fit(clips=fewer, test_signers=["dan"])[0]["clips"]["test"] == 8


# Bad input


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("model.d_model=32", r"model.d_model=32: it is 16 in here"),
        ("data.max_frames=9", r"data.max_frames=9: it is 14"),
        ("train.seed=5", r"train.seed=5: it is 0"),
        ("train.val_signers=2", r"train.val_signers=2: it is 1"),
        ("train.lr=-1", r"train.lr is -1.0; it must be at least 0"),
        ("train.epochs=two", r"train.epochs must be int"),
        ("train.epoch=2", r"unknown key 'train.epoch'"),
    ],
)
def test_what_the_model_was_trained_with_stays(tiny_config, override, text):
    with pytest.raises(ConfigError, match=text):
        training_config(tiny_config, [override], source="here")


def test_other_settings_may_change(tiny_config):
    overrides = ["model.dropout=0.25", "augment.noise=0.5", "train.label_smoothing=0"]
    bf16 = dataclasses.replace(tiny_config.train, precision="bf16")
    tiny_config = dataclasses.replace(tiny_config, train=bf16)
    config = training_config(tiny_config, overrides, source="here")
    assert (config.model.dropout, config.augment.noise) == (0.25, 0.5)
    assert config.train.label_smoothing == 0
    assert config.train.precision == "float32", "bf16 would round what is on an int8 grid"


def test_other_classes_are_refused(fit, tiny_clips):
    others = dataclasses.replace(tiny_clips, class_names=("left", "right", "neither"))
    with pytest.raises(CheckpointError, match="other classes"):
        fit(clips=others)


def test_too_few_clips_to_calibrate_on(fit, monkeypatch, tmp_path):
    monkeypatch.setattr(calibration, "MIN_CLIPS", 100)
    with pytest.raises(ClipError, match="18 clips are too few to calibrate"):
        fit(static=True)
    assert not (tmp_path / "qat").exists()


def test_the_command(trained, recordings, tmp_path):
    process = subprocess.run(
        [
            sys.executable, "-m", "signbart_torch.qat", "--checkpoint",
            str(trained / "best.safetensors"), "--data", str(recordings),
            "--output", str(tmp_path / "qat"), "--epochs", "2", "--device", "cpu",
        ],
        cwd=REPOSITORY, env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    # What is said of the recordings is ours: they are random points. So is, on a busy machine, what
    # is being done, and since when.
    others = [
        line
        for line in process.stderr.splitlines()
        if not line.startswith("warning: ") and not re.search(r" \(\d+ s\)$", line)
    ]
    assert others == [], "a library speaks"
    for text in (
        "dynamic_int8: 19 Linear layers", "epoch 0/2  before training  val loss", "epoch 2/2  loss",
        "float32, before", f"wrote {tmp_path}/qat/best.safetensors", "bridge.convert",
    ):  # fmt: skip
        assert text in process.stdout
    config = load_checkpoint(tmp_path / "qat" / "best.safetensors").config.train
    assert (config.lr, config.batch_size, config.grad_clip, config.patience) == (5e-5, 4, 1.0, 10)
    assert (config.scheduler, config.warmup_epochs) == ("cosine", 0)


@pytest.mark.parametrize("case", ["no checkpoint", "two configs", "no config", "damaged", "data"])
def test_bad_input_is_one_line(
    trained, recordings, tmp_path, tiny_config, case, monkeypatch, capsys
):
    best, output = trained / "best.safetensors", tmp_path / "qat"
    yaml_file = tmp_path / "tiny.yaml"
    yaml_file.write_text(yaml.safe_dump(tiny_config.to_dict()))
    torch.save(load_checkpoint(best).tensors, tmp_path / "old.pth")
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    options, text = {
        "no checkpoint": (["--checkpoint", "/nowhere.safetensors"], "no checkpoint at /nowhere"),
        "two configs": (["--checkpoint", best, "--config", yaml_file], "carries its own config"),
        "no config": (["--checkpoint", tmp_path / "old.pth"], "give the YAML file of its run"),
        "damaged": (["--checkpoint", tmp_path / "bad.safetensors"], "is no checkpoint"),
        "data": (["--checkpoint", best, "--data", "/nowhere.npz"], "/nowhere.npz"),
    }[case]
    arguments = ["qat", "--data", recordings, "--output", output, *options]
    monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
    with pytest.raises(SystemExit) as ended:
        run_command(qat.main)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("error: ") and text in said
    assert said.count("\n") == 1 and not output.exists()


def test_a_pth_needs_its_configuration_and_the_test_signers(
    trained, recordings, tmp_path, tiny_config
):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_config.to_dict()))
    torch.save(dict(load_checkpoint(trained / "best.safetensors").tensors), tmp_path / "old.pth")
    arguments = [
        "--checkpoint", str(tmp_path / "old.pth"), "--config", str(tmp_path / "tiny.yaml"),
        "--data", str(recordings), "--output", str(tmp_path / "qat"), "--epochs", "1",
        "--device", "cpu",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="--test-signers"):
        qat.main(arguments)
    assert qat.main([*arguments, "--test-signers", "dan"]) == 0
    results = json.loads((tmp_path / "qat" / "results.json").read_text())
    before = json.loads((trained / "results.json").read_text())
    assert results["start"]["plain"]["test"] == before["test"]
    config = load_checkpoint(tmp_path / "qat" / "best.safetensors").config
    assert isinstance(config, RunConfig) and config.model.num_labels == 3


def test_a_checkpoint_that_does_not_fit_is_refused(fit, trained, tmp_path):
    state = load_checkpoint(trained / "best.safetensors")
    tensors = dict(list(state.tensors.items())[1:])
    short = Checkpoint(tensors, state.config, state.class_names, state.progress)
    with pytest.raises(CheckpointError, match="missing: "):
        fit(checkpoint=short)
    assert not (tmp_path / "qat").exists()


@pytest.mark.slow
def test_it_learns_back_what_coarse_weights_lost(fit, trained, tiny_clips, tmp_path):
    """One huge weight a row leaves the others few steps: rounding hurts, and training mends it."""
    state = load_checkpoint(trained / "best.safetensors")
    rng = np.random.default_rng(0)
    tensors = {name: tensor.clone() for name, tensor in state.tensors.items()}
    for name, tensor in tensors.items():
        if "fc2.weight" in name:
            tensor[:, rng.integers(tensor.shape[1])] += 30 * tensor.abs().max()
    coarse = tmp_path / "coarse.safetensors"
    save_checkpoint(dataclasses.replace(state, tensors=tensors), coarse)
    rows = []
    fit(overrides=["train.epochs=10"], source=coarse, report=rows.append)
    assert min(row["val_loss"] for row in rows) < 0.8 * rows[0]["val_loss"]

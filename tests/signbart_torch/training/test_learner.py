"""Training: it learns, the same command gives the same bits, and no interruption changes them."""

import csv
import dataclasses
import functools
import inspect
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional as F

from signbart import batches
from signbart.batches import prepare_clips
from signbart.configuration.reading import from_dict, load_config
from signbart.configuration.schema import TrainConfig
from signbart.errors import CheckpointError, ClipError, ConfigError, SignBartError
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips
from signbart.training import lifecycle, run_folder
from signbart.training.run_folder import write_text
from signbart.training.schedule import learning_rate
from signbart.waiting import stage
from signbart_torch.training import learner
from signbart_torch.training.averaging import WeightAverage
from signbart_torch.training.checkpoint import load_checkpoint, load_model, save_checkpoint
from signbart_torch.training.learner import TorchLearner, predict, train
from signbart_torch.training.objective import Objective

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def fit(tiny_clips, tiny_config, tmp_path):
    """`fit("name", config)` trains on three signers and tests on the fourth: results, folder."""

    def run(name="run", config=tiny_config, **options):
        options = {"test_signers": ["dan"], "device": "cpu", **options}
        results = train(options.pop("clips", tiny_clips), config, tmp_path / name, **options)
        return results, tmp_path / name

    return run


@pytest.fixture(scope="module")
def whole(tiny_clips, tiny_config, tmp_path_factory):
    """`whole(config)`: what `fit` does with it, once for all tests: results, folder."""

    @functools.cache
    def run(config=tiny_config):
        folder = tmp_path_factory.mktemp("whole") / "run"
        return train(tiny_clips, config, folder, test_signers=["dan"], device="cpu"), folder

    return run


def bits(path: Path) -> dict[str, bytes]:
    """Every tensor of a checkpoint, the optimizer's included."""
    checkpoint = load_checkpoint(path)
    return {
        name: tensor.numpy().tobytes()
        for part in (checkpoint.tensors, checkpoint.optimizer)
        for name, tensor in part.items()
    }


def history(folder: Path) -> list[dict[str, float]]:
    """summary.csv, less the times."""
    with open(folder / "summary.csv", encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def assert_same_run(one: Path, other: Path) -> None:
    assert bits(one / "last.safetensors") == bits(other / "last.safetensors")
    assert bits(one / "best.safetensors") == bits(other / "best.safetensors")
    assert history(one) == history(other)


def test_it_learns_what_there_is_to_learn_and_nothing_else(fit, with_train, tiny_clips):
    config = with_train(epochs=30)
    results, _ = fit("signs", config)
    # Nine clips of a signer it never saw, three classes: chance is 33 %.
    assert results["test"]["accuracy"] >= 85
    labels = np.random.default_rng(0).permutation(tiny_clips.labels)
    clips = tuple(
        dataclasses.replace(clip, label=int(label))
        for clip, label in zip(tiny_clips.clips, labels, strict=True)
    )
    results, _ = fit("shuffled", config, clips=dataclasses.replace(tiny_clips, clips=clips))
    assert results["test"]["accuracy"] <= 67


def test_who_waits_is_told_the_epoch_and_the_step(fit, with_train, monkeypatch, capsys):
    monkeypatch.setattr("signbart.waiting.SILENCE", 0.0)
    evaluated = TorchLearner.evaluate

    def evaluate(self, data):
        with stage("validating"):  # anything that takes long within an epoch
            return evaluated(self, data)

    monkeypatch.setattr(TorchLearner, "evaluate", evaluate)
    fit(config=with_train(epochs=2))
    said = capsys.readouterr().err
    assert re.search(r"epoch 2 of 2, step \d+ of \d+, \d+ s left: validating \(", said)
    assert "evaluating the best epoch (" in said


def test_the_same_run_twice_gives_the_same_bits(fit, whole, with_train):
    (first, one), (second, other) = whole(), fit("other")
    assert_same_run(one, other)
    assert first == second
    _, seeded = fit("seeded", with_train(seed=1))
    assert bits(seeded / "best.safetensors") != bits(one / "best.safetensors")


def test_a_mapped_set_trains_to_the_same_bits(fit, with_train, tiny_clips, tmp_path, monkeypatch):
    config = with_train(epochs=2)
    for name in ("loaded", "mapped"):
        write_packed(tiny_clips, tmp_path / f"{name}.npz", mapped=name == "mapped")
    wanted, loaded = fit("in memory", config, clips=read_clips(tmp_path / "loaded.npz"))
    # As of a set that is too large to be kept prepared.
    monkeypatch.setattr(batches, "_KEPT", 0)
    results, mapped = fit("on disk", config, clips=read_clips(tmp_path / "mapped.npz"))
    assert results == wanted
    assert_same_run(loaded, mapped)


# Averaged weights and mixed clips


def test_mixed_clips_have_the_loss_of_both_labels():
    config = from_dict({"train": {"label_smoothing": 0.1}}, source="test")
    objective = Objective(config, ["a", "b", "c"], torch.device("cpu"))
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    labels, partners = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 1, 0, 2])
    shares = torch.tensor([0.5, 0.7, 0.9, 1.0])
    targets = sum(
        share[:, None] * F.one_hot(of, 3)
        for share, of in ((shares, labels), (1 - shares, partners))
    )
    wanted = F.cross_entropy(logits, targets, label_smoothing=0.1, reduction="sum")
    found = objective(logits, labels, (partners, shares))
    assert found == pytest.approx(float(wanted), rel=1e-6)
    alone = objective(logits, labels)
    assert objective(logits, labels, (partners, torch.ones(4))) == pytest.approx(float(alone))
    assert abs(float(found - alone)) > 0.01


def test_the_average_is_what_is_saved_and_the_plain_weights_go_on(fit, whole, with_train):
    plain_results, plain = whole(with_train(epochs=3))
    results, averaged = fit("averaged", with_train(epochs=3, ema=0.9))
    # Training itself is the same, bit by bit.
    for row, other in zip(history(plain), history(averaged), strict=True):
        assert row["train_loss"] == other["train_loss"]
        assert row["val_loss"] == other["plain_val_loss"] != other["val_loss"]
    before, last, best = (
        load_checkpoint(folder / name)
        for folder, name in (
            (plain, "last.safetensors"),
            (averaged, "last.safetensors"),
            (averaged, "best.safetensors"),
        )
    )
    trained = [name for name in before.tensors if f"{name}/exp_avg" in before.optimizer]
    assert len(trained) > 20
    for name in trained:
        assert torch.equal(last.optimizer[f"{name}/plain"], before.tensors[name])
        assert not torch.equal(last.tensors[name], before.tensors[name])
    assert not best.optimizer
    assert results["last_plain"].keys() == {"val", "test"} and "last_plain" not in plain_results


def test_the_average_is_of_every_step_and_begins_fast():
    config = TrainConfig(ema=0.9)
    parameter = torch.nn.Parameter(torch.zeros(3))
    average, expected = WeightAverage([parameter], config), np.zeros(3)
    for step in range(200):
        with torch.no_grad():
            parameter.copy_(torch.tensor([1.0, step, -step]))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * np.array([1.0, step, -step])
    np.testing.assert_allclose(average.values[0].numpy(), expected, rtol=1e-5)
    kept = parameter.detach().clone()
    average.exchange()
    np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-5)
    average.exchange()
    assert torch.equal(parameter, kept)


class Killed(BaseException):
    """As sudden as a signal: no handler of Exception may swallow it."""


# Every third of the first 18 moments at which a file is about to be written: before config.yaml,
# best, last and summary.csv of several epochs.
@pytest.mark.parametrize("moment", range(0, 18, 3))
@pytest.mark.parametrize("scheduler", ["cosine", "plateau", "one_cycle"])
def test_an_interrupted_run_ends_with_the_same_bits(
    fit, whole, with_train, monkeypatch, moment, scheduler
):
    # A rate so high that the validation loss stagnates: the plateau's state has to matter.
    config = with_train(
        scheduler=scheduler, lr=0.1, plateau_factor=0.5, plateau_patience=1, epochs=8
    )
    if scheduler == "one_cycle":
        config = with_train(scheduler=scheduler, lr=0.1, epochs=8, mixup=0.4, ema=0.9)
    wanted, uninterrupted = whole(config)
    rates = [row["lr"] for row in history(uninterrupted)]
    assert rates[-1] < rates[1]
    writes = 0

    def counting(write):
        def counted(*arguments):
            nonlocal writes
            if writes == moment:
                raise Killed
            writes += 1
            write(*arguments)

        return counted

    with monkeypatch.context() as patched:
        patched.setattr(learner, "save_checkpoint", counting(save_checkpoint))
        for module in (lifecycle, run_folder):
            patched.setattr(module, "write_text", counting(write_text))
        with pytest.raises(Killed):
            fit("stopped", config)
    # --resume also starts a run of which nothing was written yet.
    results, stopped = fit("stopped", config, resume=True)
    assert results == wanted
    assert_same_run(uninterrupted, stopped)


def test_a_kill_between_the_two_checkpoints_of_the_best_epoch(fit, whole, with_train, monkeypatch):
    # Were `last` written first, the run would go on from it and the best epoch would be lost. At a
    # rate of 0 that is the first one, for certain.
    config = with_train(lr=0.0, epochs=3)
    wanted, uninterrupted = whole(config)
    assert wanted["best_epoch"] == 1
    saves = []

    def save(checkpoint, path):
        if checkpoint.progress["epoch"] == wanted["best_epoch"]:
            saves.append(path.name)
            if len(saves) == 2:
                raise Killed
        save_checkpoint(checkpoint, path)

    with monkeypatch.context() as patched:
        patched.setattr(learner, "save_checkpoint", save)
        with pytest.raises(Killed):
            fit("stopped", config)
    results, stopped = fit("stopped", config, resume=True)
    assert results == wanted
    assert_same_run(uninterrupted, stopped)


def test_resuming_repeats_no_finished_epoch(fit, monkeypatch):
    def stop_after_three(row):
        if row["epoch"] == 3:
            raise Killed

    with pytest.raises(Killed):
        fit(report=stop_after_three)
    epochs = []
    fit(resume=True, report=lambda row: epochs.append(row["epoch"]))
    assert epochs == [4, 5, 6]
    # A finished run is not touched again, and says the same.
    monkeypatch.setattr(lifecycle, "_Run", None)
    results, folder = fit(resume=True)
    assert results == json.loads((folder / "results.json").read_text())


def test_the_optimizer_is_part_of_what_is_resumed(fit, whole, tmp_path):
    # The negative control of the tests above: moments set to zero do change the bits.
    _, uninterrupted = whole()

    def stop(row):
        if row["epoch"] == 3:
            raise Killed

    with pytest.raises(Killed):
        fit("stopped", report=stop)
    path = tmp_path / "stopped" / "last.safetensors"
    state = load_checkpoint(path)
    optimizer = {
        name: tensor * 0 if name.endswith("exp_avg") else tensor
        for name, tensor in state.optimizer.items()
    }
    save_checkpoint(dataclasses.replace(state, optimizer=optimizer), path)
    _, stopped = fit("stopped", resume=True)
    assert bits(stopped / "last.safetensors") != bits(uninterrupted / "last.safetensors")
    del optimizer["projection.proj_x1.bias/step"]
    progress = {**state.progress, "finished": False}
    save_checkpoint(dataclasses.replace(state, optimizer=optimizer, progress=progress), path)
    with pytest.raises(CheckpointError, match=r"last\.safetensors lacks.*proj_x1\.bias/step"):
        fit("stopped", resume=True)


def test_an_existing_run_is_not_overwritten(fit, whole, tmp_path):
    folder = shutil.copytree(whole()[1], tmp_path / "run")
    before = bits(folder / "last.safetensors")
    with pytest.raises(ConfigError, match=r"run already holds a run; pass --resume"):
        fit()
    assert bits(folder / "last.safetensors") == before


def test_a_run_in_progress_is_left_alone(fit, with_train):
    """Two processes that go on with one run would write over each other's checkpoints."""
    refused = []

    def second(row):
        with pytest.raises(SignBartError, match="run: another process is writing there"):
            fit(config=with_train(epochs=2), resume=True)
        refused.append(row["epoch"])

    fit(config=with_train(epochs=2), report=second)
    assert refused == [1, 2]


@pytest.mark.parametrize(
    ("section", "change", "text"),
    [
        ("train", {"lr": 0.5}, "train.lr is 0.01 there and 0.5 now"),
        ("data", {"max_frames": 9}, "data.max_frames is 14 there and 9 now"),
        (None, {"name": "other"}, "name is 'tiny' there and 'other' now"),
    ],
)
def test_a_run_is_not_resumed_under_another_configuration(
    fit, whole, tiny_config, tmp_path, section, change, text
):
    shutil.copytree(whole()[1], tmp_path / "run")
    if section:
        change = {section: dataclasses.replace(getattr(tiny_config, section), **change)}
    with pytest.raises(ConfigError, match=text):
        fit(config=dataclasses.replace(tiny_config, **change), resume=True)


def test_a_run_is_not_resumed_on_other_classes(fit, whole, tiny_clips, tmp_path):
    shutil.copytree(whole()[1], tmp_path / "run")
    others = dataclasses.replace(tiny_clips, class_names=("left", "right", "neither"))
    with pytest.raises(ConfigError, match="other classes"):
        fit(clips=others, resume=True)


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_is_not_resumed_on_other_recordings_or_another_division(
    fit, whole, tiny_clips, finished, tmp_path
):
    folder = shutil.copytree(whole()[1], tmp_path / "run")
    if not finished:
        (folder / "results.json").unlink()
    with pytest.raises(ConfigError, match=r"another division.*test_signers was \['dan'\]"):
        fit(test_signers=["anna"], resume=True)
    moved = dataclasses.replace(tiny_clips.clips[0], landmarks=tiny_clips.clips[0].landmarks + 0.01)
    others = dataclasses.replace(tiny_clips, clips=(moved, *tiny_clips.clips[1:]))
    with pytest.raises(ConfigError, match=r"other recordings.*fingerprint"):
        fit(clips=others, resume=True)
    fit(resume=True)


def test_the_optimizer_is_where_the_model_is():
    # Nothing here has a GPU; what can go wrong is the order: state made before the parameters move.
    source = inspect.getsource(TorchLearner.__init__)
    assert source.index(".to(workers.device)") < source.index("make_optimizer(")


def test_the_output_must_be_able_to_be_a_folder(fit, tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(SignBartError, match="cannot be made a folder"):
        fit()


def test_recordings_must_fit_the_configuration(fit, tiny_config):
    model = dataclasses.replace(tiny_config.model, num_labels=4)
    with pytest.raises(ConfigError, match=r"num_labels is 4, but the recordings have 3 classes"):
        fit(config=dataclasses.replace(tiny_config, model=model))
    with pytest.raises(ClipError, match="no clips by signer 'eve'"):
        fit(test_signers=["eve"])
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device"):
            fit(device="cuda")


# The learning rate


@pytest.mark.parametrize(
    ("scheduler", "step", "expected"),
    [
        # 2 epochs of 5 steps each warm up, 8 epochs follow.
        ("cosine", 0, 0.1),
        ("cosine", 4, 0.5),
        ("cosine", 9, 1.0),
        ("cosine", 10, 1.0),
        ("cosine", 30, 0.5),
        ("cosine", 49, 0.5 * (1 + math.cos(math.pi * 39 / 40))),
        ("constant", 4, 0.5),
        ("constant", 49, 1.0),
        ("plateau", 4, 0.5),
        ("plateau", 10, None),
        ("plateau", 49, None),
    ],
)
def test_learning_rate(scheduler, step, expected):
    config = TrainConfig(lr=1.0, epochs=10, warmup_epochs=2.0, scheduler=scheduler)
    found = learning_rate(config, step, steps_per_epoch=5)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-12))


@pytest.mark.parametrize(("epochs", "steps", "share"), [(10, 5, 0.15), (3, 7, 0.3), (1, 40, 0.05)])
def test_one_cycle_is_pytorchs(epochs, steps, share):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.3, total_steps=epochs * steps, pct_start=share
    )
    config = TrainConfig(lr=0.3, epochs=epochs, scheduler="one_cycle", warmup_share=share)
    rates = []
    for step in range(epochs * steps):
        rates.append(learning_rate(config, step, steps))
        assert rates[-1] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        theirs.step()
    assert max(rates) > 0.29 and rates[-1] < 1e-4


@pytest.mark.parametrize("epochs", [1, 2])
def test_one_cycle_of_hardly_a_step_stays_a_rate(epochs):
    for share in (0.0, 0.5):
        config = TrainConfig(lr=0.3, epochs=epochs, scheduler="one_cycle", warmup_share=share)
        assert all(0 < learning_rate(config, step, 1) <= 0.3 for step in range(epochs))


@pytest.mark.parametrize("scheduler", ["cosine", "plateau", "constant"])
def test_without_warm_up_the_first_step_has_the_full_rate(scheduler):
    config = TrainConfig(lr=0.3, epochs=2, warmup_epochs=0.0, scheduler=scheduler)
    assert learning_rate(config, 0, 5) == pytest.approx(0.3)


def test_plateau_lowers_the_rate_where_the_validation_loss_stagnates(fit, with_train):
    config = with_train(
        epochs=14, scheduler="plateau", plateau_factor=0.5, plateau_patience=1, lr=0.1
    )
    _, folder = fit(config=config)
    rate, best, bad, expected = 0.1, math.inf, 0, []
    for row in history(folder):
        expected.append(rate)
        if row["val_loss"] < best * (1 - 1e-4):  # PyTorch's threshold is relative
            best, bad = row["val_loss"], 0
        else:
            bad += 1
        if bad > 1:
            rate, bad = rate * 0.5, 0
    assert [row["lr"] for row in history(folder)] == pytest.approx(expected)
    assert expected[-1] < 0.1, "the rate never fell: the test shows nothing"


# What is kept


def test_the_best_epoch_is_kept(fit, with_train, tiny_clips):
    results, folder = fit(config=with_train(epochs=12))
    rows = history(folder)
    keys = [(row["val_accuracy"], -row["val_loss"]) for row in rows]
    best = keys.index(max(keys))
    assert results["best_epoch"] == best + 1
    model, config, labels = load_model(folder / "best.safetensors")
    assert labels == tiny_clips.class_names
    val = prepare_clips(
        tiny_clips.select(i for i, s in enumerate(tiny_clips.signers) if s == "anna"), config
    )
    logits = predict(model, val, config, torch.device("cpu"))
    loss = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(val.labels))
    assert float(loss) == pytest.approx(rows[best]["val_loss"], rel=1e-5)
    accuracy = 100 * (logits.argmax(1) == val.labels).mean()
    assert accuracy == pytest.approx(rows[best]["val_accuracy"])
    assert results["val"]["accuracy"] == pytest.approx(accuracy, abs=1e-3)
    others = [row["val_loss"] for at, row in enumerate(rows) if at != best]
    assert min(abs(float(loss) - other) for other in others) > 1e-4


def test_training_stops_where_nothing_improves(fit, with_train):
    # A rate of 0 never improves on the first epoch.
    results, folder = fit(config=with_train(epochs=50, lr=0.0, patience=3))
    assert (results["epochs"], results["best_epoch"]) == (4, 1)
    assert len(history(folder)) == 4
    assert load_checkpoint(folder / "last.safetensors").progress["finished"]


def test_without_validation_clips_the_last_epoch_is_the_best(fit, with_train):
    results, folder = fit(config=with_train(epochs=4, val_signers=0, val_fraction=0.0))
    assert results["clips"] == {"train": 27, "val": 0, "test": 9}
    assert results["best_epoch"] == 4 and "val" not in results
    assert "val_loss" not in history(folder)[0]
    best, last = (load_checkpoint(folder / f"{name}.safetensors") for name in ("best", "last"))
    assert all(torch.equal(best.tensors[name], last.tensors[name]) for name in last.tensors)


def test_bf16_trains_float32_weights_to_about_the_same_loss(fit, whole, with_train):
    _, exact = whole()
    _, rough = fit("bf16", with_train(precision="bf16"))
    checkpoint = load_checkpoint(rough / "last.safetensors")
    assert {tensor.dtype for tensor in checkpoint.tensors.values()} == {torch.float32}
    losses = [[row["train_loss"] for row in history(folder)] for folder in (exact, rough)]
    assert losses[0] != losses[1], "bf16 changed nothing: it was not in use"
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_parts_of_a_step_add_up_to_the_whole(fit, whole, with_train, tiny_config):
    still = {
        name: 0.0
        for name in ("dropout", "activation_dropout", "attention_dropout", "classifier_dropout")
    }
    model = dataclasses.replace(tiny_config.model, **still)
    # 18 clips in batches of 8, 8 and 2: parts of 3, 3 and 2, and two of one clip.
    runs = [
        dataclasses.replace(with_train(mixup=0.4, accumulate=parts), model=model)
        for parts in (1, 3)
    ]
    (_, one), (_, other) = whole(runs[0]), fit("parts", runs[1])
    for row, parts in zip(history(one), history(other), strict=True):
        # Only the order of sums differs; a part too many or too few moves the loss by 1e-3.
        assert parts == pytest.approx(row, abs=1e-4)
    assert bits(one / "last.safetensors") != bits(other / "last.safetensors"), "there were no parts"


@pytest.mark.parametrize(
    ("changes", "text"),
    [({}, "none on cpu"), ({"accumulate": 2}, "none on cpu; train.accumulate is 2; set it to")],
)
def test_cuda_graphs_are_refused_where_there_are_none(fit, with_train, tmp_path, changes, text):
    with pytest.raises(ConfigError, match=f"train.cuda_graphs: there are {text}"):
        fit(config=with_train(cuda_graphs=True, **changes))
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_loss_that_explodes_leaves_the_last_checkpoint(fit, whole, tmp_path, monkeypatch):
    wanted, uninterrupted = whole()

    def exploding(config, step, steps_per_epoch):
        rate = learning_rate(config, step, steps_per_epoch)
        return rate if step < 2 * steps_per_epoch else 1e30

    with monkeypatch.context() as patched:
        patched.setattr(lifecycle, "learning_rate", exploding)
        with pytest.raises(
            ConfigError, match=r"training loss is (nan|inf) in epoch 3; lower train\.lr"
        ):
            fit("exploded")
    assert load_checkpoint(tmp_path / "exploded" / "last.safetensors").progress["epoch"] == 2
    results, folder = fit("exploded", resume=True)
    assert results == wanted
    assert_same_run(uninterrupted, folder)


def test_the_run_folder_says_what_was_done(fit, tiny_config, tiny_clips):
    results, folder = fit(data_name="where/it/is")
    assert sorted(os.listdir(folder)) == [
        "best.safetensors", "config.yaml", "evaluation", "last.safetensors", "results.json",
        "summary.csv", "tensorboard",
    ]  # fmt: skip
    model = dataclasses.replace(tiny_config.model, num_labels=3)
    used = dataclasses.replace(tiny_config, model=model)
    assert load_config(folder / "config.yaml") == used
    assert load_checkpoint(folder / "best.safetensors").config == used

    assert json.loads((folder / "results.json").read_text()) == results
    assert results["data"] == "where/it/is"
    assert results["clips"] == {"train": 18, "val": 9, "test": 9}
    assert (results["test_signers"], results["val_signers"]) == (["dan"], ["anna"])
    assert results["epochs"] == 6 and 1 <= results["best_epoch"] <= 6
    assert results["parameters"] == load_model(folder / "best.safetensors")[0].num_parameters
    assert results["test"].keys() == {"accuracy", "top5", "mean_class_accuracy"}

    rows = history(folder)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[0].keys() == {
        "epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_top5",
        "val_temperature",
    }  # fmt: skip
    steps = 3 * np.arange(1, 7) - 1  # 18 clips in batches of 8: three steps an epoch
    expected = [learning_rate(used.train, int(step), 3) for step in steps]
    assert [row["lr"] for row in rows] == pytest.approx(expected)


# The command


@pytest.fixture(scope="module")
def recordings(tmp_path_factory, tiny_clips, tiny_config) -> Path:
    """A folder with `tiny.npz` and `tiny.yaml`, as a user has them; 40 epochs."""
    folder = tmp_path_factory.mktemp("recordings")
    write_packed(tiny_clips, folder / "tiny.npz")
    train = dataclasses.replace(tiny_config.train, epochs=40)
    config = dataclasses.replace(tiny_config, train=train)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config.to_dict()))
    return folder


def train_command(recordings: Path, output: Path, *options: str) -> list[str]:
    return [
        "-m", "signbart_torch.train", "--config", str(recordings / "tiny.yaml"),
        "--data", str(recordings / "tiny.npz"), "--output", str(output),
        "--test-signers", "dan", "--device", "cpu", *options,
    ]  # fmt: skip


def start(command: list[str], **options) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, text=True, stdout=subprocess.PIPE, **options
    )


@pytest.fixture(scope="module")
def whole_run(recordings) -> tuple[Path, str]:
    """A run of the command that nobody disturbed, and what it printed."""
    folder = recordings / "whole"
    probe = (
        "import runpy, sys\n"
        "sys.argv = sys.argv[1:]\n"
        "try: runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\n"
        "finally: print('LOADED', *({'tensorflow', 'keras'} & sys.modules.keys()))"
    )
    process = start([sys.executable, "-c", probe, *train_command(recordings, folder)[1:]])
    output, _ = process.communicate(timeout=150)
    assert process.returncode == 0, output
    return folder, output


def test_the_command_prints_a_line_an_epoch_and_what_comes_next(whole_run):
    folder, output = whole_run
    lines = [line for line in output.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == [f"{epoch}/40" for epoch in range(1, 41)]
    assert f"wrote {folder}/best.safetensors" in output
    assert f"--checkpoint {folder}/best.safetensors" in output.replace("\n", " ")
    assert "\x1b" not in output, "colours in a pipe"


def test_tensorboard_is_written_without_tensorflow(whole_run):
    folder, output = whole_run
    events = list((folder / "tensorboard").glob("events.out.tfevents.*"))
    assert len(events) == 1
    content = events[0].read_bytes()
    assert b"train_loss" in content and b"val_accuracy" in content
    assert "LOADED" in output.splitlines(), "the training process imported TensorFlow or Keras"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--set", "train.epoch=3"], "train.epoch"),
        (["--set", "model.num_labels=5"], "num_labels is 5"),
        (["--data", "/nowhere.npz"], "/nowhere.npz"),
        (["--test-signers", "eve"], "eve"),
    ],
)
def test_a_user_error_is_one_error_that_says_what(recordings, tmp_path, options, text):
    from signbart_torch.train import main

    arguments = train_command(recordings, tmp_path / "run", *options)[2:]
    with pytest.raises((ConfigError, ClipError), match=text):
        main(arguments)
    assert not (tmp_path / "run" / "last.safetensors").exists()


@pytest.mark.slow
def test_kill_9_and_resume_ends_with_the_same_bits(recordings, whole_run):
    whole, _ = whole_run
    folder, rng = recordings / "killed", random.Random(0)
    seen, survived = [], []
    for kill_after in (3, 20, None):
        resume = ["--resume"] if seen else []
        process = start([sys.executable, *train_command(recordings, folder, *resume)])
        epochs = []
        for line in process.stdout:
            if not line.startswith("epoch "):
                continue
            epochs.append(int(line.split()[1].split("/")[0]))
            if kill_after is not None and epochs[-1] >= kill_after:
                time.sleep(
                    rng.uniform(0.0, 0.02)
                )  # an epoch takes about 30 ms, a third of it saves
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.close()
        assert process.wait(timeout=100) == (0 if kill_after is None else -signal.SIGKILL)
        assert epochs == list(range(epochs[0], epochs[0] + len(epochs)))
        assert epochs[0] == 1 if not seen else epochs[0] > seen[-1], "a finished epoch was repeated"
        seen += epochs
        if kill_after is not None:
            survived.append(load_checkpoint(folder / "last.safetensors").progress["epoch"])
    assert survived == sorted(set(survived)) and survived[0] >= 2
    assert_same_run(whole, folder)
    wanted, found = (json.loads((run / "results.json").read_text()) for run in (whole, folder))
    assert found == wanted

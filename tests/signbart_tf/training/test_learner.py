"""Training in Keras: it learns, both loops give the same bits, and no interruption changes them."""

import csv
import dataclasses
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional as F

from bridge.weights.port import build_original, build_twin
from signbart import batches
from signbart.batches import prepare_clips, training_batches
from signbart.configuration.reading import load_config
from signbart.configuration.schema import RunConfig
from signbart.errors import CheckpointError, ClipError, ConfigError, SignBartError
from signbart.files import write_text
from signbart.recordings.clip import ClipSet
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips
from signbart.training import lifecycle, run_folder
from signbart.training.metrics import cross_entropy
from signbart.training.schedule import learning_rate
from signbart_tf.models import layers_of
from signbart_tf.training import learner
from signbart_tf.training.checkpoint import load_checkpoint, load_model, save_checkpoint
from signbart_tf.training.data import training_dataset
from signbart_tf.training.learner import KerasLearner, Predictor, seed_dropout, train
from signbart_tf.training.loops import LOOPS
from signbart_tf.training.optimizer import AdamW
from signbart_torch.models.signbart.model import SignBart

REPOSITORY = Path(__file__).resolve().parents[3]


DATA = "where/it/is"


def changed(config: RunConfig, **settings) -> RunConfig:
    """The configuration with other values in its train section."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **settings))


@pytest.fixture(scope="module")
def stagnating(tiny_config) -> RunConfig:
    """A rate so high that the validation loss stagnates: the plateau's state has to matter."""
    return changed(tiny_config, scheduler="plateau", lr=0.2, plateau_factor=0.5, plateau_patience=1)


@pytest.fixture(scope="module")
def learning(tiny_config) -> RunConfig:
    """Enough epochs to learn in."""
    return changed(tiny_config, epochs=20)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory, made_clips, learning) -> Path:
    """A folder with `tiny.npz` and `tiny.yaml`, as a user has them."""
    folder = tmp_path_factory.mktemp("recordings")
    write_packed(made_clips, folder / "tiny.npz")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(learning.to_dict()))
    return folder


@pytest.fixture(scope="module")
def tiny_clips(recordings) -> ClipSet:
    """As read back: packing rounds landmarks, and other landmarks are other recordings."""
    return read_clips(recordings / "tiny.npz")


@pytest.fixture
def fit(tiny_clips, stagnating, tmp_path):
    """`fit("name", config)` trains on three signers and tests on the fourth: results, folder."""

    def run(name="run", config=stagnating, **options):
        options = {"test_signers": ["dan"], "device": "cpu", "data_name": DATA, **options}
        results = train(options.pop("clips", tiny_clips), config, tmp_path / name, **options)
        return results, tmp_path / name

    return run


@pytest.fixture(scope="module")
def whole(tiny_clips, stagnating, tmp_path_factory):
    """`whole(config)`: what `fit` does with it, once for all tests: results, folder."""

    @functools.cache
    def run(config=stagnating):
        folder = tmp_path_factory.mktemp("whole") / "run"
        options = {"test_signers": ["dan"], "device": "cpu", "data_name": DATA}
        return train(tiny_clips, config, folder, **options), folder

    return run


def bits(path: Path) -> dict[str, bytes]:
    """Every array of a .weights.h5 file, the optimizer's included, or of a .keras file."""
    if path.suffix == ".keras":
        return {
            str(i): v.numpy().tobytes() for i, v in enumerate(load_checkpoint(path).model.weights)
        }
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def history(folder: Path) -> list[dict[str, float]]:
    """summary.csv, less the times."""
    with open(folder / "summary.csv", encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("last.weights.h5", "best.keras"):
        assert len(bits(one / name)) > 40
        assert bits(one / name) == bits(other / name)
    assert history(one) == history(other)


def test_a_mapped_set_trains_to_the_same_bits(
    fit, tiny_config, tiny_clips, tmp_path, monkeypatch, eager_keras
):
    config = changed(tiny_config, epochs=2)
    write_packed(tiny_clips, tmp_path / "mapped.npz", mapped=True)
    with eager_keras():
        wanted, loaded = fit("in memory", config)
        # As of a set that is too large to be kept prepared.
        monkeypatch.setattr(batches, "_KEPT", 0)
        results, mapped = fit("on disk", config, clips=read_clips(tmp_path / "mapped.npz"))
    assert results == wanted
    assert_same_run(loaded, mapped)


class Killed(BaseException):
    """As sudden as a signal: no handler of Exception may swallow it."""


@pytest.mark.slow
def test_it_learns_what_there_is_to_learn(whole, learning):
    results, _ = whole(learning)
    # Nine clips of a signer it never saw, three classes: chance is 33 %.
    assert results["test"]["accuracy"] >= 85


@pytest.fixture(scope="module")
def interrupted(tiny_clips, stagnating, tmp_path_factory):
    """A run that was interrupted again and again, by either loop, and as it stood in between."""
    folder = tmp_path_factory.mktemp("interrupted") / "run"
    states = []

    def go_on(loop="fit"):
        try:
            options = {"test_signers": ["dan"], "device": "cpu", "data_name": DATA}
            return train(tiny_clips, stagnating, folder, resume=True, loop=loop, **options)
        finally:
            states.append(folder.with_name(f"{len(states)}"))
            shutil.copytree(folder, states[-1])

    def killed_when_about_to_write(name):
        def call(write):
            def called(*arguments, **options):
                if any(isinstance(a, Path) and a.name == name for a in arguments):
                    raise Killed
                return write(*arguments, **options)

            return called

        with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
            patched.setattr(learner, "save_checkpoint", call(save_checkpoint))
            for module in (lifecycle, run_folder):
                patched.setattr(module, "write_text", call(write_text))
            go_on()

    def exploding(config, step, steps_per_epoch):
        rate = learning_rate(config, step, steps_per_epoch)
        return rate if step < 2 * steps_per_epoch else 1e30

    # --resume also starts a run of which nothing was written yet.
    killed_when_about_to_write("config.yaml")
    # Best is there and last is not: the first epoch is repeated.
    killed_when_about_to_write("last.weights.h5")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lifecycle, "learning_rate", exploding)
        with pytest.raises(ConfigError, match=r"loss is (nan|inf) in epoch 3; lower train\.lr"):
            go_on("tape")
    return go_on(), states


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_bits_by_either_loop(whole, interrupted):
    wanted, uninterrupted = whole()
    rates = [row["lr"] for row in history(uninterrupted)]
    assert rates[-1] < rates[1], "the plateau's state does not matter"
    results, (nothing, first, exploded, ended) = interrupted
    assert os.listdir(nothing) == []
    assert sorted(os.listdir(first)) == ["best.keras", "config.yaml", "summary.csv", "tensorboard"]
    assert load_checkpoint(exploded / "last.weights.h5").progress["epoch"] == 2
    assert results == wanted
    assert_same_run(uninterrupted, ended)


@pytest.mark.slow
def test_the_optimizer_is_part_of_what_is_resumed(fit, whole, interrupted, tmp_path, monkeypatch):
    # The negative control of the test above: moments set to zero do change the bits.
    _, uninterrupted = whole()
    folder = shutil.copytree(interrupted[1][2], tmp_path / "stopped")
    path = folder / "last.weights.h5"
    with h5py.File(path, "a") as file:
        moments = file["optimizer/vars/2"]
        assert np.abs(moments[()]).max() > 0
        moments[...] = 0 * moments[()]
    epochs = []
    fit("stopped", resume=True, report=lambda row: epochs.append(row["epoch"]))
    assert epochs == [3, 4, 5, 6]
    assert bits(path) != bits(uninterrupted / "last.weights.h5")
    # A finished run is not touched again, and says the same.
    monkeypatch.setattr(lifecycle, "_Run", None)
    results, _ = fit("stopped", resume=True)
    assert results == json.loads((folder / "results.json").read_text())
    monkeypatch.undo()
    # What lacks the optimizer cannot be gone on with.
    with h5py.File(path, "a") as file:
        del file["optimizer/vars/7"]
    with pytest.raises(CheckpointError, match=r"last\.weights\.h5"):
        (folder / "results.json").unlink()
        fit("stopped", resume=True)


@pytest.mark.slow
def test_averages_and_mixed_clips_are_resumed_by_the_other_loop_with_the_same_bits(
    fit, tiny_config, tiny_clips, monkeypatch
):
    config = changed(tiny_config, epochs=3, mixup=0.4, ema=0.9, scheduler="one_cycle")
    wanted, whole = fit("whole", config)
    with monkeypatch.context() as patched, pytest.raises(Killed):

        def save(*arguments, **options):
            if arguments[3].name == "last.weights.h5" and options["progress"]["epoch"] == 2:
                raise Killed
            save_checkpoint(*arguments, **options)

        patched.setattr(learner, "save_checkpoint", save)
        fit("stopped", config)
    results, stopped = fit("stopped", config, resume=True, loop="tape")
    assert results == wanted and {"val", "test"} == results["last_plain"].keys()
    assert_same_run(whole, stopped)
    rows = history(whole)
    assert all(row["val_loss"] != row["plain_val_loss"] for row in rows)
    # The checkpoint's own model is the average.
    model, used, _ = load_model(whole / "last.weights.h5")
    val = prepare_clips(
        tiny_clips.select(i for i, s in enumerate(tiny_clips.signers) if s == "anna"), used
    )
    loss = cross_entropy(Predictor(model, used)(val), val.labels)
    assert loss == pytest.approx(rows[-1]["val_loss"], rel=1e-6)


def test_the_seed_decides_the_initial_weights(stagnating):
    config = dataclasses.replace(
        stagnating, model=dataclasses.replace(stagnating.model, num_labels=3)
    )

    def weights(seed):
        made = KerasLearner("fit", "/CPU:0", changed(config, seed=seed), "abc", None)
        return [v.numpy().tobytes() for v in made.model.trainable_variables]

    first = weights(0)
    assert weights(0) == first and weights(1) != first


@pytest.mark.slow
def test_the_run_folder_says_what_was_done(whole, learning, tiny_clips):
    config = learning
    results, folder = whole(config)
    assert sorted(os.listdir(folder)) == [
        "best.keras", "config.yaml", "evaluation", "last.weights.h5", "results.json",
        "summary.csv", "tensorboard",
    ]  # fmt: skip
    used = dataclasses.replace(config, model=dataclasses.replace(config.model, num_labels=3))
    assert load_config(folder / "config.yaml") == used
    assert json.loads((folder / "results.json").read_text()) == results
    assert results["data"] == DATA
    assert results["clips"] == {"train": 18, "val": 9, "test": 9}
    assert (results["test_signers"], results["val_signers"]) == (["dan"], ["anna"])
    assert results["parameters"] == SignBart(used.model).num_parameters
    rows = history(folder)
    steps = 3 * np.arange(1, 21) - 1  # 18 clips in batches of 8: three steps an epoch
    expected = [learning_rate(used.train, int(step), 3) for step in steps]
    assert [row["lr"] for row in rows] == pytest.approx(expected)

    keys = [(row["val_accuracy"], -row["val_loss"]) for row in rows]
    best = keys.index(max(keys))
    assert (results["epochs"], results["best_epoch"]) == (20, best + 1)
    model, found, labels = load_model(folder / "best.keras")
    assert (found, labels) == (used, tiny_clips.class_names)
    val = prepare_clips(
        tiny_clips.select(i for i, s in enumerate(tiny_clips.signers) if s == "anna"), used
    )
    logits = Predictor(model, used)(val)
    assert cross_entropy(logits, val.labels) == pytest.approx(rows[best]["val_loss"], rel=1e-6)
    accuracy = 100 * (logits.argmax(1) == val.labels).mean()
    assert results["val"]["accuracy"] == pytest.approx(accuracy, abs=1e-3)
    others = [row["val_loss"] for at, row in enumerate(rows) if at != best]
    assert min(abs(rows[best]["val_loss"] - other) for other in others) > 1e-5

    [events] = (folder / "tensorboard").glob("events.out.tfevents.*")
    assert b"train_loss" in events.read_bytes() and b"val_accuracy" in events.read_bytes()
    # Keras opens both checkpoints itself, and what is going on in training is in neither's way.
    for path in (folder / "best.keras", folder / "last.weights.h5"):
        assert load_checkpoint(path).progress["epoch"] == (best + 1 if "best" in path.name else 20)
    assert not keras.saving.load_model(folder / "best.keras").compiled


@pytest.mark.slow
def test_an_existing_run_is_not_overwritten_nor_taken_for_another(
    fit, whole, stagnating, tiny_clips, tmp_path
):
    folder = shutil.copytree(whole()[1], tmp_path / "run")
    before = bits(folder / "last.weights.h5")
    with pytest.raises(ConfigError, match=r"run already holds a run; pass --resume"):
        fit()
    with pytest.raises(ConfigError, match=r"train.lr is 0.2 there and 0.5 now"):
        fit(config=changed(stagnating, lr=0.5), resume=True)
    with pytest.raises(ConfigError, match=r"another division.*test_signers was \['dan'\]"):
        fit(test_signers=["anna"], resume=True)
    from signbart_torch.training.learner import train as train_in_pytorch

    with pytest.raises(ConfigError, match=r"trained in Keras \(last.weights.h5\), not in PyT"):
        train_in_pytorch(tiny_clips, stagnating, folder, resume=True, device="cpu")
    assert bits(folder / "last.weights.h5") == before


def test_a_folder_of_pytorchs_is_left_alone(fit, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.safetensors").write_bytes(b"weeks of work")
    for resume in (False, True):
        with pytest.raises(ConfigError, match="holds a run"):
            fit(resume=resume)
    assert os.listdir(tmp_path / "run") == ["last.safetensors"]


def test_what_cannot_be_trained_is_said_before_anything_is_written(fit, with_train, tiny_config):
    model = dataclasses.replace(tiny_config.model, num_labels=4)
    with pytest.raises(ConfigError, match=r"num_labels is 4, but the recordings have 3 classes"):
        fit(config=dataclasses.replace(tiny_config, model=model))
    with pytest.raises(ClipError, match="no clips by signer 'eve'"):
        fit(test_signers=["eve"])
    with pytest.raises(
        ConfigError,
        match="is bf16, which signbart_tf does not train in",
    ):
        fit(config=with_train(precision="bf16"))
    with pytest.raises(ConfigError, match=r"train\.accumulate is 2, .* set it to 1"):
        fit(config=with_train(accumulate=2))
    with pytest.raises(ConfigError, match=r"train\.cuda_graphs is true, .* set it to false"):
        fit(config=with_train(cuda_graphs=True))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device"):
            fit(device="cuda")


def test_the_output_must_be_able_to_be_a_folder(fit, tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(SignBartError, match="cannot be made a folder"):
        fit()


def test_dropout_depends_on_seed_and_epoch_alone(twin):
    layers = [layer for layer in layers_of(twin, keras.layers.Dropout) if layer.rate]
    assert len(layers) == 2 + 3 * 3 + 2 * 4 + 1

    def states(*parts):
        seed_dropout(twin, *parts)
        return [tuple(layer.seed_generator.state.numpy()) for layer in layers]

    first = states(0, 0)
    for layer in layers:
        layer.seed_generator.next()
    assert states(0, 0) == first
    assert len({*first, *states(0, 1), *states(1, 0)}) == 3 * len(layers)


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
def test_an_epoch_is_an_epoch_of_pytorch(tiny_clips, with_train, loop):
    """From the same weights, dropout off: the same batches, rates, losses; weights to rounding."""
    config = with_train(epochs=3, lr=1e-3)
    names = ("dropout", "activation_dropout", "attention_dropout", "classifier_dropout")
    changes = {**dict.fromkeys(names, 0.0), "num_labels": 3}
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, **changes))
    data = prepare_clips(tiny_clips, config)
    steps = -(-len(data) // config.train.batch_size)
    torch.manual_seed(0)
    model = SignBart(config.model)
    twin = build_twin(model)

    optimizer = AdamW(config.train)
    optimizer.build(twin.trainable_variables)
    keras_loop = LOOPS[loop](twin, optimizer, config)
    theirs = torch.optim.AdamW(model.parameters(), weight_decay=config.train.weight_decay)
    for epoch in range(2):

        def rate_of(step, epoch=epoch):
            return learning_rate(config.train, step + epoch * steps, steps)

        loss, _ = keras_loop.run_epoch(
            training_dataset(data, config, epoch),
            lambda step, rate_of=rate_of: optimizer.learning_rate.assign(rate_of(step)),
        )
        total = 0.0
        for step, batch in enumerate(training_batches(data, config, epoch)):
            theirs.param_groups[0]["lr"] = rate_of(step)
            theirs.zero_grad()
            mean = F.cross_entropy(
                model(torch.from_numpy(batch.keypoints), torch.from_numpy(batch.attention_mask)),
                torch.from_numpy(batch.labels),
                label_smoothing=config.train.label_smoothing,
            )
            mean.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.train.grad_clip)
            theirs.step()
            total += float(mean.detach()) * len(batch.labels)
        assert loss == pytest.approx(total / len(data), abs=1e-5)
    for name, tensor in build_original(twin).state_dict().items():
        if "k_proj.bias" not in name:  # softmax is blind to it: see test_optimization
            assert (tensor - model.state_dict()[name]).abs().max() < 1e-4, name


# The command


def start(recordings: Path, output: Path, *options: str) -> subprocess.Popen:
    command = [
        sys.executable, "-m", "signbart_tf.train", "--config", str(recordings / "tiny.yaml"),
        "--data", str(recordings / "tiny.npz"), "--output", str(output),
        "--test-signers", "dan", "--device", "cpu", *options,
    ]  # fmt: skip
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.slow
def test_kill_9_and_resume_ends_with_the_same_bits(recordings, whole, learning):
    wanted, uninterrupted = whole(learning)
    killed = recordings / "killed"
    process, said = start(recordings, killed), []
    for line in process.stdout:
        if line.startswith("epoch "):
            said.append(line.split()[1])
        if line.startswith("epoch 9/"):
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=100) == -signal.SIGKILL
    process = start(recordings, killed, "--resume", "--loop", "tape")
    output, errors = process.communicate(timeout=150)
    assert process.returncode == 0, errors
    # Random landmarks stand in no known order, which a line of our own says, as it says on a busy
    # machine what is being done.
    ours = "warning: ", "loading TensorFlow (", "epoch "
    others = [line for line in errors.splitlines() if not line.startswith(ours)]
    assert others == [], "TensorFlow's chatter is not the user's"
    resumed = [line.split()[1] for line in output.splitlines() if line.startswith("epoch ")]
    # What was printed before the kill may have been more than was read.
    first = int(resumed[0].split("/")[0])
    assert said == [f"{epoch}/20" for epoch in range(1, 10)] and first >= 10
    assert resumed == [f"{epoch}/20" for epoch in range(first, 21)]
    assert f"wrote {killed}/best.keras" in output
    assert f"--checkpoint {killed}/best.keras" in output.replace("\n", " ")
    assert "\x1b" not in output, "colours in a pipe"
    assert_same_run(uninterrupted, killed)
    found = json.loads((killed / "results.json").read_text())
    assert found == {**wanted, "data": str(recordings / "tiny.npz")}


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
    from signbart_tf.train import main

    with pytest.raises((ConfigError, ClipError), match=text):
        main(
            [
                "--config", str(recordings / "tiny.yaml"), "--data", str(recordings / "tiny.npz"),
                "--output", str(tmp_path / "run"), "--test-signers", "dan", *options,
            ]
        )  # fmt: skip
    assert not (tmp_path / "run").exists()

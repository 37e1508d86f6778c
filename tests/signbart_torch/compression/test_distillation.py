"""Distillation: an ordinary run that learns from labels and from what teachers say of its clips."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from signbart.batches import evaluation_rows, prepare_clips, training_batches
from signbart.configuration.reading import from_dict
from signbart.console import run_command
from signbart.errors import CheckpointError, ConfigError
from signbart.files import file_sha256
from signbart.recordings.clip import ClipSet
from signbart.recordings.packed import write_packed
from signbart.training.distillation import Settings
from signbart.training.seen import seen_by
from signbart.training.warm_start import Init
from signbart_torch import distill
from signbart_torch.compression.distillation import Distillation, Teacher, train_distilled
from signbart_torch.training import data, learner
from signbart_torch.training.checkpoint import load_checkpoint, load_model, save_checkpoint
from signbart_torch.training.learner import predict, train

CPU = torch.device("cpu")


def with_depth(config, **model):
    """A ConvSignBART of x, y and z, whose clips turn through their depth."""
    values = config.to_dict()
    values["model"] = {
        "kind": "conv_signbart", "joint_idx": values["model"]["joint_idx"], "d_model": 16,
        "blocks_before": 1, "blocks_after": 1, "kernel_size": 3, "attention_heads": 2,
        "ffn_dim": 20, "max_position_embeddings": 20, "coordinates": 3, **model,
    }  # fmt: skip
    values["augment"]["yaw_degrees"] = 20
    return from_dict(values, source="tests")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, made_clips, tiny_config) -> dict[str, Path]:
    """Teachers who never saw dan: SignBART, and a ConvSignBART with depth."""
    folder = tmp_path_factory.mktemp("teachers")
    for name, config in {"signbart": tiny_config, "conv": with_depth(tiny_config)}.items():
        train(made_clips, config, folder / name, test_signers=["dan"], device="cpu")
    return {name: folder / name / "best.safetensors" for name in ("signbart", "conv")}


@pytest.fixture
def student(tiny_config):
    """SignBART of x and y, of clips that turn through their depth and are mixed."""
    return dataclasses.replace(
        tiny_config,
        augment=dataclasses.replace(tiny_config.augment, yaw_degrees=20.0),
        train=dataclasses.replace(tiny_config.train, epochs=3, mixup=0.5, cutmix=0.3, ema=0.9),
    )


@pytest.fixture
def fit(tiny_clips, trained, student, tmp_path):
    """`fit("name", weight=1)` distils the ConvSignBART into `student`: results, folder."""

    def run(name="run", *, config=student, teachers=("conv",), **options):
        asked = {key: options.pop(key) for key in ("weight", "allow_seen") if key in options}
        options = {"test_signers": ["dan"], "device": "cpu", **options}
        clips = options.pop("clips", tiny_clips)
        paths = [trained.get(teacher, teacher) for teacher in teachers]
        settings = Settings(**asked)
        found = train_distilled(
            clips, config, tmp_path / name, teachers=paths, settings=settings, **options
        )
        return found, tmp_path / name

    return run


def bits(path: Path) -> dict[str, bytes]:
    checkpoint = load_checkpoint(path)
    tensors = {**checkpoint.tensors, **{f"o/{k}": v for k, v in checkpoint.optimizer.items()}}
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def changed(source: Path, path: Path, **values) -> Path:
    """A checkpoint with another configuration, other labels or another progress."""
    save_checkpoint(dataclasses.replace(load_checkpoint(source), **values), path)
    return path


# The loss


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits.astype(np.float64))
    return exponents / exponents.sum(axis=1, keepdims=True)


def teachers_of(trained) -> list[Teacher]:
    models = [load_model(path) for path in trained.values()]
    # The second one has its classes in another order.
    orders = ([0, 1, 2], [2, 0, 1])
    return [Teacher(m, config, order) for (m, config, _), order in zip(models, orders, strict=True)]


def test_the_loss_is_that_of_numpy(trained, tiny_clips, student):
    """With two teachers, of which one sees the third coordinate of the very same mixed clips."""
    teachers = teachers_of(trained)
    prepared = prepare_clips(tiny_clips, student)
    batch = data._tensors(next(training_batches(prepared, student, 0)))
    assert batch.mixed is not None and batch.keypoints.shape[-1] == 2
    logits = torch.randn(len(batch.labels), 3, generator=torch.Generator().manual_seed(1))
    answers = [teacher(batch.rows).detach().numpy() for teacher in teachers]
    with torch.no_grad():  # SignBART takes what the student takes
        own = teachers[0].model(batch.keypoints, batch.attention_mask)
    np.testing.assert_array_equal(answers[0], own.numpy())
    target = np.mean([softmax(answer / 3) for answer in answers], axis=0)
    divergence = (target * (np.log(target) - np.log(softmax(logits.numpy() / 3)))).sum()
    loss = Distillation(teachers, Settings(weight=0.25, temperature=3))
    found = loss(torch.tensor(5.0), logits, batch)
    assert float(found) == pytest.approx(0.75 * 5 + 0.25 * 9 * divergence, rel=1e-5)
    swapped = Distillation(teachers[:1], Settings(weight=0.25, temperature=3))
    assert float(swapped(torch.tensor(5.0), logits, batch)) != pytest.approx(float(found), rel=1e-3)


def test_a_teacher_sees_its_own_inputs_of_the_same_clips(trained, tiny_clips, student):
    """Clips as they are: what it says of the student's rows is what it says of the recordings."""
    model, config, _ = load_model(trained["conv"])
    wanted = predict(model, prepare_clips(tiny_clips, config), config, CPU)
    teacher = Teacher(model, config, [2, 0, 1])
    for rows in evaluation_rows(prepare_clips(tiny_clips, student), student):
        with torch.no_grad():
            found = teacher(rows).numpy()
        np.testing.assert_allclose(found, wanted[rows.indices][:, [2, 0, 1]], atol=1e-6)


# What comes out


def test_the_result_is_an_ordinary_run(fit, trained, student):
    said = []
    results, folder = fit(teachers=("conv", "signbart"), announce=said.append)
    identity = {
        "checkpoints": [file_sha256(trained[name]) for name in ("conv", "signbart")],
        "weight": 0.7,
        "temperature": 2.0,
    }
    after = load_checkpoint(folder / "best.safetensors")
    assert after.progress["teachers"] == results["teachers"] == identity
    assert after.progress["recordings"]["test_signers"] == ["dan"] and not after.optimizer
    assert {*os.listdir(folder)} == {*os.listdir(trained["conv"].parent)}
    assert results == json.loads((folder / "results.json").read_text())
    model, config, labels = load_model(folder / "best.safetensors")
    assert config.kind == student.kind and labels == ("left", "right", "both")
    assert model.state_dict().keys() == after.tensors.keys()
    assert said[0].count("\nteacher ") == 2


def test_at_weight_one_labels_are_not_learned(fit, tiny_clips, student):
    """Which would otherwise change every weight."""
    wrong = ClipSet(
        tuple(dataclasses.replace(c, label=(c.label + 1) % 3) for c in tiny_clips.clips),
        tiny_clips.class_names,
    )
    plain = dataclasses.replace(student.train, mixup=0.0, cutmix=0.0, epochs=2, val_signers=0)
    config = dataclasses.replace(
        student, train=dataclasses.replace(plain, val_fraction=0.0, ema=0.0)
    )
    last = {}
    for weight in (1.0, 0.7):
        for name, clips in (("right", tiny_clips), ("wrong", wrong)):
            options = {"weight": weight, "config": config, "clips": clips}
            _, folder = fit(f"{name}_{weight}", **options)
            last[name, weight] = bits(folder / "last.safetensors")
    assert last["right", 1.0] == last["wrong", 1.0]
    assert last["right", 0.7] != last["wrong", 0.7]


def test_distilled_from_itself_it_keeps_its_answers(fit, trained, tiny_clips, tiny_config):
    model, config, _ = load_model(trained["signbart"])
    values = dataclasses.replace(config.train, epochs=2, lr=1e-4, weight_decay=0.0, val_signers=0)
    model_of = {"dropout": 0.0, "activation_dropout": 0.0, "attention_dropout": 0.0}
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **model_of, classifier_dropout=0.0),
        train=dataclasses.replace(values, val_fraction=0.0),
    )
    init = Init(trained["signbart"])
    rows = []
    _, folder = fit(
        config=config, teachers=("signbart",), weight=1.0, init=init, report=rows.append
    )
    again, _, _ = load_model(folder / "best.safetensors")
    clips = prepare_clips(tiny_clips, config)
    before, after = (predict(m, clips, config, CPU) for m in (model, again))
    np.testing.assert_allclose(after, before, atol=0.05)
    assert max(row["train_loss"] for row in rows if row["epoch"]) < 1e-3
    assert load_checkpoint(folder / "best.safetensors").progress["start"]


# Resuming


class Killed(BaseException):
    """As sudden as a signal."""


def test_an_interrupted_run_ends_with_the_same_bits(fit, monkeypatch):
    wanted, uninterrupted = fit("whole")
    saves = 0

    def save(*arguments):
        nonlocal saves
        if saves == 3:
            raise Killed
        saves += 1
        save_checkpoint(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(learner, "save_checkpoint", save)
        with pytest.raises(Killed):
            fit("stopped")
    results, stopped = fit("stopped", resume=True)
    assert results == wanted
    for name in ("best.safetensors", "last.safetensors"):
        assert bits(stopped / name) == bits(uninterrupted / name)


def test_a_run_is_resumed_with_the_same_teachers_only(fit, tiny_clips, student, tmp_path):
    fit()
    with pytest.raises(ConfigError, match=r"distilled otherwise: weight was 0.7 and is 0.5"):
        fit(weight=0.5, resume=True)
    with pytest.raises(ConfigError, match=r"distilled otherwise: checkpoints was"):
        fit(teachers=("conv", "signbart"), resume=True)
    with pytest.raises(ConfigError, match=r"distilled otherwise: checkpoints was .* is None now"):
        folder = tmp_path / "run"
        train(tiny_clips, student, folder, test_signers=["dan"], device="cpu", resume=True)


# What is refused


def test_a_teacher_that_knows_the_test_signers(fit, trained, tmp_path):
    with pytest.raises(ConfigError, match=r"may have been trained on ben, .*--allow-seen"):
        fit(test_signers=["ben", "dan"])
    silent = changed(trained["conv"], tmp_path / "silent.safetensors", progress={"epoch": 1})
    with pytest.raises(ConfigError, match=r"trained on dan"):
        fit(teachers=(silent,))
    assert not (tmp_path / "run").exists()
    said = []
    results, folder = fit(test_signers=["ben"], allow_seen=True, announce=said.append)
    assert "\nwarning: " in said[0] and "trained on ben" in said[0]
    assert results["teachers"]["seen"] == ["ben"]
    # Nor does the student, which says that it was tested on ben, teach a further one unasked.
    with pytest.raises(ConfigError, match=r"trained on ben"):
        fit("next", teachers=(folder / "best.safetensors",), test_signers=["ben"])


def test_clips_that_are_marked_for_testing(tiny_clips, trained):
    marked = tuple(
        dataclasses.replace(clip, split="test" if clip.signer == "dan" else "train")
        for clip in tiny_clips.clips
    )
    marked = ClipSet(marked, tiny_clips.class_names)
    teacher = load_checkpoint(trained["conv"])
    assert seen_by(teacher, marked, ["dan"]) == []
    assert seen_by(teacher, marked, []) == ["the clips marked test"]
    recordings = {"fingerprint": marked.fingerprint(), "test_signers": []}
    same = dataclasses.replace(teacher, progress={"recordings": recordings})
    assert seen_by(same, marked, []) == [] == seen_by(teacher, tiny_clips, [])
    taught = {"recordings": recordings, "teachers": {"seen": ["the clips marked test"]}}
    assert seen_by(dataclasses.replace(teacher, progress=taught), marked, [])


def test_a_teacher_of_other_inputs(fit, trained, student, tiny_config, tmp_path):
    def with_section(config, section, **values):
        found = dataclasses.replace(getattr(config, section), **values)
        return dataclasses.replace(config, **{section: found})

    flat = with_section(student, "augment", yaw_degrees=0.0)
    with pytest.raises(ConfigError, match=r"takes depth.*augment.yaw_degrees"):
        fit(config=flat)
    shorter = with_section(student, "data", max_frames=9)
    with pytest.raises(ConfigError, match=r"--set data.max_frames=14"):
        fit(config=shorter)
    fewer = with_section(student, "model", joint_idx=(4, 5, 6))
    with pytest.raises(ConfigError, match=r"--set model.joint_idx=\[4,5,6,7,8,9\]"):
        fit(config=fewer)
    names = ("left", "right", "neither")
    other = changed(trained["conv"], tmp_path / "other.safetensors", class_names=names)
    with pytest.raises(CheckpointError, match=r"2 are on one side only \(both, neither\)"):
        fit(teachers=(other,))
    state_dict = tmp_path / "bare.pth"
    torch.save(dict(load_checkpoint(trained["conv"]).tensors), state_dict)
    with pytest.raises(CheckpointError, match="carries no configuration"):
        fit(teachers=(state_dict,))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "values", [{"weight": 0}, {"weight": 1.5}, {"weight": float("nan")}, {"temperature": 0},
               {"temperature": float("inf")}],
)  # fmt: skip
def test_impossible_settings(values):
    with pytest.raises(ConfigError, match=f"--{next(iter(values))}"):
        Settings(**values)


# The command


def test_the_command(trained, made_clips, student, tmp_path, capsys):
    write_packed(made_clips, tmp_path / "tiny.npz")
    (tmp_path / "student.yaml").write_text(yaml.safe_dump(student.to_dict()))
    arguments = [
        "--config", tmp_path / "student.yaml", "--data", tmp_path / "tiny.npz",
        "--output", tmp_path / "run", "--teachers", trained["conv"], "--device", "cpu",
        "--set", "train.epochs=1",
    ]  # fmt: skip
    arguments = list(map(str, arguments))
    assert distill.main([*arguments, "--test-signers", "dan"]) == 0
    printed = capsys.readouterr().out
    assert "distilled: weight 0.7 of the loss, temperature 2" in printed
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: distill.main([*arguments, "--test-signers", "ben", "--resume"]))
    assert ended.value.code == 2
    assert "may have been trained on ben" in capsys.readouterr().err

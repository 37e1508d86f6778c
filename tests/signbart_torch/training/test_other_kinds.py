"""Other models, trained the same way: what learns, what stays, and what a checkpoint carries."""

import dataclasses

import numpy as np
import pytest
import torch

from signbart.configuration.reading import from_dict
from signbart.landmarks.layouts import get_layout
from signbart.recordings.clip import Clip, ClipSet
from signbart_torch.models import new_model
from signbart_torch.training.checkpoint import load_checkpoint, load_model
from signbart_torch.training.learner import train
from signbart_torch.training.objective import Objective, leave_out_unused

SIZES = {
    "sign_transformer": {
        "d_model": 24, "encoder_layers": 2, "attention_heads": 4, "ffn_dim": 40,
    },
    "mediapipe_gru": {"hidden1": 24, "hidden2": 20},
}  # fmt: skip
every_kind = pytest.mark.parametrize("kind", list(SIZES))


@pytest.fixture(scope="module")
def signs() -> ClipSet:
    """Four classes by three signers, six times each: the shape of the right hand."""
    hand = list(get_layout("kp89").groups["right_hand"])
    rng = np.random.default_rng(7)
    rest, shapes = rng.uniform(0.3, 0.7, (89, 2)), rng.uniform(0.3, 0.7, (4, len(hand), 2))
    clips = []
    for signer in ("anna", "ben", "cleo"):
        for at in range(24):
            landmarks = np.repeat(rest[None], rng.integers(20, 60), axis=0)
            landmarks[:, hand] = shapes[at % 4]
            landmarks += rng.normal(scale=0.01, size=landmarks.shape)
            clips.append(Clip(landmarks.astype(np.float32), at % 4, signer, at, f"[{len(clips)}]"))
    return ClipSet(tuple(clips), ("fist", "flat", "hook", "point"))


def run(kind, signs, *, categories=True, **train_section):
    names = signs.class_names
    found = {name: f"category {at // 2}" for at, name in enumerate(names)} if categories else {}
    return from_dict(
        {
            "name": kind,
            "model": {"kind": kind, **SIZES[kind], "num_categories": 2},
            "data": {
                "layout": "kp89", "max_frames": 70, "normalization": "bbox_ignore_missing",
                "categories": found,
            },
            "augment": {"probability": 0.0},
            "train": {
                "epochs": 3, "batch_size": 8, "lr": 0.005, "warmup_epochs": 1, **train_section,
            },
        },
        source="tests",
    )  # fmt: skip


@every_kind
def test_classes_and_categories_are_learned(signs, tmp_path, kind):
    lines = []
    results = train(
        signs,
        run(kind, signs, epochs=20, val_signers=0, val_fraction=0.34),
        tmp_path / "run",
        device="cpu",
        announce=lines.append,
    )
    # Four classes and two categories: chance is 25 and 50.
    assert results["val"]["accuracy"] > 60 and results["val"]["category_accuracy"] > 75
    assert "category_head is not trained" not in lines[0] and "89 keypoints" in lines[0]
    model, config, names = load_model(tmp_path / "run" / "best.safetensors")
    assert config.kind == kind and config.model.num_labels == 4 and names == signs.class_names
    assert type(model) is type(new_model(config.model))


@every_kind
def test_without_categories_their_head_stays_as_it_was(signs, tmp_path, kind):
    lines = []
    config = run(kind, signs, categories=False)
    results = train(signs, config, tmp_path / "run", device="cpu", announce=lines.append)
    assert "category_head is not trained: data.categories does not say" in lines[0]
    assert "category_accuracy" not in results["val"]
    trained = load_checkpoint(tmp_path / "run" / "best.safetensors")
    torch.manual_seed(config.train.seed)
    fresh = new_model(trained.config.model).state_dict()
    changed = {name for name, tensor in trained.tensors.items() if not tensor.equal(fresh[name])}
    assert not any(name.startswith("category_head") for name in changed)
    assert any(name.startswith("gloss_head") for name in changed)


@every_kind
@pytest.mark.parametrize("categories", [True, False], ids=["categories", "classes alone"])
def test_a_resumed_run_ends_with_the_same_bits(signs, tmp_path, kind, categories):
    config = run(kind, signs, categories=categories)
    train(signs, config, tmp_path / "whole", device="cpu")

    class Stopped(Exception):
        pass

    def stop(row):
        raise Stopped

    with pytest.raises(Stopped):
        train(signs, config, tmp_path / "parts", device="cpu", report=stop)
    assert load_checkpoint(tmp_path / "parts" / "last.safetensors").progress["epoch"] == 1
    train(signs, config, tmp_path / "parts", device="cpu", resume=True)
    whole, parts = (
        load_checkpoint(tmp_path / name / "last.safetensors") for name in ("whole", "parts")
    )
    assert whole.tensors.keys() == parts.tensors.keys()
    assert all(tensor.equal(parts.tensors[name]) for name, tensor in whole.tensors.items())


def test_the_loss_is_the_sum_over_both_heads(signs):
    config = run("sign_transformer", signs, label_smoothing=0.0)
    names = signs.class_names
    objective = Objective(config, names, torch.device("cpu"))
    outputs = {"gloss": torch.zeros(3, 4), "category": torch.zeros(3, 2)}
    labels = torch.tensor([0, 1, 3])
    assert objective.categories(labels).tolist() == [0, 0, 1]
    assert float(objective(outputs, labels)) == pytest.approx(3 * (np.log(4) + np.log(2)))
    alone = Objective(run("sign_transformer", signs, categories=False, label_smoothing=0.0), names,
                      torch.device("cpu"))  # fmt: skip
    assert float(alone(outputs, labels)) == pytest.approx(3 * np.log(4))


def test_what_the_loss_does_not_read_is_left_out(signs):
    config = run("sign_transformer", signs, categories=False)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, num_labels=4))
    example = torch.zeros(1, 2, 178)

    def unused(pooling):
        sizes = dataclasses.replace(config.model, pooling=pooling)
        objective = Objective(config, signs.class_names, torch.device("cpu"))
        return {n.partition(".")[0] for n in leave_out_unused(new_model(sizes), objective, example)}

    assert unused("mean") == {"cls_token", "category_head"}
    assert unused("cls") == {"category_head"}

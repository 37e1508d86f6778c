"""Checkpoints: nothing lost, nothing executed, nothing half written, and faults called by name."""

import dataclasses
import json
import os
import pickle
import random
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from signbart.errors import CheckpointError, SignBartError
from signbart.files import file_sha256
from signbart_torch.models.signbart.model import SignBart
from signbart_torch.training import checkpoint as checkpoint_module
from signbart_torch.training.checkpoint import (
    Checkpoint,
    build_model,
    load_checkpoint,
    load_model,
    save_checkpoint,
)

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")

LABELS = ("Vorführung", "مرحبا", 'a, "b"')


@pytest.fixture
def config(tiny_config):
    return dataclasses.replace(
        tiny_config, model=dataclasses.replace(tiny_config.model, num_labels=3)
    )


@pytest.fixture
def network(config) -> SignBart:
    torch.manual_seed(0)
    return SignBart(config.model).eval()


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


@pytest.fixture
def saved(tmp_path, network, config) -> Path:
    path = tmp_path / "runs" / "new" / "best.safetensors"
    save_checkpoint(Checkpoint(network.state_dict(), config, LABELS), path)
    return path


def test_a_checkpoint_comes_back_bit_by_bit(tmp_path, network, config):
    optimizer = {
        "encoder.layers.0.fc1.weight/exp_avg": torch.randn(24, 16),
        "encoder.layers.0.fc1.weight/step": torch.tensor(17.0),
    }
    progress = {"epoch": 4, "history": [{"train_loss": 0.1 + 0.2}], "best": None}
    written = Checkpoint(network.state_dict(), config, LABELS, progress, optimizer)
    path = tmp_path / "last.safetensors"
    save_checkpoint(written, path)
    read = load_checkpoint(path)
    assert equal(read.tensors, network.state_dict())
    assert equal(read.optimizer, optimizer)
    assert (read.config, read.class_names, read.progress) == (config, LABELS, progress)
    assert os.listdir(tmp_path) == ["last.safetensors"]


def test_a_checkpoint_makes_a_model_that_says_the_same(saved, network, config):
    model, read_config, labels = load_model(saved)
    keypoints, mask = torch.randn(2, 9, 6, 2), torch.ones(2, 9, dtype=torch.int32)
    with torch.no_grad():
        assert torch.equal(model(keypoints, mask), network(keypoints, mask))
    assert not model.training
    assert (read_config, labels) == (config, LABELS)


def test_a_checkpoint_carries_its_own_configuration(saved, config):
    for given in ({"config": config}, {"class_names": LABELS}):
        with pytest.raises(CheckpointError, match="its own configuration"):
            load_model(saved, **given)


def test_the_hash_is_that_of_the_bytes(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert file_sha256(path).startswith("ba7816bf")


# Published checkpoints


def published(network, form: str) -> dict:
    state = network.state_dict()
    if form == "bare":
        return state
    optimizer = torch.optim.AdamW(network.parameters())
    return {"model": state, "optimizer": optimizer.state_dict(), "epoch": 3}


@pytest.mark.parametrize("form", ["bare", "training"])
@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("new_format", [True, False])
def test_published_checkpoints_load(tmp_path, network, config, form, suffix, new_format):
    path = tmp_path / f"published{suffix}"
    torch.save(published(network, form), path, _use_new_zipfile_serialization=new_format)
    checkpoint = load_checkpoint(path)
    assert checkpoint.config is None
    assert equal(checkpoint.tensors, network.state_dict())
    model, _, labels = load_model(path, config)
    assert equal(model.state_dict(), network.state_dict())
    assert labels == ("0", "1", "2")
    assert load_model(path, config, LABELS)[2] == LABELS


def test_a_published_checkpoint_needs_its_configuration(tmp_path, network, config):
    path = tmp_path / "published.pth"
    torch.save(network.state_dict(), path)
    with pytest.raises(CheckpointError, match=r"published\.pth.*--config"):
        load_model(path)
    without = dataclasses.replace(config, model=dataclasses.replace(config.model, num_labels=None))
    with pytest.raises(CheckpointError, match="num_labels"):
        load_model(path, without)
    with pytest.raises(CheckpointError, match="2 labels given for 3 classes"):
        load_model(path, config, ("a", "b"))


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("disguise", ["alone", "beside tensors", "zip", "legacy zip"])
def test_a_hostile_checkpoint_executes_nothing(tmp_path, network, disguise):
    target, path = tmp_path / "executed", tmp_path / "hostile.pth"
    if disguise == "alone":
        path.write_bytes(pickle.dumps(Hostile(target)))
    elif disguise == "beside tensors":
        torch.save({"model": network.state_dict(), "epoch": Hostile(target)}, path)
    else:
        torch.save(Hostile(target), path, _use_new_zipfile_serialization=disguise == "zip")
    if disguise == "beside tensors":
        assert equal(load_checkpoint(path).tensors, network.state_dict())
    else:
        with pytest.raises(CheckpointError, match=r"hostile\.pth.*nothing in it was executed"):
            load_checkpoint(path)
    assert not target.exists()
    # The bait works: loaded without care, the same file does execute.
    if disguise == "alone":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert target.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"no checkpoint at all", b"PK\x03\x04", b"(lp0\n", bytes(64)]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_another_kind_is_refused_by_name(tmp_path, content, suffix):
    path = tmp_path / f"odd{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"odd\."):
        load_checkpoint(path)


@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
def test_damaged_bytes_are_never_our_defect(tmp_path, saved, network, form):
    if form != "safetensors":
        saved = tmp_path / "whole.pth"
        torch.save(network.state_dict(), saved, _use_new_zipfile_serialization=form == "zip")
    content, rng = saved.read_bytes(), random.Random(0)
    damaged, refused = tmp_path / f"damaged{saved.suffix}", 0
    for _ in range(150):
        changed = bytearray(content)
        for at in rng.choices(range(min(len(content), 2000)), k=8):
            changed[at] = rng.randrange(256)
        damaged.write_bytes(changed)
        try:
            load_checkpoint(damaged)
        except CheckpointError as error:
            assert "damaged." in str(error)
            refused += 1
    assert refused > 75


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"model": {"a": "b"}}, torch.zeros(2)])
def test_a_pth_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match="expected a state dict"):
        load_checkpoint(tmp_path / "odd.pth")


@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(tmp_path, saved, network, form, share):
    if form != "safetensors":
        saved = tmp_path / "whole.pth"
        torch.save(network.state_dict(), saved, _use_new_zipfile_serialization=form == "zip")
    cut = tmp_path / f"cut{saved.suffix}"
    content = saved.read_bytes()
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"cut\."):
        load_checkpoint(cut)


def test_missing_and_unknown_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*absent\.pth"):
        load_checkpoint(tmp_path / "absent.pth")
    (tmp_path / "model.h5").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"model\.h5 is no checkpoint.*it is empty"):
        load_checkpoint(tmp_path / "model.h5")


def test_safetensors_of_other_models_are_refused(tmp_path, config):
    path = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"foreign.*--config"):
        load_model(path)
    with pytest.raises(CheckpointError, match=r"(?s)foreign.*missing: \w+.*unexpected: a\b"):
        load_model(path, config)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config", None),
        ("config", "{"),
        ("config", '{"model": {"d_modle": 3}}'),
        ("config", "[]"),
        ("class_names", None),
        ("class_names", "3"),
        ("progress", "nonsense"),
    ],
)
def test_a_damaged_header_is_reported(tmp_path, network, config, key, value):
    header = {
        "format": "signbart-1",
        "config": json.dumps(config.to_dict()),
        "class_names": "[]",
        "progress": "{}",
    }
    header = {**header, key: value} if value is not None else header
    if value is None:
        del header[key]
    path = tmp_path / "damaged.safetensors"
    save_file(network.state_dict(), path, metadata=header)
    with pytest.raises(CheckpointError, match=r"damaged\.safetensors: damaged header"):
        load_checkpoint(path)


# What does not fit


def without(state):
    del state["encoder.layers.0.fc1.bias"]


def renamed(state):
    state["module.fc"] = state.pop("decoder.layers.0.fc2.weight")


def transposed(state):
    state["decoder.layers.0.fc1.weight"] = state["decoder.layers.0.fc1.weight"].T


def whole_numbers(state):
    state["projection.proj_x1.bias"] = torch.zeros(16, dtype=torch.int64)


@pytest.mark.parametrize(
    ("change", "complaints"),
    [
        (without, ["missing: encoder.layers.0.fc1.bias"]),
        (renamed, ["missing: decoder.layers.0.fc2.weight", "unexpected: module.fc"]),
        (transposed, ["shape of decoder.layers.0.fc1.weight: (16, 20) in the file, (20, 16)"]),
        (whole_numbers, ["dtype of projection.proj_x1.bias: torch.int64"]),
        (dict.clear, ["missing: projection.proj_x1.weight", "more"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_tensors_that_do_not_fit_are_named(network, config, change, complaints):
    state = dict(network.state_dict())
    change(state)
    with pytest.raises(CheckpointError) as error:
        build_model(Checkpoint(state), config, "some.pth")
    for complaint in ["some.pth does not fit", *complaints]:
        assert complaint in str(error.value)


def test_another_configuration_does_not_fit(saved, config):
    wider = dataclasses.replace(config.model, num_labels=4)
    with pytest.raises(CheckpointError, match=re.escape("(3, 16) in the file, (4, 16)")):
        build_model(
            load_checkpoint(saved), dataclasses.replace(config, model=wider), "some.safetensors"
        )


# Whole or not at all


@pytest.mark.parametrize(
    ("module", "function"), [(checkpoint_module, "serialize"), (os, "fsync"), (os, "replace")]
)
def test_a_save_that_fails_leaves_the_old_file(
    saved, config, network, monkeypatch, module, function
):
    before = saved.read_bytes()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(module, function, fail)
    changed = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    with pytest.raises((SignBartError, OSError), match="disk full"):
        save_checkpoint(Checkpoint(changed, config, LABELS), saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]
    monkeypatch.undo()
    save_checkpoint(Checkpoint(changed, config, LABELS), saved)
    assert saved.read_bytes() != before

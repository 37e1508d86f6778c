"""Keras checkpoints come back whole, appear whole or not at all; nothing else passes for one."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from bridge.weights.port import build_twin
from signbart.errors import CheckpointError, SignBartError
from signbart_tf.training.checkpoint import SUFFIXES, load_model, save_checkpoint

LABELS = ("hello", "thank you", "naïve", "نعم", "no", "f", "g")


@pytest.fixture(scope="session")
def saved(tmp_path_factory, original, config):
    folder = tmp_path_factory.mktemp("saved") / "not there yet"
    for ending in SUFFIXES:
        save_checkpoint(build_twin(original), config, LABELS, folder / f"tiny{ending}")
    return folder


@pytest.fixture(params=SUFFIXES)
def path(request, saved, tmp_path):
    """A copy, to be altered at will."""
    (tmp_path / "runs").mkdir()
    return Path(shutil.copy(saved / f"tiny{request.param}", tmp_path / "runs"))


def test_model_configuration_and_labels_come_back(path, twin, config):
    model, found, labels = load_model(str(path))
    assert (found, labels) == (config, LABELS)
    assert len(model.weights) == len(twin.weights) == 12 + 3 * 16 + 2 * 26
    for one, other in zip(model.weights, twin.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_nothing_stays_beside_what_is_saved(saved):
    assert sorted(os.listdir(saved)) == ["tiny.keras", "tiny.weights.h5"]


def test_keras_reads_the_file_as_its_own(path, twin):
    if path.suffix == ".keras":
        model = keras.saving.load_model(path)
    else:
        model = type(twin)(twin.config)
        model.load_weights(path)
    for one, other in zip(model.weights, twin.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_save_that_fails_leaves_what_was_there(path, twin, config, monkeypatch):
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("signbart.files.os.replace", full)
    with pytest.raises(SignBartError, match=r"tiny\S* cannot be written: .*No space left"):
        save_checkpoint(twin, config, "abcdefg", path)
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("name", ["tiny.h5", "tiny.safetensors", "tiny", "tiny.keras.zip"])
def test_other_endings_are_refused(tmp_path, twin, config, name):
    for attempt in (
        lambda: save_checkpoint(twin, config, LABELS, tmp_path / name),
        lambda: load_model(tmp_path / name),
    ):
        with pytest.raises(CheckpointError, match=r"end in \.keras or \.weights\.h5"):
            attempt()
    assert not any(tmp_path.iterdir())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*absent\.keras"):
        load_model(tmp_path / "absent.keras")


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x89HDF\r\n\x1a\n", b"no model" * 99])
def test_files_of_another_kind_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{path.name} is no Keras checkpoint"):
        load_model(path)


@pytest.mark.parametrize("share", [0.1, 0.999])
def test_truncated_files_are_refused(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(path)


@pytest.mark.slow
def test_a_damaged_archive_is_refused_wherever_it_is_damaged(saved, tmp_path):
    # HDF5 has no checksums, an archive has: no flipped bit of a weight goes unnoticed.
    path = Path(shutil.copy(saved / "tiny.keras", tmp_path))
    with zipfile.ZipFile(path) as archive:
        weights = archive.getinfo("model.weights.h5")
    content = path.read_bytes()
    for at in range(weights.header_offset + 100, weights.compress_size, weights.compress_size // 9):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :])
        with pytest.raises(CheckpointError, match="damaged"):
            load_model(path)


def rewritten(path, header: str | None):
    """The same file with another header, or none."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members.pop("signbart.json")
        members |= {} if header is None else {"signbart.json": header.encode()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    else:
        with h5py.File(path, "a") as file:
            del file.attrs["signbart.json"]
            if header is not None:
                file.attrs["signbart.json"] = header


def test_sizes_that_no_tensor_has_build_nothing(path, config, monkeypatch):
    header = {"config": config.to_dict(), "class_names": list(LABELS)}
    header["config"]["model"]["max_position_embeddings"] = 16_000
    rewritten(path, json.dumps(header))
    monkeypatch.setattr("signbart_tf.training.checkpoint.new_model", None)
    with pytest.raises(CheckpointError, match=r"model\.max_position_embeddings is 16000"):
        load_model(path)


def test_a_file_that_keras_wrote_alone_has_no_header(path):
    rewritten(path, None)
    with pytest.raises(CheckpointError, match="is no Keras checkpoint of this project"):
        load_model(path)


def test_a_header_that_fits_is_taken(path, config):
    # What the next test would see if rewriting alone made a file unreadable.
    rewritten(path, json.dumps({"config": config.to_dict(), "class_names": list("abcdefg")}))
    assert load_model(path)[2] == tuple("abcdefg")


@pytest.mark.parametrize(
    "change", ["[]", "1", "{", "{}", "labels", "config", "few labels", "wider"]
)
def test_headers_that_do_not_fit_are_refused(path, config, change):
    header = {"config": config.to_dict(), "class_names": list(LABELS)}
    if change == "labels":
        del header["class_names"]
    elif change == "few labels":
        header["class_names"] = ["a"]
    elif change == "config":
        header["config"]["model"]["d_modle"] = 3
    elif change == "wider":
        header["config"]["model"]["d_model"] = 24
    rewritten(path, change if change in ("[]", "1", "{", "{}") else json.dumps(header))
    with pytest.raises(CheckpointError, match=path.name):
        load_model(path)

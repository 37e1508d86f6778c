"""Files that unpack to far more than they are: refused by what they say, before any is unpacked."""

import os
import struct
import zipfile

import h5py
import numpy as np
import pytest

from signbart import archives
from signbart.archives import check_unpacked, open_npz, open_zip
from signbart.errors import CheckpointError, ClipError
from signbart.memory import available_memory
from signbart.recordings.forms import read_file
from signbart.weights.keras_files import read_keras_file

NAMES = ("kp_q", "scale", "offsets", "label", "class_names")


@pytest.fixture(autouse=True)
def low_floor(monkeypatch):
    """Bombs of some MB then do for those of some GB, should a check fail."""
    monkeypatch.setattr(archives, "_FLOOR", 1 << 20)


def header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    text = str({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text


def npz(path, **members: bytes):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


ZEROS = header((1000, 1000, 2)) + bytes(8_000_000)
BOMBS = {
    "packed": {"kp_q": ZEROS, **{name: header((1,)) + bytes(4) for name in NAMES[1:]}},
    "npz": {"keypoints": ZEROS},
    "array that is not asked for": {"keypoints": header((2, 1, 2)) + bytes(16), "other": ZEROS},
}


@pytest.mark.parametrize("case", BOMBS)
def test_an_npz_that_unpacks_to_far_more_than_it_is(tmp_path, case):
    path = npz(tmp_path / "bomb.npz", **BOMBS[case])
    with pytest.raises(ClipError, match=r"bomb\.npz has [\d,]+ bytes and would unpack to 8,000"):
        read_file(path)


def test_an_npz_of_another_compression(tmp_path):
    """Deflate reaches 1,000 times, bzip2 a million."""
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("keypoints.npy", ZEROS)
    assert path.stat().st_size < 1000
    with pytest.raises(ClipError, match=r"would unpack to 8,000,\d+, more than 1,048,576"):
        read_file(path)


@pytest.mark.parametrize("name", ["kp_q", "keypoints"])
def test_an_array_that_promises_more_than_follows(tmp_path, name):
    members = {name: header((10**10, 90, 2)) + bytes(100)}
    if name == "kp_q":
        members |= {other: header((1,)) + bytes(4) for other in NAMES[1:]}
    path = npz(tmp_path / "short.npz", **members)
    with pytest.raises(ClipError, match=rf"array '{name}' should be float32 .* 7,200,000,000,000"):
        read_file(path)


def test_an_npy_that_promises_more_than_follows(tmp_path):
    path = tmp_path / "short.npy"
    path.write_bytes(header((10**10, 90, 2)) + bytes(100))
    with pytest.raises(ClipError, match=r"short\.npy should be float32 .* 7,200,000,000,000 bytes"):
        read_file(path)


def test_landmarks_padded_with_zeros_are_no_bomb(tmp_path):
    points = np.zeros((50, 200, 90, 2), np.float32)
    points[:, :10] = np.random.default_rng(0).random((50, 10, 90, 2))
    np.savez_compressed(tmp_path / "x.npz", keypoints=points, label=np.zeros(50, np.int64))
    assert read_file(tmp_path / "x.npz").total == 50


def test_hdf5_of_numbers_that_were_never_written(tmp_path):
    path = tmp_path / "bomb.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("hello/one", (10**7, 90, 2), "f4", chunks=(1000, 90, 2))
    with pytest.raises(ClipError, match=r"bomb\.h5 has [\d,]+ bytes and would unpack to 7,200,"):
        read_file(path)


def test_many_datasets_of_a_checkpoint_count_together(tmp_path):
    path = tmp_path / "bomb.weights.h5"
    with h5py.File(path, "w") as file:
        for layer in range(200):
            file.create_dataset(f"layers/{layer}/vars/0", (400, 400), "f4", chunks=(400, 400))
    with pytest.raises(CheckpointError, match=r"would unpack to [\d,]+, more than"):
        read_keras_file(path)


def test_parquet_of_one_value_repeated(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "bomb.parquet"
    zeros = pyarrow.array(np.zeros(1_000_000, np.float32))
    parquet.write_table(pyarrow.table({"x_0": zeros, "y_0": zeros}), path)
    with pytest.raises(ClipError, match=r"bomb\.parquet has [\d,]+ bytes and would unpack to 16,0"):
        read_file(path)


def test_every_zip_is_asked_first(tmp_path):
    path = npz(tmp_path / "bomb.keras", **{"model.weights": bytes(8_000_000)})
    refused = pytest.raises(CheckpointError, match="would unpack to 8,000,000")
    with refused, open_zip(path, CheckpointError):
        pass


def test_what_is_larger_than_the_memory(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(bytes(1000))
    check_unpacked(path, 50_000, ClipError)
    monkeypatch.setattr(archives, "available_memory", lambda: 10_000)
    with pytest.raises(ClipError, match="would unpack to 50,000 bytes, and 10,000 of memory are"):
        check_unpacked(path, 50_000, ClipError)
    check_unpacked(path, 50_000, ClipError, loaded=0)  # stays in the file


def test_the_system_says_its_memory():
    assert available_memory() is None or available_memory() > 1 << 20


def test_a_pipe_is_no_archive(tmp_path):
    """Nobody writes to it, so who opens it waits."""
    os.mkfifo(tmp_path / "pipe.npz")
    with (
        pytest.raises(ClipError, match=r"pipe\.npz: is a pipe"),
        open_npz(tmp_path / "pipe.npz", ClipError),
    ):
        pass

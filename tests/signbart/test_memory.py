"""Too little memory is said as such by every reader, and never as damage to what was read."""

import pickle
import sys

import h5py
import numpy as np
import pyarrow
import pytest
import safetensors
import torch
from pyarrow import csv
from safetensors.numpy import save_file

from bridge.verification.samples import read_sample
from signbart.console import run_command
from signbart.errors import MemoryShortageError
from signbart.memory import is_shortage
from signbart.recordings import pickles, pose_files
from signbart.recordings.reading import read_clips
from signbart.weights import torch_pickles
from signbart.weights.stored import read_stored
from tests.signbart.recordings import forms

POINTS = np.full((4, 75, 2), 0.5, np.float32)


def pickled(path):
    path.write_bytes(pickle.dumps({"keypoints": POINTS, "class": "yes"}))


def pyskl(path):
    annotation = {"keypoint": POINTS[None], "label": 0}
    path.write_bytes(pickle.dumps({"annotations": [annotation], "split": {}}))


def hdf5(path):
    with h5py.File(path, "w") as file:
        file["a/vars/0"] = POINTS


# File -> how it is made, what reads it, and what in there asks for memory.
READERS = {
    "a.pkl": (pickled, read_clips, (pickles, "run")),
    "set.pkl": (pyskl, read_clips, (pickles, "_to_array")),
    "a.npy": (lambda path: np.save(path, POINTS), read_clips, (np, "load")),
    "a.npz": (lambda path: np.savez(path, keypoints=POINTS), read_clips, (np, "load")),
    "a.pose": (lambda path: forms.write_pose(path, POINTS), read_clips, (pose_files, "_read")),
    "a.csv": (lambda path: path.write_text("x_0,y_0\n1,2\n"), read_clips, (csv, "read_csv")),
    "a.h5": (hdf5, read_clips, (h5py, "File")),
    "sample.npz": (lambda path: np.savez(path, keypoints=POINTS), read_sample, (np, "load")),
    "a.pth": (lambda path: torch.save({}, path), read_stored, (torch_pickles, "_unpickle")),
    "a.weights.h5": (hdf5, read_stored, (h5py, "File")),
    "a.safetensors": (
        lambda path: save_file({"a": POINTS}, path),
        read_stored,
        (safetensors, "deserialize"),
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_a_shortage_is_not_called_damage(name, tmp_path, monkeypatch):
    make, read, (owner, function) = READERS[name]
    make(tmp_path / name)

    def fail(*_args, **_options):
        raise pyarrow.ArrowMemoryError("malloc failed") if owner is csv else MemoryError

    monkeypatch.setattr(owner, function, fail)
    with pytest.raises(MemoryShortageError, match=rf"{name}\S*: memory ran out"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    "error",
    [
        np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype("f4")),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("std::bad_alloc"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_a_command_that_runs_out_of_memory_is_no_defect(error, monkeypatch, capsys):
    def main():
        raise error

    monkeypatch.setattr(sys, "argv", ["signbart train"])
    with pytest.raises(SystemExit) as end:
        run_command(main)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: signbart train: memory ran out (")


def test_other_faults_are_no_shortage():
    assert not is_shortage(ValueError("shapes do not fit"))
    assert not is_shortage(OSError(28, "No space left on device"))

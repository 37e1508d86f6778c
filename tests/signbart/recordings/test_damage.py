"""What decoders of other people's making stumble over ends as one line that names the file."""

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from signbart.errors import ArtifactError, ClipError, MemoryShortageError
from signbart.recordings.labels import read_label_file
from signbart.recordings.reading import read_clips
from signbart.recordings.recording import faults_of
from tests.signbart.recordings import forms

POINTS = np.full((3, 75, 2), 0.5, np.float32)
CLIPS = [("yes", "user1_0_R0", POINTS), ("no", "user2_0_R0", POINTS)]
LONG = "9" * 5000  # digits; Python reads no number of so many


def open_bracket(folder: Path) -> Path:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 75, 2"
    size = len(header).to_bytes(2, "little")
    (folder / "clip.npy").write_bytes(b"\x93NUMPY\1\0" + size + header + POINTS.tobytes())
    return folder / "clip.npy"


def not_utf8(folder: Path) -> Path:
    path = forms.write_long_csv(folder / "table", CLIPS)
    path.write_bytes(path.read_bytes().replace(b"frame", b"fr\xffme", 1))
    return path


def frame_without_number(folder: Path) -> Path:
    path = forms.write_long_csv(folder / "table", CLIPS)
    path.write_text(path.read_text().replace("pose,0,", "pose,x,", 1))
    return path


def bytes_for_names(folder: Path) -> Path:
    import pyarrow
    from pyarrow import parquet

    path = forms.write_wide_parquet(folder / "table", CLIPS)
    table = parquet.read_table(path)
    at = table.column_names.index("sign")
    column = pyarrow.array([b"\xff"] * table.num_rows)
    parquet.write_table(table.set_column(at, "sign", column), path)
    return path


def no_frames(folder: Path) -> Path:
    import pyarrow
    from pyarrow import parquet

    path = forms.write_wide_parquet(folder / "table", CLIPS)
    table = parquet.read_table(path)
    at = table.column_names.index("frame")
    parquet.write_table(table.set_column(at, "frame", pyarrow.nulls(table.num_rows)), path)
    return path


def people_that_are_none(folder: Path) -> Path:
    (folder / "clip.json").write_text(json.dumps({"frames": [{"people": 5}]}))
    return folder / "clip.json"


@pytest.mark.parametrize(
    "damage",
    [open_bracket, not_utf8, frame_without_number, bytes_for_names, no_frames,
     people_that_are_none],
)  # fmt: skip
def test_a_damaged_file_is_named(damage: Callable[[Path], Path], tmp_path):
    path = damage(tmp_path)
    with pytest.raises(ClipError, match=path.name):
        read_clips(path)


def test_an_index_with_an_endless_cell_is_none(tmp_path):
    root = forms.write_google(tmp_path / "set", CLIPS)
    (root / "train.csv").write_text("path,sign\nx," + "x" * 200_000 + "\n")
    with pytest.raises(ClipError, match="no clips"):
        read_clips(root)


def test_a_fault_in_one_file_of_many_is_skipped_and_counted(tmp_path):
    forms.tree(forms.write_npy, ".npy")(tmp_path, CLIPS)
    people_that_are_none(tmp_path / "yes")
    found = read_clips(tmp_path, skip_bad=True)
    assert len(found) == 2
    assert "clip.json" in found.skipped[0]


def test_numbers_without_end_are_none(tmp_path):
    points = {"keypoints": POINTS.tolist(), "class": "sign", "repetition": LONG}
    (tmp_path / "clip.json").write_text(json.dumps(points))
    assert read_clips(tmp_path / "clip.json").clips[0].repetition == 0
    (tmp_path / "clip.json").write_text(json.dumps(points | {"class": f"sign {LONG}"}))
    with pytest.raises(ClipError, match="5,005 characters"):
        read_clips(tmp_path / "clip.json")
    (tmp_path / "id2label.json").write_text(json.dumps({"0": "yes", LONG: "no"}))
    with pytest.raises(ClipError, match="id2label"):
        read_label_file(tmp_path / "id2label.json")


def test_labels_of_gigabytes_are_not_read(tmp_path):
    path = tmp_path / "label2id.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # none of which is on the disk
    with pytest.raises(ClipError, match=r"label2id\.json .*memory are free"):
        read_label_file(path)


def test_what_says_nothing_of_a_file_does_not_call_it_damaged(tmp_path):
    error = ArtifactError("of something else")
    with pytest.raises(ArtifactError) as caught, faults_of(tmp_path / "clip.npy"):
        raise error
    assert caught.value is error


def test_a_fault_keeps_its_cause(tmp_path):
    path = tmp_path / "clip.npy"
    with pytest.raises(ClipError, match=r"clip\.npy: damaged") as caught, faults_of(path):
        raise KeyError("pose")
    assert isinstance(caught.value.__cause__, KeyError)


def npy(header: str, version: int = 1) -> bytes:
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header.encode()


HEADERS = {
    "of 4 GiB": b"\x93NUMPY\2\0" + struct.pack("<I", 0xFFFFFFFF) + b"{",
    "of a version for structures": npy(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 75, 2)}\n", 3
    ),
    "that nests": npy("{'descr': '<f4', 'shape': (" + "-" * 9000 + "1,)}\n"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_asks_for_memory_is_damage(name, tmp_path):
    (tmp_path / "clip.npy").write_bytes(HEADERS[name])
    with pytest.raises(ClipError, match=r"clip\.npy"):
        read_clips(tmp_path / "clip.npy")


@pytest.mark.parametrize("name", ["clip.pkl", "clip.pose"])
def test_a_file_with_more_than_all_memory_is_not_read(name, tmp_path):
    with (tmp_path / name).open("wb") as file:
        file.write(struct.pack("<f", 0.2) if name == "clip.pose" else b"\x80\x04")
        file.truncate(1 << 40)  # hardly any of which is on the disk
    with pytest.raises(MemoryShortageError, match=rf"{name} has .* of memory are free"):
        read_clips(tmp_path / name)


def test_groups_that_hold_themselves_have_an_end(tmp_path):
    path = tmp_path / "clips.h5"
    with h5py.File(path, "w") as file:
        file["keypoints"] = POINTS
        for number in range(30):  # 30^8 ways to one clip
            file[f"again{number}"] = file["/"]
    with pytest.raises(ClipError, match=r"clips\.h5:/again0 stands elsewhere in the file"):
        read_clips(path)


def test_names_of_classes_have_one_validator(tmp_path):
    for name, fault in (
        ("می\u200cخواهم", None),
        ("x" * 1001, "1,001 characters"),
        ("\x1b[2J", "print"),
    ):
        path = tmp_path / "clip.pkl"
        path.write_bytes(pickle.dumps({"keypoints": POINTS, "class": name}))
        if fault is None:
            assert read_clips(path).class_names == (name,)
        else:
            with pytest.raises(ClipError, match=fault):
                read_clips(path)

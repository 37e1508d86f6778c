"""Labels that do not fit: one validator, at every border."""

import json

import numpy as np
import pytest

from signbart.class_names import check_class_names
from signbart.errors import CheckpointError, ClipError
from signbart.recordings.labels import read_label_file
from signbart.recordings.packed_reading import load_packed
from signbart.weights.stored import parse_header

BAD = {
    "not a list": ("ab", "must be a list of texts"),
    "not text": (["a", 1], "must be a list of texts"),
    "equal": (["a", "a"], "classes 0 and 1 look the same, 'a'"),
    "equal to look at": (["a b", "a\N{NO-BREAK SPACE}b"], "classes 0 and 1 look the same"),
    "empty": (["a", ""], "class 1 is named ''"),
    "blank": (["a", " "], "class 1 is named ' '"),
    "a control": (["a", "b\x1b[2J"], r"class 1 is named 'b\\x1b"),
    "a line": (["a\nb", "c"], r"class 0 is named 'a\\n"),
    "half a pair": (["a", "\ud800"], "class 1 is named"),
    "fewer": (["a"], "1 labels for 2 classes"),
    "more": (["a", "b", "c"], "3 labels for 2 classes"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_no_list_of_labels_can_be(case):
    names, pattern = BAD[case]
    with pytest.raises(ClipError, match=f"here: .*{pattern}"):
        check_class_names(names, "here", ClipError, classes=2)


@pytest.mark.parametrize("name", ["später", "早い", "क्‍ष", "می‌خواهم", "👋🏽", "0"])
def test_names_of_any_script_are_labels(name):
    assert check_class_names([name, "other"], "here", ClipError, classes=2) == (name, "other")


@pytest.mark.parametrize("case", BAD)
def test_a_checkpoint_whose_labels_do_not_fit(tmp_path, case):
    names, pattern = BAD[case]
    header = {"config": {"model": {"num_labels": 2}}, "class_names": names}
    with pytest.raises(CheckpointError, match=rf"x\.keras: damaged header: .*{pattern}"):
        parse_header(tmp_path / "x.keras", header)


@pytest.mark.parametrize("name", ["label2id.json", "id2label.json", "labels.json"])
def test_a_label_file_that_says_a_key_twice(tmp_path, name):
    path = tmp_path / name
    path.write_text(
        '{"0": "a", "0": "b"}' if name == "id2label.json" else '{"a": 0, "b": 1, "a": 2}'
    )
    with pytest.raises(ClipError, match=r"json: '[a0]' stands more than once; keep one of them"):
        read_label_file(path)


@pytest.mark.parametrize("label", ["", " ", "b\x07", "a\n"])
def test_a_label_file_with_a_name_that_is_none(tmp_path, label):
    path = tmp_path / "label2id.json"
    path.write_text(json.dumps({"a": 0, label: 1}))
    with pytest.raises(ClipError, match=r"label2id\.json: class 1"):
        read_label_file(path)
    path = tmp_path / "id2label.json"
    path.write_text(json.dumps({"0": "a", "1": label}))
    with pytest.raises(ClipError, match=r"id2label\.json: class 1"):
        read_label_file(path)


def test_two_numbers_of_one_name(tmp_path):
    path = tmp_path / "id2label.json"
    path.write_text('{"0": "a", "1": "a"}')
    with pytest.raises(ClipError, match="classes 0 and 1 look the same"):
        read_label_file(path)


@pytest.mark.parametrize("label", ["", "b\x07", "a "])
def test_a_packed_set_with_a_name_that_is_none(tmp_path, label):
    np.savez(
        tmp_path / "x.npz", kp_q=np.ones((2, 3, 4, 2), np.int16), scale=np.float32(1),
        label=np.zeros(2, int), class_names=np.array(["a", label]),
    )  # fmt: skip
    with pytest.raises(ClipError, match=r"x\.npz: array 'class_names': class"):
        load_packed(tmp_path / "x.npz")

"""Data sets on disk: both forms read, whatever is malformed is named, and packing loses nothing."""

import dataclasses
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from signbart.clips import main
from signbart.configuration.reading import load_config
from signbart.errors import ClipError, SignBartError
from signbart.landmarks.layouts import LAYOUTS, get_layout
from signbart.recordings.clip import Clip, ClipSet
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips
from signbart.recordings.tree_writing import write_tree

K, D = 5, 2
# Not in alphabetical order, so that labels cannot come from the folders' order.
LABELS = {"hello": 0, "bye": 1, "again": 2}


def points(frames: int, keypoints: int = K, coordinates: int = D, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([seed, frames])
    return rng.uniform(-0.1, 1.1, (frames, keypoints, coordinates)).astype(np.float32)


def write_labels(root: Path, labels: dict = LABELS) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "label2id.json").write_text(json.dumps(labels))
    inverse = {str(label): name for name, label in labels.items()}
    (root / "id2label.json").write_text(json.dumps(inverse))


def write_pickle(path: Path, keypoints: object, **fields: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"keypoints": keypoints, "class": path.parent.name, **fields}
    path.write_bytes(pickle.dumps(content))
    return path


def make_tree(root: Path) -> Path:
    """Six clips of three classes in train and test, lengths 3 to 8."""
    write_labels(root)
    write_pickle(root / "train/hello/user12_G10_R10.pkl", points(3))
    write_pickle(root / "train/hello/user02_G10_R03.pkl", points(4), user="anna")
    write_pickle(root / "train/bye/user02_G11_R01.pkl", points(5).tolist())
    write_pickle(root / "train/again/user7b_G12.pkl", points(6))
    write_pickle(root / "test/hello/user12_G10_R02.pkl", points(7))
    write_pickle(root / "test/again/user12_G12.pkl", points(8), user=12)
    return root


def in_order(clip_set: ClipSet) -> list[tuple]:
    return [(len(c.landmarks), c.label, c.signer, c.repetition) for c in clip_set.clips]


TRAIN = [(6, 2, "unknown", 0), (5, 1, "user02", 1), (4, 0, "anna", 3), (3, 0, "user12", 10)]
TEST = [(8, 2, "12", 0), (7, 0, "user12", 2)]


def packed_arrays(**changes: object) -> dict[str, np.ndarray]:
    """A valid packed file's arrays: clips of 3, 2 and 4 frames; None takes an array away."""
    arrays = {
        "kp_q": (np.arange(9 * K * 3).reshape(9, K, 3) - 40).astype(np.int16),
        "scale": np.float32(0.01),
        "offsets": np.array([0, 3, 5, 9]),
        "label": np.array([2, 0, 2], np.int16),
        "signer": np.array([1, 0, 1], np.int16),
        "rep": np.array([4, 5, 6], np.int16),
        "class_names": np.array(list(LABELS)),
        "signer_names": np.array(["S01", "S02"]),
    }
    arrays.update(changes)
    return {name: np.asarray(array) for name, array in arrays.items() if array is not None}


def write_arrays(path: Path, **changes: object) -> Path:
    np.savez(path, **packed_arrays(**changes))
    return path


def raises_here(path: Path, pattern: str, **options: object) -> str:
    """Reading fails with a message that names the path; returns the message."""
    with pytest.raises(ClipError, match=rf"(?s){pattern}") as caught:
        read_clips(path, **options)
    assert path.name in str(caught.value)
    return str(caught.value)


# The packed form


def test_isl_kinect30_reads_whole(isl_kinect30):
    clips = read_clips(isl_kinect30)
    assert len(clips) == 2160 and len(clips.class_names) == 30
    assert clips.signer_names == tuple(f"S0{i}" for i in range(1, 9))
    assert set(np.bincount(clips.labels)) == {8 * 9}
    lengths = [len(clip.landmarks) for clip in clips.clips]
    assert (min(lengths), np.median(lengths), max(lengths)) == (24, 71, 188)
    assert {(c.signer, c.label, c.repetition) for c in clips.clips} == {
        (s, c, r) for s in clips.signer_names for c in range(30) for r in range(1, 10)
    }
    with np.load(isl_kinect30 / "isl_kinect30.npz") as raw:
        start, end = raw["offsets"][12:14]
        expected = raw["kp_q"][start:end] * 1e-4
    np.testing.assert_allclose(clips.clips[12].landmarks, expected, rtol=1e-6)
    assert clips.clips[12].source == "isl_kinect30.npz[12]"
    assert clips.to_layout(get_layout("kinect20")).clips[12].landmarks.shape[1:] == (20, 3)
    with pytest.raises(ClipError, match=r"npz\[0\]: found 20 keypoints.*'kp90' has 90.*kinect20"):
        clips.to_layout(get_layout("kp90"))


def test_fsl7_holistic_becomes_its_90_keypoints(fsl7_holistic):
    clips = read_clips(fsl7_holistic / "fsl7_holistic.npz")
    assert len(clips) == 168 and clips.signer_names == ("unknown",)
    assert {clip.landmarks.shape for clip in clips.clips} == {(30, 543, 2)}
    index = json.loads((fsl7_holistic / "meta.json").read_text())["kp90_index"]
    selected = clips.to_layout(get_layout("kp90"))
    np.testing.assert_array_equal(selected.clips[99].landmarks, clips.clips[99].landmarks[:, index])
    with pytest.raises(ClipError, match=r"543 keypoints.*kinect20.*holistic543"):
        clips.to_layout(get_layout("kinect20"))


def test_packed_values_are_where_the_arrays_say(tmp_path):
    clips = read_clips(write_arrays(tmp_path / "x.npz"))
    assert in_order(clips) == [(3, 2, "S02", 4), (2, 0, "S01", 5), (4, 2, "S02", 6)]
    assert clips.class_names == tuple(LABELS) and clips.labels.dtype == np.int64
    landmarks = np.concatenate([clip.landmarks for clip in clips.clips])
    assert landmarks.dtype == np.float32
    np.testing.assert_allclose(landmarks, packed_arrays()["kp_q"] * 0.01, rtol=1e-6)
    assert [clip.source for clip in clips.clips] == ["x.npz[0]", "x.npz[1]", "x.npz[2]"]


def test_packed_of_fixed_length_without_signers(tmp_path):
    values = np.arange(3 * 4 * K * D).reshape(3, 4, K, D)
    absent = dict.fromkeys(("offsets", "signer", "rep", "signer_names"))
    path = write_arrays(tmp_path / "x.npz", kp_q=values, **absent)
    clips = read_clips(tmp_path)
    assert in_order(clips) == [(4, 2, "unknown", 0), (4, 0, "unknown", 0), (4, 2, "unknown", 0)]
    np.testing.assert_allclose(clips.clips[1].landmarks, values[1] * 0.01, rtol=1e-6)
    write_arrays(path, kp_q=values, **{**absent, "signer": np.array([7, 7, 3])})
    assert read_clips(path).signers == ("signer7", "signer7", "signer3")


def test_packed_splits_are_read_where_the_file_has_them(tmp_path):
    path = write_arrays(tmp_path / "x.npz", split=np.array(["train", "test", "train"]))
    assert [clip.source for clip in read_clips(path, split="train").clips] == [
        "x.npz[0]",
        "x.npz[2]",
    ]
    assert len(read_clips(path)) == 3
    raises_here(path, "split 'val': no clips", split="val")
    raises_here(write_arrays(path), "has no split 'train'", split="train")


MALFORMED = {
    "kp_q missing": ({"kp_q": None}, "no array 'kp_q'"),
    "scale missing": ({"scale": None}, "no array 'scale'"),
    "label missing": ({"label": None}, "no array 'label'"),
    "class_names missing": ({"class_names": None}, "no array 'class_names'"),
    "offsets missing": ({"offsets": None}, r"'kp_q' must hold numbers \(N, T, K, D\)"),
    "kp_q flat": ({"kp_q": np.zeros((9, K), np.int16)}, "'kp_q'"),
    "kp_q of 4 coordinates": ({"kp_q": np.zeros((9, K, 4), np.int16)}, "'kp_q'"),
    "kp_q without keypoints": ({"kp_q": np.zeros((9, 0, 2), np.int16)}, "'kp_q'"),
    "kp_q text": ({"kp_q": np.full((9, K, D), "a")}, "'kp_q'"),
    "kp_q objects": ({"kp_q": np.full((9, K, D), None)}, "'kp_q' cannot be read.*pickle"),
    "scale a row": ({"scale": np.ones(2)}, "'scale'"),
    "scale zero": ({"scale": np.float32(0)}, "'scale'"),
    "scale NaN": ({"scale": np.float32("nan")}, "'scale'"),
    "offsets fall": ({"offsets": np.array([0, 5, 3, 9])}, "'offsets' falls at 2"),
    "offsets start late": ({"offsets": np.array([1, 3, 5, 9])}, "'offsets' covers 1 to 9"),
    "offsets end early": ({"offsets": np.array([0, 3, 5, 8])}, "'offsets' covers 0 to 8"),
    "offsets end late": ({"offsets": np.array([0, 3, 5, 10])}, "'offsets' covers 0 to 10"),
    "offsets empty": ({"offsets": np.array([], np.int64)}, "'offsets'"),
    "offsets broken numbers": ({"offsets": np.array([0, 3, 5, 9.0])}, "'offsets'"),
    "label too high": ({"label": np.array([2, 3, 0])}, "'label' holds 3 at 1, expected 0 to 2"),
    "label below 0": ({"label": np.array([2, 0, -1])}, "'label' holds -1 at 2"),
    "label too short": ({"label": np.array([2, 0])}, "'label' must be 3 whole numbers"),
    "label a table": ({"label": np.zeros((3, 1), int)}, "'label'"),
    "signer too high": ({"signer": np.array([0, 1, 2])}, "'signer' holds 2"),
    "signer too long": ({"signer": np.zeros(4, int)}, "'signer'"),
    "rep text": ({"rep": np.array(["a", "b", "c"])}, "'rep'"),
    "class_names numbers": ({"class_names": np.arange(3)}, "'class_names'"),
    "class_names twice": ({"class_names": np.array(["a", "b", "a"])}, "'class_names'"),
    "split too short": ({"split": np.array(["test"])}, "'split'"),
    "no clips": (
        {"kp_q": np.zeros((0, K, D)), "offsets": np.array([0])}
        | dict.fromkeys(("signer", "rep"))
        | {"label": np.zeros(0, int)},
        "no clips",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_packed_files_name_the_array(tmp_path, name):
    changes, pattern = MALFORMED[name]
    raises_here(write_arrays(tmp_path / "x.npz", **changes), pattern)


def test_damaged_packed_files_are_errors(tmp_path):
    data = write_arrays(tmp_path / "whole.npz").read_bytes()
    path = tmp_path / "x.npz"
    for content in (b"", b"not a zip", data[:-30], data[: len(data) // 2]):
        path.write_bytes(content)
        raises_here(path, "not an .npz file, or a truncated one")
    at = data.index(b"NUMPY") + 200
    path.write_bytes(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])
    raises_here(path, "array 'kp_q' cannot be read")
    path.unlink()
    assert len(read_clips(tmp_path)) == 3


def test_bad_clips_of_a_packed_file(tmp_path):
    values = packed_arrays()["kp_q"].astype(np.float32)
    values[6, 1, 0] = np.nan
    path = write_arrays(tmp_path / "x.npz", kp_q=values, offsets=np.array([0, 1, 5, 9]))
    assert "--skip-bad" in raises_here(path, r"x\.npz\[0\]: the clip has one frame")
    clips = read_clips(path, skip_bad=True)
    assert [clip.source for clip in clips.clips] == ["x.npz[1]"]
    assert len(clips.skipped) == 2
    assert "x.npz[2]: keypoint 1 of frame 1 is NaN" in clips.skipped[1]


# The tree of pickles


def test_tree_reads_sorted_with_signers_and_repetitions(tmp_path):
    root = make_tree(tmp_path / "data")
    assert in_order(read_clips(root, split="train")) == TRAIN
    assert in_order(read_clips(root, split="test")) == TEST
    clips = read_clips(root)
    assert in_order(clips) == TEST + TRAIN
    assert clips.class_names == tuple(LABELS) and clips.skipped == ()
    assert clips.signer_names == ("12", "anna", "unknown", "user02", "user12")
    np.testing.assert_array_equal(clips.clips[-1].landmarks, points(3))
    assert clips.clips[-1].source == str(root / "train/hello/user12_G10_R10.pkl")
    raises_here(root, r"no folder 'val' \(found: train, test\)", split="val")


def test_the_folder_all_stands_for_every_split(tmp_path):
    root = make_tree(tmp_path / "data")
    write_pickle(root / "all/bye/user01_G11_R04.pkl", points(9))
    assert in_order(read_clips(root)) == [(9, 1, "user01", 4)]
    assert in_order(read_clips(root, split="test")) == TEST


def test_stray_files_are_no_clips(tmp_path):
    root = make_tree(tmp_path / "data")
    for stray in (".DS_Store", "train/.DS_Store", "train/x.pkl", 
                  "train/hello/._user12_G10_R10.pkl", "train/hello/deeper/x.pkl",
                  "train/.cache/x.pkl", "train/hello/.DS_Store"):  # fmt: skip
        (root / stray).parent.mkdir(exist_ok=True)
        (root / stray).write_bytes(b"stray")
    assert in_order(read_clips(root)) == TEST + TRAIN
    for counted, what in (
        ("notes.txt", r"notes\.txt: is no \.pkl"),
        ("x.pkl", r"x\.pkl: not a pickle"),
    ):
        (root / "train/hello" / counted).write_bytes(b"stray")
        with pytest.raises(ClipError, match=what):
            read_clips(root)
        assert len(read_clips(root, skip_bad=True).skipped) == 1
        (root / "train/hello" / counted).unlink()


@pytest.mark.parametrize("place", ["data_LOSO_user12", "data"])
def test_leave_one_signer_out_copies_find_their_labels(tmp_path, place):
    copy = tmp_path / "data_LOSO_user12"
    write_pickle(copy / "train/bye/user02_G11_R01.pkl", points(3))
    write_pickle(copy / "test/bye/user12_G11_R01.pkl", points(4))
    with pytest.raises(ClipError, match=r"no label2id\.json in .*data_LOSO_user12 nor in .*data;"):
        read_clips(copy)
    write_labels(tmp_path / place)
    assert in_order(read_clips(copy, split="train")) == [(3, 1, "user02", 1)]
    assert in_order(read_clips(copy, split="test")) == [(4, 1, "user12", 1)]


LABEL_FAULTS = {
    "not JSON": ("{", None, r"label2id\.json: not valid JSON"),
    "a list": (["hello"], None, "one entry a class"),
    "empty": ({}, None, "one entry a class"),
    "text labels": ({"hello": "0"}, None, "label of 'hello'"),
    "boolean labels": ({"hello": False, "bye": True}, None, "label of 'hello'"),
    "from 1": ({"hello": 1, "bye": 2}, None, "labels 0 to 1"),
    "twice": ({"hello": 0, "bye": 0}, None, "labels 0 to 1"),
    "a gap": ({"hello": 0, "bye": 2}, None, "labels 0 to 1"),
    "inverse contradicts": (LABELS, {"0": "hello", "1": "again", "2": "bye"}, "label 1 is 'again'"),
    "inverse lacks one": (LABELS, {"0": "hello", "1": "bye"}, "label 2 is None"),
    "inverse has one more": (
        LABELS, {"0": "hello", "1": "bye", "2": "again", "3": "x"}, "label 3 is 'x'"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LABEL_FAULTS)
def test_label_files_that_contradict_themselves(tmp_path, name):
    labels, inverse, pattern = LABEL_FAULTS[name]
    root = make_tree(tmp_path / "data")
    (root / "label2id.json").write_text(labels if name == "not JSON" else json.dumps(labels))
    if inverse is None:
        (root / "id2label.json").unlink()
    else:
        (root / "id2label.json").write_text(json.dumps(inverse))
    raises_here(root, pattern)


def test_id2label_may_be_missing(tmp_path):
    root = make_tree(tmp_path / "data")
    (root / "id2label.json").unlink()
    assert read_clips(root).class_names == tuple(LABELS)


def with_nan(value: float) -> np.ndarray:
    landmarks = points(4)
    landmarks[2, 3, 1] = value
    return landmarks


BAD_CLIPS = {
    "a path for a signer": (points(4), {"user": "../../escaped"}, r"signer '\.\./\.\./escaped'"),
    "no frames": (points(0), {}, "no frames"),
    "no frames, a list": ([], {}, "no frames"),
    "one frame": (points(1), {}, "one frame"),
    "a table": (points(4)[..., 0], {}, r"shape \(4, 5\)"),
    "one number": (np.float32(1), {}, r"shape \(\)"),
    "4 coordinates": (points(4, K, 4), {}, r"shape \(4, 5, 4\)"),
    "1 coordinate": (points(4, K, 1), {}, r"shape \(4, 5, 1\)"),
    "no keypoints": (points(4, 0), {}, r"shape \(4, 0, 2\)"),
    "NaN": (with_nan(np.nan), {}, "keypoint 3 of frame 2 is NaN or infinite"),
    "infinite": (with_nan(-np.inf), {}, "keypoint 3 of frame 2"),
    "beyond float32": (with_nan(0.5).astype(float) * 1e300, {}, "keypoint 0 of frame 0"),
    "more keypoints": (
        points(4, K + 1), {}, r"6 keypoints of 2 coordinates.*\(6 of 7\) have 5 of 2"
    ),
    "3 coordinates": (points(4, K, 3), {}, r"5 keypoints of 3 coordinates"),
    "another class": (points(4), {"class": "bye"}, "says 'bye', its folder 'hello'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CLIPS)
def test_bad_clips_are_named_or_skipped(tmp_path, name):
    keypoints, fields, pattern = BAD_CLIPS[name]
    root = make_tree(tmp_path / "data")
    write_pickle(root / "train/hello/bad.pkl", keypoints, **fields)
    with pytest.raises(ClipError, match=rf"(?s)hello.bad\.pkl: .*{pattern}.*--skip-bad"):
        read_clips(root)
    clips = read_clips(root, skip_bad=True)
    assert in_order(clips) == TEST + TRAIN
    (message,) = clips.skipped
    assert "bad.pkl" in message and "--skip-bad" not in message
    assert len(read_clips(root, split="test")) == 2


def test_unknown_classes_and_damaged_pickles_are_skipped_too(tmp_path):
    root = make_tree(tmp_path / "data")
    write_pickle(root / "train/stranger/a.pkl", points(4))
    damaged = write_pickle(root / "train/bye/damaged.pkl", points(4))
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(ClipError, match=r"damaged\.pkl: .*truncated"):
        read_clips(root)
    clips = read_clips(root, skip_bad=True)
    assert in_order(clips) == TEST + TRAIN
    assert "class 'stranger' is not in label2id.json" in clips.skipped[1]


def test_nothing_left_is_an_error_even_when_skipping(tmp_path):
    root = tmp_path / "data"
    write_labels(root)
    (root / "train/hello").mkdir(parents=True)
    raises_here(root, "no clips: none found", skip_bad=True)
    write_pickle(root / "train/hello/a.pkl", points(1))
    raises_here(root, r"all 1 are bad, first .*a\.pkl: the clip has one frame", skip_bad=True)
    write_pickle(root / "train/hello/b.pkl", points(2))
    assert len(read_clips(root, skip_bad=True)) == 1


def test_paths_that_are_no_data_set(tmp_path):
    raises_here(tmp_path / "absent", r"no such file.*packed \.npz.*tree of pickles")
    raises_here(tmp_path, "holds no data set")
    write_arrays(tmp_path / "a.npz")
    assert len(read_clips(str(tmp_path))) == 3
    write_arrays(tmp_path / "b.npz")
    raises_here(tmp_path, r"2 \.npz files; name one of them: a\.npz, b\.npz")
    with pytest.raises(ClipError, match="unknown split 'dev'; known: train, val, test, all"):
        read_clips(tmp_path / "a.npz", split="dev")


# Sets


def one_clip(keypoints: int, coordinates: int) -> ClipSet:
    clip = Clip(points(4, keypoints, coordinates), 0, "a", 0, "x.npz[0]")
    return ClipSet((clip,), ("hello",), ("skipped",))


def test_select_keeps_the_order_asked_for(tmp_path):
    clips = read_clips(make_tree(tmp_path / "data"))
    some = clips.select(np.array([4, 0]))
    assert some.clips == (clips.clips[4], clips.clips[0])
    assert some.class_names == clips.class_names and list(some.labels) == [0, 2]
    with pytest.raises(TypeError):
        clips.select(clips.labels == 0)


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "kinect20"])
def test_image_layouts_come_from_their_own_landmarks_and_from_holistic(name):
    layout = get_layout(name)
    whole = one_clip(543, 3)
    (clip,) = whole.to_layout(layout).clips
    indices = layout.holistic or range(543)
    np.testing.assert_array_equal(clip.landmarks, whole.clips[0].landmarks[:, list(indices), :2])
    own = one_clip(layout.num_keypoints, 2)
    np.testing.assert_array_equal(own.to_layout(layout).clips[0].landmarks, own.clips[0].landmarks)
    assert own.to_layout(layout).skipped == ("skipped",)


def test_landmarks_that_do_not_give_a_layout():
    with pytest.raises(ClipError, match=r"x\.npz\[0\]: found 75.*'kp90' has 90.*with 75: kp75"):
        one_clip(75, 2).to_layout(get_layout("kp90"))
    with pytest.raises(ClipError, match=r"found 7 keypoints.*layouts with 7: none"):
        one_clip(7, 2).to_layout(get_layout("holistic543"))
    with pytest.raises(ClipError, match=r"found 2 coordinates.*kinect20.*needs 3"):
        one_clip(20, 2).to_layout(get_layout("kinect20"))
    assert one_clip(20, 3).to_layout(get_layout("kinect20")).clips[0].landmarks.shape == (4, 20, 3)


# Packing


def test_packing_a_tree_loses_nothing_but_the_rounding(tmp_path):
    root = make_tree(tmp_path / "data")
    gap = points(5)
    gap[1:3, 2] = 0
    write_pickle(root / "train/bye/user02_G11_R01.pkl", gap)
    tree = read_clips(root)
    write_packed(tree, tmp_path / "x.npz")
    packed = read_clips(tmp_path / "x.npz")
    assert in_order(packed) == in_order(tree)
    assert packed.class_names == tree.class_names
    errors = [
        np.abs(a.landmarks - b.landmarks).max()
        for a, b in zip(tree.clips, packed.clips, strict=True)
    ]
    assert 0.4e-4 < max(errors) <= 0.5e-4 * 1.01
    (bye,) = (clip for clip in packed.clips if clip.label == LABELS["bye"])
    np.testing.assert_array_equal(bye.landmarks == 0, gap == 0)
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays["scale"] == np.float32(1e-4)
        assert arrays["kp_q"].dtype == arrays["signer"].dtype == np.int16
        assert arrays["offsets"].dtype == np.int64
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.parametrize(
    "name", ["isl_kinect30", "asl10_pose_hands", "asl16_pose_hands", "fsl7_holistic"]
)
def test_packing_what_was_packed_changes_nothing(tmp_path, request, name):
    folder = request.getfixturevalue(name)
    clips = read_clips(folder)
    write_packed(clips, tmp_path / "x.npz")
    again = read_clips(tmp_path / "x.npz")
    assert again.fingerprint() == clips.fingerprint()
    assert in_order(again) == in_order(clips)
    with np.load(folder / f"{name}.npz") as a, np.load(tmp_path / "x.npz") as b:
        assert a["scale"] == b["scale"] and b["kp_q"].dtype == np.int16
        if name == "isl_kinect30":
            assert set(a.files) == set(b.files)
            for array in a.files:
                np.testing.assert_array_equal(a[array], b[array])


@pytest.mark.parametrize("name", ["isl_kinect30", "asl10_pose_hands"])
def test_unpacked_and_packed_again_nothing_has_changed(tmp_path, request, name, capsys):
    folder, tree = request.getfixturevalue(name), tmp_path / "tree"
    clips = read_clips(folder)
    clips = dataclasses.replace(
        clips,
        clips=tuple(
            dataclasses.replace(clip, split=("train", "test")[at % 5 == 0])
            for at, clip in enumerate(clips.clips)
        ),
    )
    write_packed(clips, tmp_path / "whole.npz")
    assert main(["unpack", str(tmp_path / "whole.npz"), str(tree)]) == 0
    assert f"{len(clips)} pickles" in capsys.readouterr().out
    assert {path.name for path in tree.iterdir()} == {
        "train", "test", "label2id.json", "id2label.json"
    }  # fmt: skip
    back = read_clips(tree)
    assert main(["pack", str(tree), str(tmp_path / "again.npz")]) == 0
    again = read_clips(tmp_path / "again.npz")
    # A tree is read class by class; its files' names begin with the clips' numbers.
    order = np.argsort([Path(clip.source).name for clip in back.clips])
    for found in (back, again):
        assert found.select(order).fingerprint() == clips.fingerprint()
        assert [found.clips[at].repetition for at in order] == [c.repetition for c in clips.clips]
    assert again.notes == () and [note for note in back.notes if "not read" in note] == []


def test_what_a_tree_of_pickles_cannot_hold_is_refused(tmp_path):
    one = one_clip(75, 2)
    (tmp_path / "there").mkdir()
    with pytest.raises(ClipError, match="there: exists already"):
        write_tree(one, tmp_path / "there")
    named = dataclasses.replace(one, landmark_names=tuple(map(str, range(75))))
    for clips in (named, one_clip(77, 2)):
        with pytest.raises(ClipError, match=r"do not say which 7\d landmarks.*--layout"):
            write_tree(clips, tmp_path / "x")
    for name in ("a/b", "..", "training"):
        renamed = dataclasses.replace(one, class_names=(name,))
        with pytest.raises(ClipError, match="cannot be a folder's name"):
            write_tree(renamed, tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize(
    ("largest", "dtype"),
    [
        (3.2767, np.int16),
        (3.3, np.int32),
        (1500.0, np.int32),
        (1e4, np.float32),
        (1e30, np.float32),
    ],
)
def test_one_wild_value_coarsens_no_other(tmp_path, largest, dtype):
    landmarks = points(4)
    landmarks[0, 0] = (-largest, largest)
    clips = ClipSet((Clip(landmarks, 0, "a", 40_000, "a"),), ("hello",))
    write_packed(clips, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays["kp_q"].dtype == dtype
    (clip,) = read_clips(tmp_path / "x.npz").clips
    error = np.abs(clip.landmarks - landmarks)
    assert error[0, 0].max() <= max(1e-4 / 2, 1e-6 * largest)
    error[0, 0] = 0
    assert error.max() <= 1e-4 / 2 * 1.01
    assert clip.repetition == 40_000


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    clips = read_clips(make_tree(tmp_path / "data"))
    path = tmp_path / "x.npz"
    path.write_bytes(b"old")

    def disk_full(file, array, **options):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(SignBartError, match="No space left"):
        patched.setattr(np.lib.format, "write_array", disk_full)
        write_packed(clips, path)
    assert path.read_bytes() == b"old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data", "x.npz"]
    write_packed(clips, path)
    assert len(read_clips(path)) == len(clips)


def test_sets_that_cannot_be_packed(tmp_path):
    a, b = one_clip(5, 2).clips[0], one_clip(6, 2).clips[0]
    bad = Clip(with_nan(np.nan), 0, "a", 0, "a")
    for clips, pattern in (((a, b), "5 × 2, 6 × 2"), ((), "no clips"), ((a, bad), "NaN")):
        with pytest.raises(ClipError, match=pattern):
            write_packed(ClipSet(clips, ("hello",)), tmp_path / "x.npz")
    with pytest.raises(SignBartError, match=r"absent.x\.npz: cannot be written: No such file"):
        write_packed(ClipSet((a,), ("hello",)), tmp_path / "absent" / "x.npz")
    assert not list(tmp_path.iterdir())


# The command


def test_pack_and_info_say_what_was_done(tmp_path, capsys):
    root = make_tree(tmp_path / "data")
    out = tmp_path / "out.npz"
    write_pickle(root / "train/hello/bad.pkl", points(1))
    with pytest.raises(ClipError, match=r"bad\.pkl"):
        main(["pack", str(root), str(out)])
    assert not out.exists()
    assert main(["pack", str(root), str(out), "--skip-bad"]) == 0
    printed = capsys.readouterr().out
    for text in ("clips      6", "signers    5", "classes    3", "skipped    1 bad clips",
                 "bad.pkl", f"{out.stat().st_size} bytes", "at most 5e-05"):  # fmt: skip
        assert text in printed
    with pytest.raises(ClipError, match=r"out\.npz: exists already; pass --force"):
        main(["pack", str(root), str(out), "--skip-bad"])
    assert main(["pack", str(root), str(out), "--split", "test", "--force"]) == 0
    assert len(read_clips(out)) == 2
    capsys.readouterr()
    assert main(["info", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "frames     7 / 7.5 / 8 (min/median/max)" in printed
    assert "hello, bye, again" in printed and "user12" in printed


@pytest.mark.parametrize(
    "layout, told",
    {
        "kp90": "--config configs/kp90.yaml --data",
        "kp75": "--config configs/kp75.yaml --data",
        "kp65": "--config configs/kp90.yaml --set data.layout=kp65 --data",
        "holistic543": "--config configs/kp90.yaml --data",
        "kinect20": "--config configs/isl_kinect30.yaml --data",
        None: None,
    }.items(),
)
def test_info_names_a_training_that_takes_the_recordings(layout, told, tmp_path, capsys):
    """With what the recordings had to be read with."""
    data = tmp_path / "my signs"
    shape = (LAYOUTS[layout].num_keypoints, 3) if layout else (K, D)
    write_pickle(data / "hello/user01_R1.pkl", points(4, *shape))
    write_pickle(data / "bye/user01_R1.pkl", points(5, *shape))
    assert main(["info", str(data), "--skip-bad"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert ("signbart_torch.train" in last) == (told is not None)
    if told:
        assert f"{told} '{data}' --skip-bad --output runs/NAME" in last
        overrides = [told.split()[3]] if "--set" in told else []
        config = load_config(told.split()[1], overrides)
        read_clips(data).to_layout(get_layout(config.data.layout))


def test_the_command_reports_errors_on_one_line_and_starts_light(tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            cwd=Path(__file__).resolve().parents[3],
            check=False,
        )

    failed = run("-m", "signbart.clips", "info", str(tmp_path / "absent"))
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: ") and failed.stderr.count("\n") == 1
    code = (
        "import sys, signbart.clips\n"
        "try: signbart.clips.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'tensorflow', 'keras', 'sklearn', 'matplotlib', 'rich', 'yaml'}\n"
        "print('loaded', sorted(heavy & set(sys.modules)))\n"
    )
    helped = run("-c", code)
    assert "usage: python -m signbart.clips" in helped.stdout and "loaded []" in helped.stdout


def test_pixels_are_not_taken_for_shares_of_the_image():
    layout = get_layout("kp63")
    landmarks = points(4, layout.num_keypoints, 2)
    ClipSet((Clip(landmarks, 0, "a", 0, "fine"),), ("hello",)).to_layout(layout)
    pixels = ClipSet((Clip(640 * landmarks, 0, "a", 0, "raw"),), ("hello",))
    with pytest.raises(
        ClipError, match=r"raw: landmarks are about \d+ in size and look like pixels"
    ):
        pixels.to_layout(layout)


def test_a_division_survives_packing(tmp_path):
    clips = read_clips(make_tree(tmp_path / "data"))
    write_packed(clips, tmp_path / "x.npz")
    assert [clip.split for clip in read_clips(tmp_path / "x.npz").clips] == [
        clip.split for clip in clips.clips
    ]
    assert {clip.split for clip in clips.clips} == {"train", "test"}


def test_the_fingerprint_is_of_the_recordings_and_not_of_their_place(tmp_path):
    clips = read_clips(make_tree(tmp_path / "data"))
    assert read_clips(make_tree(tmp_path / "copy")).fingerprint() == clips.fingerprint()
    changed = [dataclasses.replace(clip) for clip in clips.clips]
    changed[0] = dataclasses.replace(changed[0], landmarks=changed[0].landmarks + 1e-3)
    others = dataclasses.replace(clips, clips=tuple(changed))
    assert others.fingerprint() != clips.fingerprint()

"""Every form reads, told apart by its content, as the same clips in packed form do."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from signbart.errors import ClipError
from signbart.landmarks.layouts import get_layout
from signbart.recordings.clip import Clip, ClipSet
from signbart.recordings.reading import read_clips, read_single_clip
from tests.signbart.recordings import forms

TABLES = ("Google's Parquet", "long CSV", "wide Parquet")
pytestmark = pytest.mark.filterwarnings("error")


def needs(form: str) -> None:
    if form in TABLES:
        pytest.importorskip("pyarrow", reason="tables are read with pyarrow")


def made(keypoints: int = 75) -> ClipSet:
    """Clips of MediaPipe's shape, some hands and single points of which are missing."""
    rng = np.random.default_rng(keypoints)
    clips = []
    for at in range(6):
        landmarks = rng.uniform(0.05, 0.95, (4 + at, keypoints, 2)).astype(np.float32)
        landmarks[:, 33:54] *= at % 2
        landmarks[rng.random(landmarks.shape[:2]) < 0.1] = 0
        clips.append(Clip(landmarks, at % 3, f"S{at % 2 + 1:02d}", at + 1, f"[{at}]"))
    return ClipSet(tuple(clips), ("bye", "hello", "thanks"))


def check_equal(found: ClipSet, expected: ClipSet, form: str) -> None:
    """The same clips, whatever their order, to float32's rounding of pixels."""
    layout = get_layout({75: "kp75", 543: "holistic543"}[expected.clips[0].landmarks.shape[1]])
    assert found.class_names == expected.class_names
    assert found.lacking(layout) is None and not found.skipped

    def key(clip: Clip) -> tuple:
        signer = clip.signer.removeprefix("user").removeprefix("signer").removeprefix("S")
        return clip.label, int(signer), len(clip.landmarks), np.float32(clip.landmarks[0, 0, 0])

    ours = sorted(found.to_layout(layout).clips, key=key)
    theirs = sorted(expected.clips, key=key)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert key(one)[:3] == key(other)[:3]
        np.testing.assert_array_equal(one.landmarks == 0, other.landmarks == 0)
        np.testing.assert_allclose(one.landmarks, other.landmarks, atol=3e-7)


@pytest.mark.parametrize("form", [*forms.ANY, *forms.KP75])
def test_every_form_reads_as_the_packed_one(tmp_path, form):
    needs(form)
    expected = made(75)
    write = {**forms.ANY, **forms.KP75}[form]
    found = read_clips(write(tmp_path / "set", forms.named(expected)))
    check_equal(found, expected, form)


@pytest.mark.parametrize("form", forms.ANY)
def test_every_form_of_real_recordings_reads_as_the_packed_one(tmp_path, form, fsl7_holistic):
    """All 543 landmarks; the form of the source itself, a vector of 1662 a frame, among them."""
    needs(form)
    whole = read_clips(fsl7_holistic)
    some = whole.select([0, 60, 99])
    clips = tuple(
        Clip(clip.landmarks, at, "S07", 1, clip.source) for at, clip in enumerate(some.clips)
    )
    names = tuple(sorted(whole.class_names[clip.label] for clip in some.clips))
    expected = ClipSet(clips, names)
    found = read_clips(forms.ANY[form](tmp_path / "set", forms.named(expected)))
    check_equal(found, expected, form)


def test_vectors_of_258_are_the_source_of_asl10(tmp_path, asl10_pose_hands):
    whole = read_clips(asl10_pose_hands)
    some = whole.select(range(0, 720, 90))
    root = forms.ANY["tree of vectors a frame"](tmp_path / "MP_Data", forms.named(some))
    assert np.load(next(root.glob("*/*/0.npy"))).shape == (258,)
    found = read_clips(root)
    by_name = {Path(clip.source).name: clip for clip in found.clips}
    for class_name, name, landmarks in forms.named(some):
        np.testing.assert_array_equal(by_name[name].landmarks[..., :2], landmarks)
        assert found.class_names[by_name[name].label] == class_name


def openpose_frame(points: np.ndarray) -> dict:
    """What OpenPose writes of a frame with a passer-by in front: (137, 3)."""
    parts = {"pose": (0, 25), "hand_left": (25, 46), "hand_right": (46, 67), "face": (67, 137)}
    people = []
    for weight in (0.0, 1.0):
        own = points * (1, 1, weight)
        people.append(
            {f"{name}_keypoints_2d": own[a:b].ravel().tolist() for name, (a, b) in parts.items()}
        )
    return {"version": 1.3, "people": people}


def test_openpose_writes_a_file_a_frame(tmp_path):
    rng = np.random.default_rng(1)
    pixels = rng.uniform(50, 400, (12, 137, 3))
    pixels[..., 2] = 0.9
    pixels[3, 4, 2] = 0.01  # its right wrist is not there
    for place in ("set/all/hello/60001/image_{:05d}_keypoints.json",
                  "flat/train/hello/60001_{:012d}_keypoints.json"):  # fmt: skip
        for at in range(12):
            path = tmp_path / place.format(at)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(openpose_frame(pixels[at])))
    for root in ("set", "flat"):
        clips = read_clips(tmp_path / root, image_size="640x480")
        assert clips.class_names == ("hello",) and len(clips) == 1
        kp75 = get_layout("kp75")
        assert "lack" in clips.lacking(kp75) and "mouth_left" in clips.lacking(kp75)
        landmarks = clips.to_layout(kp75).clips[0].landmarks
        names = {"right_wrist": 4, "left_shoulder": 5, "left_hand_wrist": 25, "nose": 0,
                 "right_hand_pinky_tip": 66, "right_heel": 24}  # fmt: skip
        for name, place in names.items():
            expected = pixels[:, place, :2] / (640, 480)
            expected[3] *= name != "right_wrist"
            np.testing.assert_allclose(landmarks[:, kp75.index(name)], expected, rtol=1e-5)
        assert not landmarks[:, kp75.index("mouth_left")].any()
    with pytest.raises(ClipError, match=r"look like pixels.*--image-size"):
        read_clips(tmp_path / "set").to_layout(get_layout("kp75"))


def test_msasl_and_autsl_indexes_say_sign_split_and_signer(tmp_path):
    for name in ("a", "b", "c"):
        np.save(tmp_path / f"{name}.npy", np.full((5, 75, 2), 0.5))
    entries = {
        "train": [{"text": "hello", "label": 0, "signer_id": 3, "file": "a"}],
        "test": [{"text": "bye", "label": 1, "signer_id": 4, "file": "b"}],
    }
    for split, content in entries.items():
        (tmp_path / f"MSASL_{split}.json").write_text(json.dumps(content))
    clips = read_clips(tmp_path)
    assert [(c.source[-5:], c.label, c.signer, c.split) for c in clips.clips] == [
        ("a.npy", 1, "signer3", "train"), ("b.npy", 0, "signer4", "test"),
    ]  # fmt: skip
    assert any("1 files that" in note and "c.npy" in note for note in clips.notes)
    assert [c.signer for c in read_clips(tmp_path, split="test").clips] == ["signer4"]

    autsl = tmp_path / "autsl"
    (autsl / "train").mkdir(parents=True)
    np.save(autsl / "train" / "signer12_sample345_color.npy", np.full((5, 75, 2), 0.5))
    (autsl / "train_labels.csv").write_text("signer12_sample345_color,41\nsigner1_sample2_color,3")
    (clip,) = read_clips(autsl).clips
    assert (clip.signer, clip.repetition, clip.split) == ("signer12", 345, "train")
    assert any("1 of 2 clips" in note for note in read_clips(autsl).notes)


def test_a_clip_may_be_shown_in_every_form(tmp_path):
    clips = forms.named(made())
    expected = clips[3][2]
    for form in (
        "tree of .npy",
        "tree of .npz with masks",
        "tree of .pose",
        "tree of JSON by parts",
        "tree of vectors a frame",
        "tree of masked pickles",
    ):
        root = forms.ANY[form](tmp_path / form, clips)
        (source,) = root.glob(f"{clips[3][0]}/{clips[3][1]}*")
        found = read_single_clip(str(source)).to_layout(get_layout("kp75")).clips[0]
        np.testing.assert_allclose(found.landmarks, expected, atol=3e-7)
    path = forms.write_json_list(tmp_path / "list", clips)
    found = read_single_clip(f"{path}[3]").clips[0]
    np.testing.assert_array_equal(found.landmarks, expected)
    with pytest.raises(ClipError, match=r"holds 6 clips; name one, as .*clips\.json\[0\]"):
        read_single_clip(str(path))
    with pytest.raises(ClipError, match="a folder that is no clip"):
        read_single_clip(str(tmp_path / "tree of .npy"))


WRONG = {
    "ragged JSON": ("a.json", b'{"keypoints": [[[0, 1]], [[0, 1], [1, 2]]]}', "rectangular lists"),
    "JSON without frames": ("a.json", b'{"name": 3}', "has no frames; expected one of keypoints"),
    "damaged JSON": ("a.json", b'{"keypoints": [', "not valid JSON"),
    "Latin-1": ("a.json", '{"a": "ä"}'.encode("latin-1"), "is no UTF-8; save it as UTF-8"),
    "OpenPose of another model": (
        "a.json", b'[{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}]', "only OpenPose's BODY_25",
    ),
    "truncated .pose": ("a.pose", b"\xcd\xccL>" + b"\x01" * 9, "damaged or truncated"),
    "an older .pose": ("a.pose", b"\0\0\0\0" + b"\1" * 90, "another version than 0.1 and 0.2"),
    "damaged HDF5": ("a.h5", b"\x89HDF\r\n\x1a\n" + b"x" * 90, "not a readable HDF5"),
    "unknown": ("a.bin", b"\1\2\3\4", "is no .pkl file, nor one of another form"),
    "ambiguous width": ("a.npy", np.zeros((4, 126)), "kp63 × 2, hands42 × 3; say which with"),
    "unknown width": ("a.npy", np.zeros((4, 7)), r"keypoints have shape \(4, 7\)"),
    "all missing": ("a.npy", np.full((4, 75, 2), np.nan), "no landmark of any frame is there"),
    "infinite": ("a.npy", np.full((4, 75, 2), np.inf), "NaN or infinite"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read_is_named(tmp_path, name):
    file, content, complaint = WRONG[name]
    folder = tmp_path / "set" / "hello"
    folder.mkdir(parents=True)
    if isinstance(content, bytes):
        (folder / file).write_bytes(content)
    else:
        np.save(folder / file, content)
    with pytest.raises(ClipError, match=rf"(?s){file}.*{complaint}"):
        read_clips(tmp_path / "set")


TABLE_FAULTS = {
    "no rows": ("x_pose_0,y_pose_0\n", "has no rows"),
    "other columns": ("first,second\n1,2\n", "of no known form"),
    "two signs in a clip": ("sign,x_pose_0,y_pose_0\na,1,2\nb,1,2\n", "'sign' differs within"),
    "unknown type": ("frame,type,landmark_index,x,y\n0,foot,1,1,1\n", "holds 'foot', expected"),
    "beyond the part": ("frame,type,landmark_index,x,y\n0,pose,33,1,1\n", "has no landmark 33"),
    "text": ("frame,type,landmark_index,x,y\n0,pose,3,a,1\n", "column 'x' holds something"),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE_FAULTS)
def test_tables_that_cannot_be_read(tmp_path, name):
    pytest.importorskip("pyarrow", reason="tables are read with pyarrow")
    text, complaint = TABLE_FAULTS[name]
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello" / "a.csv").write_text(text)
    with pytest.raises(ClipError, match=rf"a\.csv.*{complaint}"):
        read_clips(tmp_path)


def test_a_mask_that_marks_what_is_missing_is_refused(tmp_path):
    landmarks = np.full((6, 75, 2), 0.5, np.float32)
    landmarks[:, 33:54] = 0
    path = tmp_path / "hello" / "a.npz"
    path.parent.mkdir()
    np.savez(path, keypoints=landmarks, mask=(landmarks == 0).all(axis=-1))
    with pytest.raises(ClipError, match=r"a\.npz: its mask marks what is missing"):
        read_clips(tmp_path)
    padding = np.arange(6) < 4
    np.savez(path, keypoints=landmarks, mask=padding)
    assert read_clips(tmp_path).clips[0].landmarks.shape == (4, 75, 2)


def test_a_set_of_arrays_in_one_npz(tmp_path):
    rng = np.random.default_rng(0)
    keypoints = rng.random((4, 6, 75, 2), np.float32)
    lengths = np.array([6, 4, 5, 6])
    mask = np.arange(6) < lengths[:, None]
    labels = np.array(["b", "a", "b", "a"])
    np.savez(tmp_path / "x.npz", X=keypoints, y=labels, mask=mask, signer=np.array([3, 3, 4, 4]))
    clips = read_clips(tmp_path / "x.npz")
    assert [len(clip.landmarks) for clip in clips.clips] == [*lengths]
    assert [clips.class_names[label] for label in clips.labels] == [*labels]
    assert clips.signers == ("3", "3", "4", "4")


def test_an_annotation_pickle_runs_nothing(tmp_path):
    import os

    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"annotations": [Attack()], "split": {}}))
    with pytest.raises(ClipError, match="refused: the pickle asks for"):
        read_clips(tmp_path / "a.pkl")
    assert not (tmp_path / "ran").exists()


def test_nan_in_the_projects_own_pickles_is_missing_where_a_layout_is_named(tmp_path):
    expected = made()
    root = tmp_path / "set"
    for class_name, name, landmarks in forms.named(expected):
        (root / class_name).mkdir(parents=True, exist_ok=True)
        content = {"keypoints": forms.with_gaps(landmarks), "class": class_name}
        (root / class_name / f"{name}.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ClipError, match="is NaN or infinite"):
        read_clips(root)
    check_equal(read_clips(root, source_layout="kp75"), expected, "pickle")


@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", "<f8", ">f8"])
def test_numbers_of_every_precision_and_byte_order(tmp_path, dtype):
    landmarks = (np.arange(4 * 75 * 2).reshape(4, 75, 2) / 1024).astype(dtype)
    (tmp_path / "hello").mkdir()
    np.save(tmp_path / "hello" / "a.npy", landmarks)
    np.savez(tmp_path / "hello" / "b.npz", keypoints=landmarks)
    for clip in read_clips(tmp_path).clips:
        assert clip.landmarks.dtype == np.float32
        np.testing.assert_array_equal(clip.landmarks[:, 1:], landmarks[:, 1:].astype(np.float32))


def test_wide_tables_name_their_columns_in_several_ways(tmp_path):
    pytest.importorskip("pyarrow", reason="tables are read with pyarrow")
    rng = np.random.default_rng(0)
    points = rng.uniform(0.1, 0.9, (5, 42, 2)).astype(np.float32)
    names = get_layout("kp75").names[33:]
    heads = {
        "named": ",".join(f"{name}_x,{name}_y" for name in names),
        "numbered": ",".join(str(at) for at in range(84)),
        "counted": ",".join(f"v{at}" for at in range(84)),
    }
    for form, head in heads.items():
        folder = tmp_path / form / "hello"
        folder.mkdir(parents=True)
        rows = [",".join(map(repr, frame.ravel().tolist())) for frame in points]
        # Frames in another order than the rows.
        lines = [f"{at},{row}" for at, row in enumerate(rows)][::-1]
        (folder / "a.csv").write_text("\n".join([f"frame,{head}", *lines]))
        clips = read_clips(tmp_path / form)
        found = clips.to_layout(get_layout("kp75")).clips[0].landmarks
        np.testing.assert_allclose(found[:, 33:], points, rtol=1e-6)
        assert not found[:, :33].any()

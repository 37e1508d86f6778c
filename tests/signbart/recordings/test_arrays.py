"""Arrays in .npz and HDF5: parts are put together, masks shorten, and what is not read is named."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from signbart.errors import ClipError
from signbart.landmarks.layouts import get_layout
from signbart.recordings.reading import read_clips

T = 9
KEYS = ("pose", "left_hand", "right_hand")
MEDIAPIPE = ("pose_landmarks", "leftHandLandmarks", "right_hand_landmarks")
pytestmark = pytest.mark.filterwarnings("error")


def made(frames: int = T, keypoints: int = 75, coordinates: int = 2) -> np.ndarray:
    rng = np.random.default_rng([frames, keypoints])
    points = rng.uniform(0.05, 0.95, (frames, keypoints, coordinates)).astype(np.float32)
    points[1, 33:54] = 0  # a left hand that is missing in a frame
    return points


def in_parts(points: np.ndarray, keys: tuple[str, ...] = KEYS) -> dict[str, np.ndarray]:
    """The parts of (…, K, D) as arrays of their own; missing points are NaN in them."""
    missing = (points[..., :2] == 0).all(axis=-1, keepdims=True)
    whole = np.where(missing, np.nan, points).astype(np.float32)
    bounds = ((0, 33), (33, 54), (54, 75))
    return {key: whole[..., a:b, :] for key, (a, b) in zip(keys, bounds, strict=True)}


def write_npz(root: Path, arrays: dict[str, np.ndarray]) -> Path:
    path = root / "hello" / "clip.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **arrays)
    return root


def write_hdf5(root: Path, arrays: dict[str, np.ndarray]) -> Path:
    with h5py.File(root / "set.h5", "w") as file:
        group = file.create_group("hello/clip")
        for name, array in arrays.items():
            group[name] = array
        group.attrs["signer"] = "anna"
    return root / "set.h5"


BOTH = pytest.mark.parametrize("write", [write_npz, write_hdf5])


@BOTH
@pytest.mark.parametrize("keys", [KEYS, MEDIAPIPE])
@pytest.mark.parametrize("coordinates", [2, 3, 4])
def test_parts_are_put_together(tmp_path, write, keys, coordinates):
    points = made(coordinates=coordinates)
    clips = read_clips(write(tmp_path, in_parts(points, keys)))
    assert clips.clips[0].landmarks.shape == (T, 543, 3)
    found = clips.to_layout(get_layout("kp75")).clips[0].landmarks
    np.testing.assert_array_equal(found, points[..., :2])
    assert not clips.clips[0].landmarks[:, 75:].any()


@BOTH
@pytest.mark.parametrize("irises", [0, 10])
def test_a_face_is_a_part_too(tmp_path, write, irises):
    points = made()
    face = np.full((T, 468 + irises, 3), 0.25, np.float32)
    clips = read_clips(write(tmp_path, {**in_parts(points), "face": face}))
    np.testing.assert_array_equal(clips.clips[0].landmarks[:, 75:], face[:, :468])


@BOTH
def test_parts_that_were_never_found_may_be_left_out_or_be_empty(tmp_path, write):
    arrays = in_parts(made())
    expected = read_clips(
        write(tmp_path, {"pose": arrays["pose"], "left_hand": arrays["left_hand"]})
    )
    arrays["right_hand"] = np.zeros((0, 0), np.float32)
    found = read_clips(write(tmp_path, arrays))
    assert found.clips[0].landmarks[:, :54].any() and not found.clips[0].landmarks[:, 54:].any()
    np.testing.assert_array_equal(found.clips[0].landmarks, expected.clips[0].landmarks)


@BOTH
def test_a_pose_alone_is_a_pose(tmp_path, write):
    pose = made()[:, :33]
    arrays = {"pose": pose, "pose_world": np.ones((T, 33, 3)), "visibility": np.ones((T, 33))}
    clips = read_clips(write(tmp_path, arrays))
    np.testing.assert_array_equal(clips.clips[0].landmarks, pose)


@BOTH
def test_all_landmarks_in_one_array_come_before_parts(tmp_path, write):
    points = made()
    clips = read_clips(write(tmp_path, {**in_parts(points), "keypoints": points}))
    np.testing.assert_array_equal(clips.clips[0].landmarks, points)


BESIDE = {
    "hands as one": ({"hands": np.ones((T, 42, 2))}, "'pose' beside 'hands', of which nothing"),
    "a hand as rows": ({"lh": np.ones((T, 63))}, "'pose' beside 'lh'"),
    "of other frames": ({"run": np.ones((4, 33, 2))}, "'pose' beside 'run'"),
    "beside two parts": (
        {"left_hand": np.ones((T, 21, 2)), "rh": np.ones((T, 21, 2))},
        "'pose', 'left_hand' beside 'rh'",
    ),
    "another number": ({"left_hand": np.ones((T, 20, 2))}, r"'left_hand' has shape \(9, 20, 2\)"),
    "fewer frames": ({"left_hand": np.ones((4, 21, 2))}, r"\(4, 21, 2\), but '?.* the same frames"),
    "twice": ({"pose_landmarks": np.ones((T, 33, 2))}, "are the same part; keep one"),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("name", BESIDE)
def test_points_beside_a_pose_are_not_lost(tmp_path, write, name):
    others, complaint = BESIDE[name]
    root = write(tmp_path, {"pose": made()[:, :33], **others})
    with pytest.raises(ClipError, match=rf"(clip\.npz|set\.h5:/hello/clip): .*{complaint}"):
        read_clips(root)


def test_a_set_of_parts_in_one_npz(tmp_path):
    points = np.stack([made(), made(frames=T)[::-1]])
    np.savez(tmp_path / "x.npz", y=np.array(["b", "a"]), **in_parts(points))
    clips = read_clips(tmp_path / "x.npz")
    assert [clips.class_names[label] for label in clips.labels] == ["b", "a"]
    for clip, own in zip(clips.to_layout(get_layout("kp75")).clips, points, strict=True):
        np.testing.assert_array_equal(clip.landmarks, own)
    parts = in_parts(points)
    np.savez(tmp_path / "x.npz", y=np.array(["b", "a"]), **{**parts, "pose": parts["pose"][:1]})
    with pytest.raises(ClipError, match=r"x\.npz: .* parts need the same frames"):
        read_clips(tmp_path / "x.npz")


# A number a frame: how many frames are left of 9, and which of those hold something.
MASKS = {
    "one confidence": (np.full(T, 0.5, np.float32), T, range(T)),
    "falling confidence": (np.linspace(0.9, 0.1, T), T, range(T)),
    "confidence above 1": (np.full(T, 80.0), T, range(T)),
    "padding": (np.arange(T) < 5, 5, range(5)),
    "padding as 0 and 1": ((np.arange(T) < 5).astype(int), 5, range(5)),
    "padding by confidence": (np.where(np.arange(T) < 5, 0.3, 0), 5, range(5)),
    "a gap": (np.arange(T) != 4, T, [at for at in range(T) if at != 4]),
    "a late beginning": (np.arange(T) > 2, T, range(3, T)),
    "NaN": (np.where(np.arange(T) == 4, np.nan, 0.5), T, [at for at in range(T) if at != 4]),
}


@BOTH
@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("key", ["mask", "confidence", "scores"])
def test_only_frames_without_confidence_are_left_out(tmp_path, write, name, key):
    mask, frames, there = MASKS[name]
    points = np.maximum(made(), 0.1)
    (clip,) = read_clips(write(tmp_path, {"keypoints": points, key: mask})).clips
    expected = np.zeros_like(points)
    expected[list(there)] = points[list(there)]
    np.testing.assert_array_equal(clip.landmarks, expected[:frames])


NAMES = ["später", "bye", "später"]


def write_labelled(path: Path, labels: np.ndarray, **arrays: np.ndarray) -> Path:
    np.savez(path, **{"X": np.stack([made()] * 3), "y": labels, **arrays})
    return path


def test_labels_may_be_bytes(tmp_path):
    labels = np.array([name.encode() for name in NAMES])
    signers = np.array([b"anna", b"ben", b"anna"])
    clips = read_clips(write_labelled(tmp_path / "x.npz", labels, signer=signers))
    assert [clips.class_names[label] for label in clips.labels] == NAMES
    assert clips.signers == ("anna", "ben", "anna")
    labels = np.array([name.encode("latin-1") for name in NAMES])
    with pytest.raises(ClipError, match=r"x\.npz: array 'y' holds bytes that are no UTF-8; .*text"):
        read_clips(write_labelled(tmp_path / "x.npz", labels))


@pytest.mark.parametrize("shape", [(3, T, 75, 2), (3, T, 150)])
def test_labels_that_are_not_read_are_named(tmp_path, shape):
    labels = np.array(NAMES, dtype=object)
    arrays = {"X": np.stack([made()] * 3).reshape(shape)}
    complaint = r"x\.npz: .*'y' .*unpickler.* is not read; write it as text: y\.astype\(str\)"
    with pytest.raises(ClipError, match=complaint):
        read_clips(write_labelled(tmp_path / "x.npz", labels, **arrays))
    (tmp_path / "hello").mkdir()
    write_labelled(tmp_path / "hello" / "x.npz", labels, **arrays)
    (tmp_path / "x.npz").unlink()
    with pytest.raises(ClipError, match=complaint):
        read_clips(tmp_path)


def test_a_clip_whose_label_is_not_read_has_its_folder_s(tmp_path):
    arrays = {"keypoints": made(), "label": np.array("bye", dtype=object)}
    root = write_npz(tmp_path, arrays)
    assert read_clips(root).class_names == ("hello",)
    complaint = r"says no sign \(array 'label' .*unpickler.*label\.astype\(str\)\); put it into"
    with pytest.raises(ClipError, match=complaint):
        read_clips(root / "hello" / "clip.npz")


def test_signers_that_are_not_read_are_noted(tmp_path):
    signers = np.array(["anna", "ben", "anna"], dtype=object)
    path = write_labelled(tmp_path / "x.npz", np.array(NAMES), signer=signers)
    clips = read_clips(path)
    assert set(clips.signers) == {"unknown"}
    (note,) = clips.notes
    assert "x.npz: array 'signer'" in note and "signer.astype(str)" in note


@pytest.mark.parametrize(
    ("pose", "beside"),
    [
        (75, {"visibility": (5, 75)}),
        (75, {"features": (5, 512)}),
        (75, {"other": (5, 75, 3)}),
        (33, {"velocity": (5, 33, 3)}),
        (33, {"joint_angles": (5, 60)}),
    ],
)
def test_what_is_about_a_pose_does_not_make_it_a_part(tmp_path, pose, beside):
    arrays = {"pose": np.full((5, pose, 3), 0.5, np.float32)}
    arrays |= {name: np.ones(shape, np.float32) for name, shape in beside.items()}
    (tmp_path / "hello").mkdir()
    np.savez(tmp_path / "hello" / "a.npz", **arrays)
    assert read_clips(tmp_path).clips[0].landmarks.shape[:2] == (5, pose)

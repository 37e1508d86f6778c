"""Source layouts: a landmark is found where its program puts it, whatever the order there."""

import itertools

import numpy as np
import pytest

from signbart.errors import ClipError, ConfigError
from signbart.landmarks.layouts import LAYOUTS, get_layout
from signbart.landmarks.source_layouts import (
    SOURCE_LAYOUTS,
    get_source_layout,
    guess_source_layout,
)
from signbart.recordings.clip import Clip, ClipSet
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips

T = 5
SIZES = {"openpose137": 137, "coco-wholebody133": 133, "kinect-v1": 20, "kinect-v2": 25,
         "tasks553": 553, "hands42": 42, "pose-left-right-face": 543, "face-left-pose-right": 543,
         "pose-face-left-right": 543, "tutorial1662": 543, "tutorial258": 75,
         "left-pose-right": 75, "left-right-pose": 75,
         "pose33": 33, "coco17": 17}  # fmt: skip
# Places from each program's own documentation, where they are easily taken for others.
PLACES = {
    "openpose137": {"nose": 0, "right_shoulder": 2, "left_shoulder": 5, "left_wrist": 7,
                    "right_hip": 9, "right_eye": 15, "left_ear": 18, "left_heel": 21,
                    "left_hand_wrist": 25, "left_hand_pinky_tip": 45, "right_hand_thumb_tip": 50,
                    "face_152": 75, "face_33": 103, "face_291": 121},
    "coco-wholebody133": {"left_eye": 1, "left_shoulder": 5, "right_wrist": 10, "left_heel": 19,
                          "right_heel": 22, "face_152": 31, "left_hand_wrist": 91,
                          "right_hand_wrist": 112, "right_hand_pinky_tip": 132},
    "kinect-v1": {"SpineBase": 0, "Neck": 2, "Head": 3, "HandRight": 11, "FootRight": 19},
    "kinect-v2": {"Neck": 2, "HandLeft": 7, "HandRight": 11, "ThumbRight": 24},
    "face-left-pose-right": {"face_0": 0, "left_hand_wrist": 468, "nose": 489,
                             "right_hand_wrist": 522},
    "pose-face-left-right": {"nose": 0, "face_0": 33, "left_hand_wrist": 501,
                             "right_hand_wrist": 522},
    "tasks553": {"left_hand_wrist": 33, "face_0": 75, "face_477": 552},
}  # fmt: skip
every = pytest.mark.parametrize("name", SOURCE_LAYOUTS)


@every
def test_names_are_once_each(name):
    layout = SOURCE_LAYOUTS[name]
    used = [landmark for landmark in layout.names if landmark is not None]
    assert len(set(used)) == len(used)
    assert layout.num_keypoints == SIZES.get(name, LAYOUTS.get(name, layout).num_keypoints)
    for landmark, place in PLACES.get(name, {}).items():
        assert layout.names[place] == landmark


@every
def test_every_landmark_arrives_under_its_name(name):
    """Each landmark's x is its number: no two are exchanged, and none is lost."""
    layout = SOURCE_LAYOUTS[name]
    points = np.zeros((T, layout.num_keypoints, max(layout.channels)), np.float32)
    points[..., 0] = (1 + np.arange(layout.num_keypoints)) / 1000
    points[..., 1:] = 0.9
    landmarks = layout.to_landmarks(points)
    _, names = layout.selection
    assert landmarks.shape[:2] == (T, len(names))
    for at, landmark in enumerate(names):
        assert landmarks[0, at, 0] == pytest.approx((1 + layout.names.index(landmark)) / 1000)


@pytest.mark.parametrize("name", ["face-left-pose-right", "pose-face-left-right", "tasks553"])
def test_mediapipes_orders_become_holistics(tmp_path, name, fsl7_holistic):
    whole = read_clips(fsl7_holistic).select([3, 77])
    layout = get_source_layout(name)
    index = {landmark: at for at, landmark in enumerate(whole_names())}
    order = [index.get(landmark, 0) for landmark in layout.names]
    for at, clip in enumerate(whole.clips):
        (tmp_path / "hello").mkdir(exist_ok=True)
        np.save(tmp_path / "hello" / f"{at}.npy", clip.landmarks[:, order])
    # Of another number of landmarks the order is known; of 543 it has to be said.
    source_layout = None if name == "tasks553" else name
    read = read_clips(tmp_path, source_layout=source_layout)
    for found, expected in zip(read.to_layout(get_layout("kp90")).clips,
                               whole.to_layout(get_layout("kp90")).clips, strict=True):  # fmt: skip
        np.testing.assert_array_equal(found.landmarks, expected.landmarks)
    if source_layout:
        misread = read_clips(tmp_path).to_layout(get_layout("kp90")).clips[0]
        assert not np.array_equal(misread.landmarks, found.landmarks)


def whole_names() -> tuple[str, ...]:
    return LAYOUTS["holistic543"].names


@pytest.mark.parametrize("name", ["kinect-v1", "kinect-v2"])
def test_kinects_orders_become_kinect20s(tmp_path, name, isl_kinect30):
    whole = read_clips(isl_kinect30).select([5])
    layout, names = get_source_layout(name), LAYOUTS["kinect20"].names
    order = [names.index(joint) if joint in names else 0 for joint in layout.names]
    (tmp_path / "hello").mkdir()
    np.save(tmp_path / "hello" / "a.npy", whole.clips[0].landmarks[:, order])
    (clip,) = read_clips(tmp_path, source_layout=name).clips
    np.testing.assert_array_equal(clip.landmarks, whole.clips[0].landmarks)


def test_a_layout_takes_what_a_source_has_and_says_what_it_lacks(tmp_path):
    rng = np.random.default_rng(0)
    hands = rng.random((T, 42, 2), np.float32)
    (tmp_path / "hello").mkdir()
    np.save(tmp_path / "hello" / "a.npy", hands)
    clips = read_clips(tmp_path)
    kp65 = get_layout("kp65")
    found = clips.to_layout(kp65).clips[0].landmarks
    np.testing.assert_array_equal(found[:, 23:], hands)
    assert not found[:, :23].any()
    lacking = clips.lacking(kp65)
    assert "lack 23 of the 65 landmarks of layout 'kp65'" in lacking and "nose, " in lacking
    with pytest.raises(ClipError, match="has none of the landmarks of layout 'kinect20'"):
        clips.to_layout(get_layout("kinect20"))
    # Packing keeps the names, and so what the landmarks are; another set of names is another set.
    write_packed(clips, tmp_path / "x.npz")
    packed = read_clips(tmp_path / "x.npz")
    assert packed.landmark_names == clips.landmark_names
    np.testing.assert_allclose(packed.clips[0].landmarks, hands, atol=6e-5)
    named = ClipSet(packed.clips, packed.class_names, landmark_names=packed.landmark_names[::-1])
    assert named.fingerprint() != packed.fingerprint()


def test_a_larger_model_layout_feeds_a_smaller_one():
    clip = Clip(np.random.default_rng(0).random((T, 100, 2), np.float32), 0, "a", 0, "a")
    clips = ClipSet((clip,), ("hello",))
    kp75 = clips.to_layout(get_layout("kp75")).clips[0]
    np.testing.assert_array_equal(kp75.landmarks, clip.landmarks[:, :75])
    with pytest.raises(ClipError, match=r"found 100 keypoints.*say with --source-layout"):
        clips.to_layout(get_layout("holistic543"))


def test_what_is_missing_is_0_and_pixels_become_shares():
    layout = get_source_layout("openpose137")
    points = np.full((T, 137, 3), 100, np.float32)
    points[..., 2] = 0.9
    points[0, 3, 2] = 0.04  # below OpenPose's own limit
    points[1, 4, 0] = np.nan
    points[2, 5, :2] = 0
    landmarks = layout.to_landmarks(points, size=(400, 200))
    missing = [(0, 3), (1, 4), (2, 5)]
    for frame, landmark in itertools.product(range(T), range(3, 6)):
        expected = (0, 0) if (frame, landmark) in missing else (0.25, 0.5)
        assert tuple(landmarks[frame, landmark]) == expected
    shares = layout.to_landmarks(points / (1000, 1000, 1), size=(400, 200))
    assert tuple(shares[0, 0]) == pytest.approx((0.1, 0.1))


def test_rows_that_several_layouts_have_are_not_guessed():
    assert guess_source_layout((T, 1662))[0].name == "tutorial1662"
    assert guess_source_layout((T, 258))[0].name == "tutorial258"
    assert guess_source_layout((T, 178))[0].name == "kp89"
    assert guess_source_layout((T, 12)) == (None, 0)
    assert guess_source_layout((T, 20, 2)) == (None, 0)
    assert guess_source_layout((T, 17, 3)) == (None, 0)
    with pytest.raises(ClipError, match=r"300 numbers a frame may be kp75 × 4, kp100 × 3"):
        guess_source_layout((T, 300))


OWN = """
landmarks: {left_wrist: 0, right_wrist: 2, nose: 3}
count: 5
channels: [y, x, confidence]
unit: centred
x: left
y: up
min_confidence: 0.5
"""


def test_a_file_describes_a_layout_of_ones_own(tmp_path):
    (tmp_path / "own.yaml").write_text(OWN)
    layout = get_source_layout(str(tmp_path / "own.yaml"))
    points = np.zeros((2, 5, 3), np.float32)
    points[:, 0] = (0.5, 0.2, 0.9)
    points[:, 2] = (0.5, 0.2, 0.4)
    points[:, 3] = (-1, 1, 0.6)
    landmarks = layout.to_landmarks(points)
    assert layout.selection[1] == ("left_wrist", "right_wrist", "nose")
    np.testing.assert_allclose(landmarks[0], [(0.4, 0.25), (0, 0), (0, 1)], atol=1e-6)
    (tmp_path / "set" / "hello").mkdir(parents=True)
    np.save(tmp_path / "set" / "hello" / "a.npy", points)
    clips = read_clips(tmp_path / "set", source_layout=str(tmp_path / "own.yaml"))
    kp65 = clips.to_layout(get_layout("kp65")).clips[0].landmarks
    np.testing.assert_allclose(kp65[0, get_layout("kp65").index("left_wrist")], (0.4, 0.25))
    with pytest.raises(ClipError, match=r"a\.npy: keypoints have shape .*'hands42' has \(T, 42"):
        read_clips(tmp_path / "set", source_layout="hands42")


def test_metres_of_ones_own_have_y_up(tmp_path):
    (tmp_path / "own.yaml").write_text("landmarks: [Neck, Head]\nunit: metres\ny: down\n")
    layout = get_source_layout(str(tmp_path / "own.yaml"))
    landmarks = layout.to_landmarks(np.array([[[1, 2, 3], [4, 5, 6]]], np.float32))
    np.testing.assert_array_equal(landmarks[0], [(1, -2, 3), (4, -5, 6)])


FAULTS = {
    "no YAML": ("{", "not valid YAML"),
    "no landmarks": ("unit: image", "of which 'landmarks' must be"),
    "unknown key": ("landmarks: [nose]\nunits: image", "unknown key 'units'"),
    "twice": ("landmarks: [nose, nose]", "names 'nose' twice"),
    "one place for two": ("landmarks: {nose: 0, left_eye: 0}", "an index of its own"),
    "lists for places": ("landmarks: {pose: [nose, left_eye]}", "an index of its own"),
    "lists": ("landmarks: [nose]\nchannels: [[x], [y]]", "must list each of x, y once"),
    "no names": ("landmarks: [1, 2]", "must be a list of names"),
    "count too small": ("landmarks: {nose: 4}\ncount: 3", "count must be above"),
    "unit": ("landmarks: [nose]\nunit: pixel", "unit must be one of image, centred, metres"),
    "no y": ("landmarks: [nose]\nchannels: [x, z]", "must list each of x, y once"),
    "size": ("landmarks: [nose]\nimage_size: [640]", r"image_size must be \[width, height\]"),
    "confidence": ("landmarks: [nose]\nmin_confidence: 2", "from 0 to below 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_files_that_describe_nothing(tmp_path, name):
    text, complaint = FAULTS[name]
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"own\.yaml: .*{complaint}"):
        get_source_layout(str(tmp_path / "own.yaml"))


def test_unknown_names_list_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"'mediapipe'; known: .*openpose137.*\.yaml"):
        get_source_layout("mediapipe")
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        get_source_layout(str(tmp_path / "absent.yaml"))

"""JSON: null is missing wherever it stands, and a bad clip does not take its set along."""

import json
from pathlib import Path

import numpy as np
import pytest

from signbart.errors import ClipError
from signbart.landmarks.layouts import get_layout
from signbart.recordings.reading import read_clips

T, K = 6, 75
pytestmark = pytest.mark.filterwarnings("error")


def made(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(0.05, 0.95, (T, K, 2)).astype(np.float32)


def write(root: Path, content: object) -> Path:
    path = root / "hello" / "clip.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return root


def write_set(root: Path, content: object) -> Path:
    (root / "set.json").write_text(json.dumps(content))
    return root / "set.json"


def read_one(root: Path) -> np.ndarray:
    (clip,) = read_clips(root).to_layout(get_layout("kp75")).clips
    return np.asarray(clip.landmarks)


def as_objects(points: np.ndarray) -> list:
    return [[{"x": x, "y": y} for x, y in frame] for frame in points.tolist()]


# What is missing: where the nulls stand, and the landmarks that they stand for.
MISSING = {
    "a landmark of a frame": ([(2, 70)], (2, 70)),
    "the first landmark of every frame": ([(at, 0) for at in range(T)], np.s_[:, 0]),
    "every landmark of the first frame": ([(0, at) for at in range(K)], 0),
    "a frame": ([(3,)], 3),
    "the first frame": ([(0,)], 0),
}


@pytest.mark.parametrize(
    ("name", "form"),
    [
        (name, form)
        for name in MISSING
        for form in ("list", "field", "objects", "rows", "frames", "pixels")
        if form != "rows" or len(MISSING[name][0][0]) == 1  # a row has numbers, no landmarks
    ],
)
def test_null_is_missing(tmp_path, name, form):
    places, missing = MISSING[name]
    points = made()
    frames = as_objects(points) if form == "objects" else points.tolist()
    if form == "rows":
        frames = points.reshape(T, -1).tolist()
    for frame, *landmark in places:
        (frames[frame] if landmark else frames)[landmark[0] if landmark else frame] = None
    content = {
        "field": {"keypoints": frames},
        "frames": [{"landmarks": frame} for frame in frames],
        "pixels": {"frames": frames, "width": 640, "height": 480},
    }.get(form, frames)
    expected = points.copy()
    expected[missing] = 0
    np.testing.assert_array_equal(read_one(write(tmp_path, content)), expected)


def by_parts(points: np.ndarray) -> list[dict]:
    return [
        {"pose": own[:33], "left_hand": own[33:54], "right_hand": own[54:]}
        for own in points.tolist()
    ]


@pytest.mark.parametrize("people", [False, True], ids=["one", "of people"])
def test_null_is_missing_in_parts(tmp_path, people):
    points = made()
    frames = by_parts(points)
    frames[0]["pose"][0] = frames[1]["left_hand"][3] = frames[2]["right_hand"] = frames[3] = None
    frames[4]["pose"] = [None] * 33
    frames[5] = {}
    points[0, 0] = points[1, 36] = points[2, 54:] = points[3] = points[4, :33] = points[5] = 0
    if people:
        frames[0]["pose"] = [frames[0]["pose"]]
        frames[4]["pose"] = [None]
    np.testing.assert_array_equal(read_one(write(tmp_path, frames)), points)
    frames[0] = None
    points[0] = 0
    np.testing.assert_array_equal(read_one(write(tmp_path, frames)), points)


REFUSED = {
    "ragged": ([[[0.1, 0.2], None], [[0.1, 0.2]]], "no rectangular lists"),
    "a number for a landmark": ([[[0.1, 0.2], 3, None]] * 2, "no rectangular lists"),
    "text": ([[[0.1, "a"], None]] * 2, "no rectangular lists"),
    "nulls for gigabytes": ([[[0.1, 0.2]] * 9000, *[None] * 9000], "more numbers than a recording"),
    "all null": ([None] * 4, "keypoints have shape"),
    "a list among objects": ([{"pose": [[0.1, 0.2]] * 33}, [[0.1, 0.2]]], r"frame 1 is no object"),
    "another key": (
        [{"landmarks": [[0.1, 0.2]] * 75}, {"points": [[0.1, 0.2]] * 75}],
        r"frame 1 has no 'landmarks'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_nulls_hide_nothing(tmp_path, name):
    content, complaint = REFUSED[name]
    with pytest.raises(ClipError, match=rf"clip\.json.*{complaint}"):
        read_clips(write(tmp_path, content))


def two(first: object = None, **fields: object) -> list[dict]:
    """A set of two clips, the first of which has other frames."""
    clips = [{"label": "hello", "keypoints": made(0).tolist()},
             {"label": "bye", "keypoints": made(1).tolist()}]  # fmt: skip
    clips[0] |= fields
    if first is not None:
        clips[0]["keypoints"] = first
    return clips


BAD = {
    "no frames": (two([]), "the clip has no frames"),
    "null for frames": (two(keypoints=None), "has no frames; expected one of"),
    "null for a clip": ([None, two()[1]], "expected an object"),
    "text for a clip": (["hello", two()[1]], "expected an object"),
    "nulls alone": (two([None, None]), "keypoints have shape"),
    "ragged": (two([[[0, 1]], [[0, 1], [1, 2]]]), "no rectangular lists"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_first_clip_does_not_take_the_set_along(tmp_path, name):
    content, complaint = BAD[name]
    path = write_set(tmp_path, content)
    clips = read_clips(path, skip_bad=True)
    assert clips.class_names == ("bye",) and len(clips) == 1
    assert len(clips.skipped) == 1 and complaint in clips.skipped[0]
    with pytest.raises(ClipError, match=rf"set\.json\[0\]: .*{complaint}"):
        read_clips(path)


def test_other_fields_of_a_clip_do_not_make_it_a_frame(tmp_path):
    clips = [{"pose": "mediapipe", "people": 1, "face": [], **clip} for clip in two()]
    assert len(read_clips(write_set(tmp_path, clips))) == 2


def test_a_part_that_was_not_found_may_be_empty(tmp_path):
    points = made()
    frames = by_parts(points)
    for at, empty in enumerate(([], {}, "", None, [[]])):
        frames[at]["left_hand"] = empty
        points[at, 33:54] = 0
    np.testing.assert_array_equal(read_one(write(tmp_path, frames)), points)


def test_a_set_may_have_a_row_a_frame(tmp_path):
    clips = two()
    for clip in clips:
        clip["keypoints"] = np.reshape(clip["keypoints"], (T, -1)).tolist()
    found = read_clips(write_set(tmp_path, clips)).clips
    for seed, clip in enumerate(found):
        np.testing.assert_array_equal(clip.landmarks, made(seed))


@pytest.mark.parametrize("form", ["lists", "objects", "rows", "empty first"])
def test_frames_that_say_a_sign_are_frames(tmp_path, form):
    """Objects with a label are clips only if they hold what a clip does."""
    points = made()
    frames = {"objects": as_objects(points), "rows": points.reshape(T, -1).tolist()}.get(
        form, points.tolist()
    )
    if form == "empty first":
        frames[0] = None
        points[0] = 0
    content = [{"label": "hello", "frame": at, "keypoints": own} for at, own in enumerate(frames)]
    np.testing.assert_array_equal(read_one(write(tmp_path, content)), points)


def test_an_empty_list_is_a_frame_without_anybody(tmp_path):
    pose = {"pose": [[0.5, 0.5]] * 33}
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello" / "a.json").write_text(json.dumps([pose, [], pose]))
    (clip,) = read_clips(tmp_path).clips
    assert len(clip.landmarks) == 3 and not clip.landmarks[1].any()

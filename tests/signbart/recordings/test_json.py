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


@pytest.mark.parametrize("form", ["list", "field", "objects", "rows", "frames", "pixels"])
@pytest.mark.parametrize("name", MISSING)
def test_null_is_missing(tmp_path, name, form):
    places, missing = MISSING[name]
    points = made()
    if form == "rows" and len(places[0]) > 1:
        pytest.skip("a row has numbers, no landmarks")
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


def test_a_part_that_was_not_found_may_be_empty(tmp_path):
    points = made()
    frames = by_parts(points)
    for at, empty in enumerate(([], {}, "", None, [[]])):
        frames[at]["left_hand"] = empty
        points[at, 33:54] = 0
    np.testing.assert_array_equal(read_one(write(tmp_path, frames)), points)

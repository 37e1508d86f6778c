"""From landmarks to model input, against loops written from the description of each step."""

import itertools
from fractions import Fraction
from math import cos, floor, radians, sin

import numpy as np
import pytest

from signbart.configuration.reading import from_dict
from signbart.configuration.schema import RunConfig
from signbart.landmarks.layouts import LAYOUTS, get_layout
from signbart.preprocessing import (
    body_centred,
    describe_steps,
    fill_gaps,
    frame_indices,
    joint_flip,
    joint_groups,
    normalize,
    normalize_boxes,
    pad,
    prepare,
    preprocess,
)
from signbart.recordings.reading import read_clips

SCHEMES = {"bbox": False, "bbox_ignore_missing": True}
every_scheme = pytest.mark.parametrize("ignore_missing", SCHEMES.values(), ids=list(SCHEMES))
IMAGE_LAYOUTS = [name for name, layout in LAYOUTS.items() if layout.unit == "image"]
# Five, three and one of eleven positions, out of order; position 3 is in no group.
GROUPS = {"body": (10, 0, 4, 2, 7), "hand": (1, 9, 5), "nose": (8,)}
K = 11


def make_config(layout: str = "kp90", scheme: str = "bbox", **data: object) -> RunConfig:
    model = {"joint_idx": data.pop("joint_idx", None)}
    tree = {"model": model, "data": {"layout": layout, "normalization": scheme, **data}}
    return from_dict(tree, source="test")


def boxed_slowly(frame: list, groups: dict, ignore_missing: bool) -> list:
    """One frame of K (x, y) points, straight from the description, in Python's own numbers."""
    result = [list(point) for point in frame]
    for members in groups.values():
        counted = [i for i in members if not ignore_missing or frame[i][0] != 0 or frame[i][1] != 0]
        if not counted:
            continue
        xs, ys = ([frame[i][axis] for i in counted] for axis in (0, 1))
        width, height = max(xs) - min(xs), max(ys) - min(ys)
        longer = max(width, height)
        for axis, values, side in ((0, xs, width), (1, ys, height)):
            # 5 % of the longer side all around, and what it takes to make the box square.
            margin = 0.05 * longer + (longer - side) / 2
            start = min(1.0, max(0.0, min(values) - margin))
            end = min(1.0, max(0.0, max(values) + margin))
            if end == start:
                continue
            for i in counted:
                result[i][axis] = (frame[i][axis] - start) / (end - start)
    return result


def random_points(*shape: int, seed: int = 0) -> np.ndarray:
    """Points with every kind of trouble: missing ones, missing groups, flat and single groups."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1, (*shape, K, 2)).astype(np.float32)
    frames = points.reshape(-1, K, 2)
    for number, frame in enumerate(frames):
        body, hand = list(GROUPS["body"]), list(GROUPS["hand"])
        match number % 9:
            case 1:
                frame[body[rng.integers(5)]] = 0  # one point missing
            case 2:
                frame[hand] = 0  # a group missing
            case 3:
                frame[:] = 0  # nothing detected
            case 4:
                frame[body, 0] = 0.25  # no width
            case 5:
                frame[body] = frame[body[0]]  # no size at all
            case 6:
                frame[hand[1:]] = 0  # one point left
            case 7:
                frame[body] = 0.96 + 0.04 * frame[body]  # cut at the image's far edges
            case 8:
                frame[hand] *= 0.03  # cut at the near edges
                frame[body, 1] = 0
    return points


@every_scheme
@pytest.mark.parametrize("shape", [(45,), (3, 15), (2, 4, 9)])
def test_boxes_equal_a_loop_over_frames_groups_and_points(ignore_missing, shape):
    points = random_points(*shape)
    before = points.copy()
    found = normalize_boxes(points, GROUPS, ignore_missing=ignore_missing)
    frames = points.reshape(-1, K, 2).astype(float).tolist()
    expected = np.array([boxed_slowly(frame, GROUPS, ignore_missing) for frame in frames])
    assert found.dtype == np.float32 and found.shape == points.shape
    # The cut to a tiny box magnifies rounding.
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=2e-5)
    np.testing.assert_array_equal(points, before)
    other = np.array([boxed_slowly(frame, GROUPS, not ignore_missing) for frame in frames])
    assert np.abs(other - expected).max() > 0.1, "the two schemes differ on these points"


def test_boxes_by_hand():
    """Width 0.4, height 0.2: margins 0.02 and 0.12, so the box is 0.44 square from (0.18, 0.18)."""
    points = np.array([[[0.2, 0.3], [0.6, 0.5], [0.4, 0.4]]])
    found = normalize_boxes(points, {"all": (0, 1, 2)}, ignore_missing=False)
    expected = [[0.02 / 0.44, 0.12 / 0.44], [0.42 / 0.44, 0.32 / 0.44], [0.5, 0.5]]
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    # Near the edge the box is cut, and no longer square: x in [0.58, 1], y in [0.68, 1].
    points += np.array([0.4, 0.5])
    shifted = normalize_boxes(points, {"all": (0, 1, 2)}, ignore_missing=False)
    expected = [[0.02 / 0.42, 0.12 / 0.32], [1.0, 1.0], [0.22 / 0.42, 0.22 / 0.32]]
    np.testing.assert_allclose(shifted[0][[0, 2]], [expected[0], expected[2]], atol=1e-6)


def test_missing_points_count_in_one_scheme_and_not_in_the_other():
    points = np.array([[[0.5, 0.5], [0.7, 0.9], [0.0, 0.0]]], np.float32)
    groups = {"all": (0, 1, 2)}
    ignored = normalize_boxes(points, groups, ignore_missing=True)
    without = normalize_boxes(points[:, :2], {"all": (0, 1)}, ignore_missing=True)
    np.testing.assert_array_equal(ignored[:, :2], without)
    np.testing.assert_array_equal(ignored[:, 2], 0)
    counted = normalize_boxes(points, groups, ignore_missing=False)
    assert (counted[0, 0] > 0.5).all(), "seen from a box that reaches to the corner"


@every_scheme
def test_what_has_no_box_stays_where_it_is(ignore_missing):
    points = np.zeros((3, 4, 2), np.float32)
    points[1] = [0.3, 0.8]  # all in one place
    points[2, :, 0] = 1.0  # on the image's edge, where the cut leaves no width
    found = normalize_boxes(points, {"all": range(4)}, ignore_missing=ignore_missing)
    np.testing.assert_array_equal(found, points)


@every_scheme
def test_boxes_stay_finite_and_within_the_unit_square(ignore_missing):
    points = random_points(200, seed=1)
    with np.errstate(all="raise", under="ignore"):
        found = normalize_boxes(points, GROUPS, ignore_missing=ignore_missing)
    assert np.isfinite(found).all()
    assert found.min() >= 0 and found.max() <= 1


@every_scheme
def test_boxes_do_not_depend_on_where_or_how_large_the_signer_is(ignore_missing):
    rng = np.random.default_rng(3)
    points = rng.uniform(0.3, 0.6, (5, K, 2))
    found = normalize_boxes(points, GROUPS, ignore_missing=ignore_missing)
    moved = normalize_boxes(points * 0.7 + [0.1, 0.2], GROUPS, ignore_missing=ignore_missing)
    grouped = [i for members in GROUPS.values() if len(members) > 1 for i in members]
    np.testing.assert_allclose(found[:, grouped], moved[:, grouped], atol=1e-5)
    assert np.abs(points - (points * 0.7 + [0.1, 0.2])).max() > 0.05


@pytest.mark.parametrize("max_frames", [1, 2, 7, 63, 64])
def test_frame_indices_equal_exact_fractions(max_frames):
    for frames in [*range(1, 140), 189, 997, 100_003]:
        found = frame_indices(frames, max_frames)
        if frames <= max_frames:
            expected = list(range(frames))
        elif max_frames == 1:
            expected = [0]
        else:
            expected = [
                floor(Fraction(i * (frames - 1), max_frames - 1)) for i in range(max_frames)
            ]
            assert expected[0] == 0 and expected[-1] == frames - 1
        assert found.tolist() == expected
        assert (np.diff(found) > 0).all(), "no frame twice"


def skeletons(frames: int = 7, seed: int = 0) -> np.ndarray:
    """(T, 20, 3) upright people in metres, x right, y up, near where a Kinect sees them."""
    layout = get_layout("kinect20")
    rng = np.random.default_rng(seed)
    body = rng.normal(0, 0.2, (1, layout.num_keypoints, 3))
    for name, place in {
        "Neck": (0.0, 0.4, 0.0),
        "SpineBase": (0.02, -0.1, 0.05),
        "ShoulderLeft": (-0.2, 0.35, 0.03),
        "ShoulderRight": (0.18, 0.36, -0.02),
    }.items():
        body[0, layout.index(name)] = place
    jitter = rng.normal(0, 0.02, (frames, layout.num_keypoints, 3))
    return body + jitter + [0.3, 0.1, 2.1]


def centred_slowly(landmarks: np.ndarray) -> np.ndarray:
    """Point by point from the description, the heading found as an angle."""
    layout = get_layout("kinect20")
    frames = len(landmarks)

    def mean(name: str) -> list[float]:
        joint = layout.names.index(name)
        return [sum(frame[joint][axis] for frame in landmarks) / frames for axis in range(3)]

    neck, base = mean("Neck"), mean("SpineBase")
    left, right = mean("ShoulderLeft"), mean("ShoulderRight")
    torso = sum((a - b) ** 2 for a, b in zip(neck, base, strict=True)) ** 0.5
    heading = np.arctan2(right[2] - left[2], right[0] - left[0])
    result = np.zeros((frames, layout.num_keypoints, 2))
    for t in range(frames):
        for k in range(layout.num_keypoints):
            x, y, z = (landmarks[t][k][axis] - neck[axis] for axis in range(3))
            result[t, k] = (
                (x * cos(-heading) - z * sin(-heading)) / torso,
                -y / torso,
            )
    return result


def turn(landmarks: np.ndarray, degrees: float, axis: int = 1) -> np.ndarray:
    """About the vertical by default; a right-handed turn about another axis otherwise."""
    i, j = [(1, 2), (0, 2), (0, 1)][axis]
    turned = landmarks.copy()
    c, s = cos(radians(degrees)), sin(radians(degrees))
    turned[..., i] = c * landmarks[..., i] - s * landmarks[..., j]
    turned[..., j] = s * landmarks[..., i] + c * landmarks[..., j]
    return turned


@pytest.mark.parametrize("yaw", [0, 25, 140, -170])
def test_body_centred_equals_a_loop_over_points(yaw):
    landmarks = turn(skeletons(), yaw)
    found = body_centred(landmarks, get_layout("kinect20"))
    assert found.shape == (7, 20, 2) and found.dtype == np.float32
    np.testing.assert_allclose(found, centred_slowly(landmarks), atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_body_centred_does_not_depend_on_place_heading_or_build(seed):
    rng = np.random.default_rng(seed)
    layout = get_layout("kinect20")
    landmarks = skeletons(seed=seed)
    found = body_centred(landmarks, layout)
    moved = turn(landmarks, rng.uniform(-180, 180)) * rng.uniform(0.5, 2) + rng.normal(0, 2, 3)
    np.testing.assert_allclose(body_centred(moved, layout), found, atol=1e-5)
    # Leaning is motion, not place: a turn about another axis shows.
    leaning = turn(landmarks, 30, axis=2)
    assert np.abs(body_centred(leaning, layout) - found).max() > 0.1


def test_body_centred_puts_the_neck_at_the_origin_and_the_image_upright():
    layout = get_layout("kinect20")
    landmarks = turn(skeletons(), 77)
    found = body_centred(landmarks, layout).mean(axis=0)
    at = {name: found[layout.index(name)] for name in layout.names}
    np.testing.assert_allclose(at["Neck"], 0, atol=1e-6)
    assert at["SpineBase"][1] > 0.9, "y points down, in torso lengths"
    assert at["ShoulderLeft"][0] < 0 < at["ShoulderRight"][0]
    # Exactly one torso length where the torso stands upright.
    landmarks[:, layout.index("SpineBase")] = landmarks[:, layout.index("Neck")] - [0, 0.5, 0]
    upright = body_centred(landmarks, layout).mean(axis=0)
    np.testing.assert_allclose(upright[layout.index("SpineBase")], [0, 1], atol=1e-6)


@pytest.mark.parametrize("shoulders", ["one point", "one above the other"])
def test_degenerate_skeletons_stay_finite(shoulders):
    layout = get_layout("kinect20")
    landmarks = np.zeros((4, 20, 3), np.float32)
    if shoulders == "one above the other":
        landmarks[:, layout.index("ShoulderLeft"), 1] = 1.0
    with np.errstate(all="raise"):
        found = body_centred(landmarks, layout)
    assert np.isfinite(found).all()


def test_prepare_clips_to_the_image_before_anything_else():
    landmarks = np.random.default_rng(0).uniform(-0.5, 1.5, (5, 90, 2)).astype(np.float32)
    found = prepare(landmarks, make_config())
    np.testing.assert_array_equal(found, np.minimum(np.maximum(landmarks, 0), 1))
    assert found.dtype == np.float32


def test_prepare_leaves_metres_unclipped():
    landmarks = skeletons(frames=9)
    found = prepare(landmarks, make_config("kinect20", "body_centred"))
    np.testing.assert_array_equal(found, body_centred(landmarks, get_layout("kinect20")))
    assert found.min() < 0 and found.max() > 1


def test_prepare_drops_depth_and_resamples_after_looking_at_the_whole_clip():
    """Of 23 frames 6 stay; the body's place comes from all 23."""
    landmarks = skeletons(frames=23)
    config = make_config("kinect20", "body_centred", max_frames=6, joint_idx=[9, 0, 4])
    whole = body_centred(landmarks, get_layout("kinect20"))
    kept = [0, 4, 8, 13, 17, 22]
    np.testing.assert_array_equal(prepare(landmarks, config), whole[kept][:, [9, 0, 4]])
    image = np.random.default_rng(0).uniform(0, 1, (23, 65, 3)).astype(np.float32)
    config = make_config("kp65", max_frames=6, joint_idx=[64, 0, 23, 44])
    np.testing.assert_array_equal(prepare(image, config), image[kept][:, [64, 0, 23, 44], :2])


@pytest.mark.parametrize("name", LAYOUTS)
def test_groups_and_flip_of_all_joints_are_the_layouts(name):
    layout = LAYOUTS[name]
    config = make_config(name, "bbox" if layout.unit == "image" else "body_centred")
    assert joint_groups(config) == layout.groups
    assert joint_flip(config).tolist() == list(layout.flip)


def test_groups_and_flip_of_selected_joints():
    """kp75: pose 0-32, left hand 33-53, right hand 54-74; 11 and 12 are the shoulders."""
    config = make_config("kp75", joint_idx=[54, 12, 33, 0, 55, 11, 13])
    assert joint_groups(config) == {
        "body": (3, 5, 1, 6),
        "left_hand": (2,),
        "right_hand": (0, 4),
    }
    # 55 and 13 stay: their partners 34 and 14 were not selected.
    assert joint_flip(config).tolist() == [2, 5, 0, 3, 4, 1, 6]


@every_scheme
def test_preprocess_is_prepare_and_normalize_on_the_selected_joints(ignore_missing):
    scheme = "bbox_ignore_missing" if ignore_missing else "bbox"
    joints = [11, 12, 15, 16, *range(33, 54), 60, 54]
    config = make_config("kp75", scheme, joint_idx=joints, max_frames=8)
    landmarks = np.random.default_rng(0).uniform(0, 1, (12, 75, 2)).astype(np.float32)
    landmarks[3, 33:40] = 0
    landmarks[4, 33:54] = 0
    found = preprocess(landmarks, config)
    kept = landmarks[[0, 1, 3, 4, 6, 7, 9, 11]][:, joints].astype(float).tolist()
    groups = {"body": range(4), "left": range(4, 25), "right": (25, 26)}
    expected = [boxed_slowly(frame, groups, ignore_missing) for frame in kept]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_normalize_leaves_body_centred_points_alone():
    points = np.random.default_rng(0).normal(0, 2, (3, 20, 2)).astype(np.float32)
    config = make_config("kinect20", "body_centred")
    np.testing.assert_array_equal(normalize(points, config), points)


def test_pad_takes_the_mask_from_lengths():
    clips = [np.full((frames, 3, 2), frames, np.float64) for frames in (2, 5, 1)]
    clips[1][2] = 0  # nothing detected, and still a frame
    clips[2][:] = 0
    keypoints, mask = pad(clips)
    assert keypoints.shape == (3, 5, 3, 2) and keypoints.dtype == np.float32
    assert mask.dtype == np.int32
    assert mask.tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]]
    for row, clip in zip(keypoints, clips, strict=True):
        np.testing.assert_array_equal(row[: len(clip)], clip)
        np.testing.assert_array_equal(row[len(clip) :], 0)
    longer, mask = pad(clips[:1], length=7)
    assert longer.shape == (1, 7, 3, 2) and mask.tolist() == [[1, 1, 0, 0, 0, 0, 0]]


@every_scheme
def test_a_frame_in_which_nothing_was_detected_comes_out_as_zeros(ignore_missing):
    scheme = "bbox_ignore_missing" if ignore_missing else "bbox"
    landmarks = np.random.default_rng(0).uniform(0.1, 1, (4, 63, 2))
    landmarks[2] = 0
    found = preprocess(landmarks, make_config("kp63", scheme))
    assert len(found) == 4
    np.testing.assert_array_equal(found[2], 0)
    assert (found[[0, 1, 3]] != 0).any()


@pytest.mark.parametrize("max_frames", [16, 64])
def test_real_skeletons_come_out_upright_and_of_one_size(isl_kinect30, max_frames):
    clips = read_clips(isl_kinect30).clips[::41]
    layout = get_layout("kinect20")
    config = make_config("kinect20", "body_centred", max_frames=max_frames)
    for clip in clips:
        found = preprocess(clip.landmarks, config)
        assert found.shape == (min(len(clip.landmarks), max_frames), 20, 2)
        assert np.isfinite(found).all() and np.abs(found).max() < 5
        mean = dict(zip(layout.names, found.mean(axis=0), strict=True))
        assert np.abs(mean["Neck"]).max() < 0.05
        assert mean["Head"][1] < 0 < mean["SpineMid"][1] < mean["SpineBase"][1] < 1.1
        assert mean["ShoulderLeft"][0] < 0 < mean["ShoulderRight"][0]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("layout", IMAGE_LAYOUTS)
def test_real_image_landmarks_come_out_in_the_unit_square(fsl7_holistic, layout, scheme):
    config = make_config(layout, scheme)
    clips = read_clips(fsl7_holistic).to_layout(get_layout(layout)).clips[::29]
    for clip in clips:
        found = preprocess(clip.landmarks, config)
        assert found.shape == (len(clip.landmarks), LAYOUTS[layout].num_keypoints, 2)
        assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1
        # Each detected group fills its box: 5 % margins leave 1 / 1.1 of the longer side.
        body = found[:, list(LAYOUTS[layout].groups["body"])]
        assert (np.ptp(body, axis=1).max(axis=-1) > 0.9).all()


def filled_slowly(points: np.ndarray, longest: int) -> np.ndarray:
    """Gaps of one landmark after the other, frame by frame, in Python's own numbers."""
    result = points.astype(float)
    for landmark in range(points.shape[1]):
        there = [t for t in range(len(points)) if points[t, landmark].any()]
        for start, end in itertools.pairwise(there):
            for t in range(start + 1, end):
                if end - start - 1 <= longest:
                    a, b = result[start, landmark], result[end, landmark]
                    result[t, landmark] = a + (b - a) * (t - start) / (end - start)
    return result


def test_short_gaps_are_filled_and_long_ones_stay():
    rng = np.random.default_rng(5)
    points = rng.uniform(-0.1, 1.1, (40, 30, 2)).astype(np.float32)
    for landmark in range(30):
        for start in rng.integers(0, 40, 4):
            points[start : start + rng.integers(1, 9), landmark] = 0
    found = fill_gaps(points)
    np.testing.assert_allclose(found, filled_slowly(points, 5), atol=1e-6)
    missing = (found == 0).all(axis=-1)
    assert missing.sum() < (points == 0).all(axis=-1).sum() and missing.any()
    six, five = np.full((9, 1, 2), 0.5, np.float32), np.full((8, 1, 2), 0.5, np.float32)
    six[1:7], five[1:6] = 0, 0
    np.testing.assert_array_equal(fill_gaps(six), six)
    assert (fill_gaps(five) == 0.5).all()
    ends = np.full((4, 1, 2), 0.5, np.float32)
    ends[[0, 3]] = 0
    np.testing.assert_array_equal(fill_gaps(ends), ends)


def test_gaps_are_filled_before_frames_are_chosen(fsl7_holistic):
    tree = {
        "model": {"kind": "sign_transformer", "num_categories": 10},
        "data": {"layout": "kp89", "max_frames": 12, "normalization": "gaps_filled"},
    }
    config = from_dict(tree, source="test")
    clips = read_clips(fsl7_holistic).to_layout(get_layout("kp89")).clips[::29]
    for clip in clips:
        found = preprocess(clip.landmarks, config)
        expected = np.clip(filled_slowly(clip.landmarks, 5), 0, 1)[frame_indices(30, 12)]
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert any((clip.landmarks == 0).any() for clip in clips)
    steps = describe_steps(config)
    assert any("at most 5 frames" in step for step in steps) and "box" not in " ".join(steps)


def test_the_published_apps_files_are_kp89(tmp_path, fsl7_holistic):
    """`X` (T, 178) with its `mask`, as the app's own program writes them beside other arrays."""
    whole = read_clips(fsl7_holistic).select([0, 99]).to_layout(get_layout("kp89"))
    for at, clip in enumerate(whole.clips):
        (tmp_path / "hello").mkdir(exist_ok=True)
        rows = fill_gaps(np.clip(clip.landmarks, 0, 1))
        np.savez_compressed(
            tmp_path / "hello" / f"{at}.npz",
            X=rows.reshape(len(rows), 178),
            X2048=np.ones((len(rows), 2048), np.float32),
            mask=(rows != 0).any(axis=-1),
            timestamps_ms=np.arange(len(rows)),
            meta=np.array({"order": "pose25,left_hand21,right_hand21,face22"}, dtype=object),
        )
    tree = {
        "model": {"kind": "sign_transformer", "num_categories": 10},
        "data": {"layout": "kp89", "max_frames": 300, "normalization": "gaps_filled"},
    }
    config = from_dict(tree, source="test")
    read = read_clips(tmp_path).to_layout(get_layout("kp89"))
    for clip, original in zip(read.clips, whole.clips, strict=True):
        np.testing.assert_allclose(
            preprocess(clip.landmarks, config), preprocess(original.landmarks, config), atol=1e-6
        )

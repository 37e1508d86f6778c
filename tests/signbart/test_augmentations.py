"""Augmentation changes the share of clips it says, and never what is missing, padded or too short.

Legend: B batch, T frames, K keypoints.
"""

from math import ceil, cos, sin

import numpy as np
import pytest

from signbart.augmentations.batch import apply_changes, draw_changes
from signbart.augmentations.frames import warp_frames
from signbart.augmentations.points import flip, rotations, transform
from signbart.configuration.reading import from_dict
from signbart.configuration.schema import RunConfig
from signbart.landmarks.layouts import get_layout
from signbart.preprocessing import joint_flip

OFF = {"rotation_degrees": 0, "noise": 0, "drop_frames": 0, "time_warp": 0, "flip": 0}
# What came later, all of it; some is for image layouts or for depth alone.
LATER = {"crop": 0.1, "time_curve": 0.2, "scale": 0.2, "joint_offset": 0.02, "shear": 0.2}
ALL = {"rotation_degrees": 40, "noise": 0.02, "drop_frames": 0.6, "time_warp": 0.5, "flip": 0.5}


def augment(points, lengths, config, rng):
    """Clips changed as one draw says, and their new lengths."""
    changes = draw_changes(lengths, points.shape[1:], config, rng)
    return apply_changes(points, changes, config), changes.lengths


def make_config(layout: str = "kp65", max_frames: int = 24, **settings: object) -> RunConfig:
    """Augmentation of every clip with the given settings, the others off."""
    joints = settings.pop("joint_idx", None)
    resample = settings.pop("resample", "nearest")
    image = get_layout(layout).unit == "image"
    tree = {
        "model": {"joint_idx": joints},
        "data": {
            "layout": layout,
            "max_frames": max_frames,
            "resample": resample,
            "normalization": "bbox" if image else "body_centred",
        },
        "augment": {"probability": 1, **OFF, **settings},
    }
    return from_dict(tree, source="test")


def make_batch(
    lengths: list[int], keypoints: int = 65, seed: int = 0, static: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Points all over the image, zeros behind each clip; a static clip holds one pose."""
    rng = np.random.default_rng(seed)
    shape = (len(lengths), 1 if static else max(lengths), keypoints, 2)
    points = np.repeat(rng.uniform(0.05, 0.95, shape), max(lengths) if static else 1, axis=1)
    lengths = np.array(lengths)
    points[np.arange(max(lengths)) >= lengths[:, None]] = 0
    return points.astype(np.float32), lengths


def run(points: np.ndarray, lengths: np.ndarray, config: RunConfig, seed: int = 0):
    return augment(points, lengths, config, np.random.default_rng(seed))


def missing(points: np.ndarray) -> np.ndarray:
    return (points == 0).all(axis=-1)


def test_the_generator_decides_everything():
    points, lengths = make_batch([5, 24, 1, 17])
    config = make_config(**ALL)
    before = points.copy()
    (one, one_lengths), (again, again_lengths) = (run(points, lengths, config) for _ in "ab")
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one_lengths, again_lengths)
    other, _ = run(points, lengths, config, seed=1)
    assert other.shape != one.shape or (other != one).any()
    np.testing.assert_array_equal(points, before)
    assert one.dtype == np.float32 and np.issubdtype(one_lengths.dtype, np.integer)


@pytest.mark.parametrize("layout", ["kp65", "kinect20"])
def test_probability_zero_changes_no_bit(layout):
    keypoints = get_layout(layout).num_keypoints
    points, lengths = make_batch([5, 24, 1, 17], keypoints)
    points[0, 2, 3:9] = 1e-12  # lost where a centre is subtracted and added again
    points[1, :, 40:] = 0
    config = make_config(layout, **ALL, probability=0)
    found, found_lengths = run(points, lengths, config)
    assert found.tobytes() == points.tobytes()
    np.testing.assert_array_equal(found_lengths, lengths)
    changed, _ = run(points, lengths, make_config(layout, **ALL))
    assert changed.shape != points.shape or changed.tobytes() != points.tobytes()


@pytest.mark.parametrize("probability", [0.25, 0.8, 1.0])
@pytest.mark.parametrize("setting", [{"rotation_degrees": 40}, {"flip": 1.0}, {"noise": 0.1}])
def test_the_share_of_changed_clips_is_the_probability(probability, setting):
    points, lengths = make_batch([3] * 2000, keypoints=4)
    config = make_config(joint_idx=[11, 12, 23, 44], **setting, probability=probability)
    found, _ = run(points, lengths, config)
    share = (found != points).any(axis=(1, 2, 3)).mean()
    assert abs(share - probability) <= 4 * (probability * (1 - probability) / 2000) ** 0.5


def test_flip_is_a_share_of_the_changed_clips():
    points, lengths = make_batch([3] * 2000, keypoints=4)
    config = make_config(joint_idx=[11, 12, 23, 44], flip=0.3, probability=0.5)
    found, _ = run(points, lengths, config)
    assert abs((found != points).any(axis=(1, 2, 3)).mean() - 0.15) < 0.032


def test_rotation_equals_a_loop_and_keeps_distances():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1, (3, 4, 5, 2))
    angles, centres = rng.uniform(-3, 3, 3), rng.uniform(0, 1, (3, 2))
    found = transform(points, rotations(angles, (0, 1), 2), centres, centres)
    for b in range(3):
        for t in range(4):
            for k in range(5):
                x, y = points[b, t, k] - centres[b]
                c, s = cos(angles[b]), sin(angles[b])
                expected = centres[b] + [c * x - s * y, s * x + c * y]
                np.testing.assert_allclose(found[b, t, k], expected, atol=1e-12)


def test_each_clip_turns_about_the_centre_of_what_was_detected():
    points, lengths = make_batch([6, 9, 4])
    points[1, :, 30:] = 0  # would draw the centre to the corner, as padding would
    config = make_config(rotation_degrees=40)
    found, _ = run(points, lengths, config)
    angles = []
    for before, after, length in zip(points, found, lengths, strict=True):
        seen = ~missing(before[:length])
        before, after = before[:length][seen], after[:length][seen]
        np.testing.assert_allclose(after.mean(axis=0), before.mean(axis=0), atol=1e-6)
        gaps = [np.linalg.norm(p[:, None] - p, axis=-1) for p in (before, after)]
        np.testing.assert_allclose(*gaps, atol=1e-5)
        one, other = ((p - p.mean(axis=0)) @ [1, 1j] for p in (before, after))
        turns = np.angle(other / one)
        np.testing.assert_allclose(turns, turns[0], atol=1e-3)
        angles.append(np.degrees(turns[0]))
    assert len(np.unique(np.round(angles, 3))) == 3
    assert 1 < np.abs(angles).max() <= 40


def test_angles_fill_the_range_and_stay_within():
    points, lengths = make_batch([1] * 500, keypoints=4)
    found, _ = run(points, lengths, make_config(joint_idx=[0, 1, 2, 3], rotation_degrees=15))
    vectors = [(p[:, 0, 1] - p[:, 0, 0]) @ [1, 1j] for p in (points, found)]
    angles = np.degrees(np.angle(vectors[1] / vectors[0]))
    assert -15.01 < angles.min() < -14 and 14 < angles.max() < 15.01


def test_noise_has_the_size_it_says_on_detected_points_alone():
    points, lengths = make_batch([20, 12])
    points[:, :, 5:9] = 0
    found, _ = run(points, lengths, make_config(noise=0.03))
    np.testing.assert_array_equal(missing(found), missing(points))
    difference = (found - points)[~missing(points)]
    assert abs(difference.std() - 0.03) < 0.002 and abs(difference.mean()) < 0.002


def test_in_metres_the_origin_is_a_place():
    points, lengths = make_batch([6, 3], keypoints=20)
    points[:, :, 4] = 0
    found, _ = run(points, lengths, make_config("kinect20", noise=0.1))
    assert not missing(found[0, :, 4]).any() and not missing(found[1, :3, 4]).any()
    np.testing.assert_array_equal(found[1, 3:], 0)


@pytest.mark.parametrize("flipped", [0.0, 1.0])
def test_missing_points_stay_missing_frame_by_frame(flipped):
    """A flip moves a missing point, like any other, to its partner's place."""
    points, lengths = make_batch([24, 11, 1, 7], seed=4)
    points[np.random.default_rng(1).random(points.shape[:3]) < 0.4] = 0
    config = make_config(rotation_degrees=40, noise=0.02, flip=flipped)
    found, _ = run(points, lengths, config)
    gone = missing(points)
    moved = gone[:, :, list(get_layout("kp65").flip)]
    assert (gone != moved).any()
    np.testing.assert_array_equal(missing(found), moved if flipped else gone)


@pytest.mark.parametrize("seed", range(3))
def test_missing_landmarks_stay_missing_whatever_frames_are_chosen(seed):
    points, lengths = make_batch([24, 11, 1, 7] * 5)
    points[:, :, [0, *range(44, 65)]] = 0  # the nose, and the right hand
    found, found_lengths = run(points, lengths, make_config(**ALL), seed)
    sides = {"left": 0, "right": 0}
    for clip, length in zip(found, found_lengths, strict=True):
        gone = missing(clip[:length])
        side = "right" if gone[:, 44:].all() else "left"
        hand = slice(44, 65) if side == "right" else slice(23, 44)
        sides[side] += 1
        assert gone[:, 0].all() and gone[:, hand].all()
        assert gone.sum() == 22 * length
    assert min(sides.values()) >= 3, "some clips were flipped, some not"


def test_flip_turns_a_left_hand_clip_into_a_right_hand_clip():
    layout = get_layout("kp65")
    left, right = (list(layout.groups[f"{side}_hand"]) for side in ("left", "right"))
    points, lengths = make_batch([5, 3])
    points[:, :, right] = 0
    found, _ = run(points, lengths, make_config(flip=1))
    for before, after, length in zip(points, found, lengths, strict=True):
        before, after = before[:length], after[:length]
        assert missing(after[:, left]).all() and not missing(after[:, right]).any()
        centre = before[~missing(before)].mean(axis=0)
        np.testing.assert_allclose(after[:, right, 1], before[:, left, 1], atol=1e-6)
        np.testing.assert_allclose(
            after[:, right, 0], 2 * centre[0] - before[:, left, 0], atol=1e-5
        )
        # The nose has no partner and is mirrored where it is.
        np.testing.assert_allclose(after[:, 0, 0], 2 * centre[0] - before[:, 0, 0], atol=1e-5)


@pytest.mark.parametrize("joints", [None, [12, 0, 44, 11, 23, 24, 60]])
def test_flipping_twice_is_no_change(joints):
    config = make_config(joint_idx=joints)
    exchange = joint_flip(config)
    points, _ = make_batch([5, 3], keypoints=len(exchange))
    centres = np.array([[0.4, 0.1], [0.7, 0.2]])
    once = flip(points, exchange, centres)
    np.testing.assert_allclose(flip(once, exchange, centres), points, atol=1e-6)
    assert np.abs(once - points).max() > 0.1
    # The control: without the exchange the left shoulder would stay in the left one's column.
    mirrored = flip(points, np.arange(len(exchange)), centres)
    assert (mirrored != once).any()


@pytest.mark.parametrize("max_frames", [1, 5, 24])
@pytest.mark.parametrize(
    ("drop", "warp"), [(0, 0), (0.3, 0.3), (0.99, 0), (0, 0.99), (0.99, 0.99), (0.5, 0.9)]
)
def test_frames_are_ascending_and_never_none(drop, warp, max_frames):
    rng = np.random.default_rng(0)
    lengths = np.concatenate([np.repeat(np.arange(1, max_frames + 1), 8), [1, 1]])
    chosen = rng.random(len(lengths)) < 0.8
    frames, kept = warp_frames(
        lengths, rng, drop=drop, warp=warp, max_frames=max_frames, chosen=chosen
    )
    assert kept.min() >= 1 and frames.shape == (len(lengths), kept.max())
    assert kept.max() <= max_frames
    for row, length, count, changed in zip(frames, lengths, kept, chosen, strict=True):
        assert row.min() >= 0 and row.max() < length
        assert (np.diff(row) >= 0).all()
        np.testing.assert_array_equal(row[count:], row[count - 1])
        if not changed:
            assert row[:count].tolist() == [*range(length)]
            continue
        shortest, longest = (round(length * (1 + sign * warp)) for sign in (-1, 1))
        assert max(1, ceil(max(shortest, 1) * (1 - drop) - 1e-9)) <= count
        assert count <= max(1, min(longest, max_frames))
        if not drop and count > 1:
            assert (row[0], row[count - 1]) == (0, length - 1), "both ends stay"
        if not warp:
            assert len(set(row[:count])) == count, "no frame twice"


def test_frames_of_a_clip_do_not_depend_on_how_long_the_others_are():
    def of_the_last(lengths: list[int]) -> tuple[list[int], float]:
        rng = np.random.default_rng(0)
        frames, kept = warp_frames(
            np.array(lengths), rng, drop=0.6, warp=0.3, max_frames=24, chosen=np.ones(3, bool)
        )
        return frames[2, : kept[2]].tolist(), rng.random()

    assert of_the_last([4, 9, 15]) == of_the_last([24, 9, 15])
    assert of_the_last([4, 9, 15]) != of_the_last([4, 9, 14])


def test_speed_changes_both_ways_and_evenly():
    lengths = np.full(400, 20)
    frames, kept = warp_frames(
        lengths, np.random.default_rng(0), drop=0, warp=0.5, max_frames=64, chosen=lengths > 0
    )
    assert (kept.min(), kept.max()) == (10, 30) and 19 < kept.mean() < 21
    for row, count in zip(frames, kept, strict=True):
        exact = np.arange(count) * 19 / (count - 1)
        assert (np.abs(row[:count] - exact) < 1).all()


def test_dropped_frames_are_anywhere_in_the_clip():
    lengths = np.full(4000, 10)
    frames, kept = warp_frames(
        lengths, np.random.default_rng(0), drop=0.6, warp=0, max_frames=10, chosen=lengths > 0
    )
    shown = np.concatenate([row[:count] for row, count in zip(frames, kept, strict=True)])
    shares = np.bincount(shown, minlength=10) / len(lengths)
    assert np.ptp(shares) < 0.05 and 0.5 < shares.mean() < 0.9


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("lengths", [[1], [1, 1, 1], [24, 1, 2, 24], [*range(1, 25)]])
def test_extreme_settings_leave_at_least_a_frame_and_the_padding_empty(lengths, seed):
    points, lengths = make_batch(lengths)
    extreme = {"rotation_degrees": 180, "noise": 0.5, "drop_frames": 0.99, "time_warp": 0.99}
    found, found_lengths = run(points, lengths, make_config(**extreme, flip=0.5), seed)
    assert found_lengths.min() >= 1 and found_lengths.max() == found.shape[1] <= 24
    assert np.isfinite(found).all()
    for clip, length in zip(found, found_lengths, strict=True):
        assert not missing(clip[:length]).any()
        np.testing.assert_array_equal(clip[length:], 0)


def test_a_clip_in_which_nothing_was_detected_stays_empty():
    points, lengths = make_batch([5, 3])
    points[0] = 0
    found, found_lengths = run(points, lengths, make_config(**ALL))
    assert np.isfinite(found).all() and not found[0].any() and found[1].any()
    assert found_lengths[0] >= 1


@pytest.mark.parametrize(
    "changed",
    [{"time_warp": 0.0}, {"drop_frames": 0.0}, {"time_warp": 0.9, "drop_frames": 0.9}],
    ids=str,
)
def test_one_setting_never_shifts_the_numbers_of_another(changed):
    """One pose a clip: which frames are shown cannot matter, so turn, noise and flip must agree."""
    points, lengths = make_batch([24, 11, 6, 17, 3, 9, 20, 13], static=True)
    results, after = [], []
    for settings in (ALL, {**ALL, **changed}):
        rng = np.random.default_rng(5)
        found, found_lengths = augment(points, lengths, make_config(**settings), rng)
        results.append((found[:, 0], found_lengths))
        after.append(rng.random())
    (first, first_lengths), (second, second_lengths) = results
    assert (first_lengths != second_lengths).any(), "the setting has an effect"
    np.testing.assert_allclose(first, second, atol=1e-5)
    assert after[0] == after[1], "nor those of the next batch"


@pytest.mark.parametrize("changed", [{"rotation_degrees": 0}, {"noise": 0}, {"flip": 0}], ids=str)
def test_what_changes_points_never_shifts_the_choice_of_frames(changed):
    points, lengths = make_batch([24, 11, 6, 17, 3, 9, 20, 13])
    points[..., 1] = np.arange(24)[:, None] + 1  # y tells the frame
    points[np.arange(24) >= lengths[:, None]] = 0
    settings = {**ALL, "rotation_degrees": 0, "noise": 1e-6}
    one, one_lengths = run(points, lengths, make_config(**settings))
    other, other_lengths = run(points, lengths, make_config(**{**settings, **changed}))
    np.testing.assert_array_equal(one_lengths, other_lengths)
    np.testing.assert_allclose(one[..., 1], other[..., 1], atol=1e-4)


# What came later


@pytest.mark.parametrize(
    ("layout", "total", "point"),
    [
        ("kp65", 2866.3247406941, (0.47040387988090515, 0.33073559403419495)),
        ("kinect20", 872.4233020184, (0.6384836435317993, 0.7134881615638733)),
    ],
)
def test_what_runs_were_trained_on_before_is_still_drawn(layout, total, point):
    """Taken from the code before there was anything later: of a second chunk, as epochs draw."""
    points, lengths = make_batch([5, 24, 1, 17], get_layout(layout).num_keypoints)
    rng = np.random.default_rng(3)
    for _ in range(2):
        found, found_lengths = augment(points, lengths, make_config(layout, **ALL), rng)
    assert found_lengths.tolist() == [4, 21, 1, 18]
    assert found.sum(dtype=float) == pytest.approx(total, abs=1e-4)
    assert found[1, 3, 5] == pytest.approx(point, abs=1e-6)
    assert rng.random() == 0.21213546755098


@pytest.mark.parametrize("setting", [{key: value} for key, value in LATER.items()], ids=str)
def test_what_came_later_shifts_no_number(setting):
    points, lengths = make_batch([24, 11, 6, 17, 3, 9, 20, 13])
    config, changed = make_config(**ALL), make_config(**ALL, **setting)
    after, shapes = [], []
    for each in (config, changed):
        rng = np.random.default_rng(5)
        found, found_lengths = augment(points, lengths, each, rng)
        after.append((rng.random(), rng.spawn(1)[0].random()))
        shapes.append((found[..., 0].tolist(), found_lengths.tolist()))
    assert after[0] == after[1] and shapes[0] != shapes[1]


@pytest.mark.parametrize("resample", ["nearest", "linear"])
def test_unchosen_clips_keep_every_bit_whatever_is_set(resample):
    points, lengths = make_batch([24] * 64)
    settings = {**ALL, **LATER, "resample": resample}
    found, found_lengths = run(points, lengths, make_config(**settings, probability=0.5))
    found = found[:, : found_lengths.max()]
    same = [a.tobytes() == b[: len(a)].tobytes() for a, b in zip(found, points, strict=True)]
    assert 15 < sum(same) < 49
    if resample == "linear":
        assert (found_lengths == 24).all()


def test_crops_take_up_to_their_share_off_either_end():
    points, lengths = make_batch([20] * 500, keypoints=4)
    points[..., 0] = np.arange(20)[:, None] + 1
    config = make_config(joint_idx=[0, 1, 2, 3], crop=0.2)
    found, found_lengths = run(points, lengths, config)
    first = found[:, 0, 0, 0]
    last = found[np.arange(500), found_lengths - 1, 0, 0]
    assert set(first.tolist()) == {1, 2, 3, 4, 5} and set(last.tolist()) == {16, 17, 18, 19, 20}
    assert found_lengths.min() < 14 and found_lengths.max() == 20
    one, one_length = run(*make_batch([1, 1], keypoints=4), config)
    assert one_length.tolist() == [1, 1] and not missing(one).any()


@pytest.mark.parametrize("resample", ["nearest", "linear"])
def test_the_time_curve_keeps_both_ends_and_never_runs_backwards(resample):
    points, lengths = make_batch([24] * 200, keypoints=4)
    points[..., 0] = np.arange(24)[:, None] + 1
    config = make_config(joint_idx=[0, 1, 2, 3], time_curve=0.3, resample=resample)
    found, found_lengths = run(points, lengths, config)
    times = found[:, :, 0, 0] - 1
    assert (found_lengths == 24).all() and (np.diff(times) >= 0).all()
    np.testing.assert_allclose(times[:, [0, -1]], [[0, 23]] * 200, atol=1e-4)
    early = times[:, 12] - 12
    assert early.min() < -5 and early.max() > 5
    halves = times == np.rint(times)
    assert halves.all() == (resample == "nearest"), "frames are chosen, or moments between them"


def test_linear_clips_stay_full_and_their_gaps_free_of_bogus_points():
    points, lengths = make_batch([24] * 20, keypoints=4, static=True)
    points[:, 5:9, 1] = 0
    settings = {**OFF, "drop_frames": 0.6, "time_warp": 0.5, "crop": 0.1, "time_curve": 0.2}
    config = make_config(joint_idx=[0, 1, 2, 3], resample="linear", **settings)
    found, found_lengths = run(points, lengths, config)
    assert found.shape == points.shape and (found_lengths == 24).all()
    gone = missing(found)
    assert not gone[:, :, [0, 2, 3]].any() and gone[:, :, 1].any(axis=1).sum() >= 15
    np.testing.assert_allclose(
        found[:, :, 1][~gone[:, :, 1]],
        np.repeat(points[:, :1, 1], 24, 1)[~gone[:, :, 1]],
        atol=1e-6,
    )


@pytest.mark.parametrize(("plane", "degrees"), [((2, 0), "yaw_degrees"), ((1, 2), "pitch_degrees")])
def test_bodies_turn_about_the_neck_through_their_depth(plane, degrees):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 2, 4, 3)).astype(np.float32)
    points[:, :, 0] = 0  # the neck
    config = make_config("kinect20", joint_idx=[1, 4, 5, 6], **{degrees: 20})
    assert (config.coordinates, config.augmented_coordinates) == (2, 3)
    found, _ = run(points, np.full(300, 2), config)
    np.testing.assert_allclose(found[:, :, 0], 0, atol=1e-6)
    first, second = plane
    before, after = (p[:, :, 1:, first] + 1j * p[:, :, 1:, second] for p in (points, found))
    turns = np.angle(after / before)
    np.testing.assert_allclose(turns, np.broadcast_to(turns[:, :1, :1], turns.shape), atol=1e-3)
    assert -20.1 < np.degrees(turns.min()) < -18 and 18 < np.degrees(turns.max()) < 20.1
    still = ({0, 1, 2} - set(plane)).pop()
    np.testing.assert_allclose(found[..., still], points[..., still], atol=1e-6)


def test_transform_equals_a_loop_over_points():
    rng = np.random.default_rng(0)
    points, matrices = rng.normal(size=(3, 4, 5, 3)), rng.normal(size=(3, 3, 3))
    centres, targets = rng.normal(size=(2, 3, 3))
    found = transform(points, matrices, centres, targets)
    for b, t, k in np.ndindex(3, 4, 5):
        expected = matrices[b] @ (points[b, t, k] - centres[b]) + targets[b]
        np.testing.assert_allclose(found[b, t, k], expected, atol=1e-12)


def test_axes_are_scaled_apart_and_x_is_sheared_by_y():
    points, lengths = make_batch([3] * 300, keypoints=4)
    for setting, bound in (({"scale": 0.2}, 0.2), ({"shear": 0.3}, 0.3)):
        found, _ = run(points, lengths, make_config(joint_idx=[0, 1, 2, 3], **setting))
        moved, still = (p - p.mean(axis=(1, 2), keepdims=True) for p in (found, points))
        if "scale" in setting:
            factors = np.ptp(moved, axis=(1, 2)) / np.ptp(still, axis=(1, 2))
            np.testing.assert_allclose(moved, still * factors[:, None, None], atol=1e-5)
            change = factors - 1
            assert np.abs(np.corrcoef(change.T)[0, 1]) < 0.2, "each axis by its own"
        else:
            x, y = moved[..., 0] - still[..., 0], still[..., 1]
            change = (x * y).sum(axis=(1, 2)) / (y * y).sum(axis=(1, 2))
            np.testing.assert_allclose(moved[..., 1], still[..., 1], atol=1e-6)
            expected = still[..., 0] + change[:, None, None] * still[..., 1]
            np.testing.assert_allclose(moved[..., 0], expected, atol=1e-4)
        assert -bound - 1e-3 < change.min() < -0.9 * bound
        assert 0.9 * bound < change.max() < bound + 1e-3


def test_a_joint_keeps_its_offset_through_a_clip():
    points, lengths = make_batch([9, 24, 4] * 40)
    points[:, :, 7] = 0
    found, _ = run(points, lengths, make_config(joint_offset=0.03))
    np.testing.assert_array_equal(missing(found), missing(points))
    shift = (found - points)[~missing(points)]
    assert abs(shift.std() - 0.03) < 0.002
    first = (found - points)[:, :1]
    there = ~missing(points)
    np.testing.assert_allclose(
        (found - points)[there], np.broadcast_to(first, points.shape)[there], atol=1e-6
    )


@pytest.mark.parametrize("resample", ["nearest", "linear"])
@pytest.mark.parametrize("layout", ["kp65", "kinect20"])
def test_extremes_of_what_came_later_stay_finite(layout, resample):
    image = layout == "kp65"
    points, lengths = make_batch([24] * 12, get_layout(layout).num_keypoints)
    if resample == "nearest":
        points, lengths = make_batch([24, 1, 2, 9] * 3, get_layout(layout).num_keypoints)
    extreme = {"crop": 0.4, "time_curve": 0.3, "scale": 0.99, "shear": 0.99, "joint_offset": 1}
    extreme |= {"drop_frames": 0.99, "time_warp": 0.99, "resample": resample}
    if not image:
        extreme |= {"yaw_degrees": 180, "pitch_degrees": 180}
        points = np.concatenate([points, points[..., :1]], axis=-1)
    found, found_lengths = run(points, lengths, make_config(layout, **extreme))
    assert np.isfinite(found).all() and found_lengths.min() >= 1
    assert found.shape[1] >= found_lengths.max()
    for clip, length in zip(found, found_lengths, strict=True):
        np.testing.assert_array_equal(clip[length:], 0)

"""Linear resampling: the same frames and shares on every device, and no bogus points at gaps.

Legend: T frames of a clip, n frames of the result, K keypoints.
"""

from fractions import Fraction

import numpy as np
import pytest

from signbart.configuration.reading import from_dict
from signbart.configuration.schema import RunConfig
from signbart.preprocessing import describe_steps, fill_gaps, prepare, preprocess
from signbart.resampling import between, frame_indices, linear_positions, resample_linear


def make_config(layout: str, scheme: str, frames: int, resample: str = "linear") -> RunConfig:
    data = {
        "layout": layout, "max_frames": frames, "normalization": scheme, "resample": resample,
    }  # fmt: skip
    return from_dict({"data": data}, source="test")


def random_points(frames: int, keypoints: int = 5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(0.05, 0.95, (frames, keypoints, 2)).astype(np.float32)


def resampled_slowly(points: np.ndarray, count: int, holes: bool) -> np.ndarray:
    """As `describe_resampling` says it, point by point, in fractions."""
    found = np.empty((count, *points.shape[1:]), np.float32)
    for i in range(count):
        at = Fraction(i * (len(points) - 1), max(count - 1, 1))
        a, share = at.numerator // at.denominator, at - at.numerator // at.denominator
        b = min(a + 1, len(points) - 1)
        for k in range(points.shape[1]):
            first, second = points[a, k], points[b, k]
            if holes and first.any() != second.any():
                found[i, k] = first if share <= Fraction(1, 2) else second
            else:
                found[i, k] = first + np.float32(float(share)) * (second - first)
    return found


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 3, 7, 12, 13, 25, 80])
@pytest.mark.parametrize("count", [1, 2, 5, 13])
def test_it_equals_a_loop_in_fractions(frames, count, holes):
    points = random_points(frames)
    points[np.random.default_rng(1).random(points.shape[:2]) < 0.3] = 0
    found = resample_linear(points, count, holes=holes)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, resampled_slowly(points, count, holes))


@pytest.mark.parametrize("count", [1, 2, 12, 48, 64])
def test_positions_are_exact_fractions_and_begin_where_nearest_does(count):
    for frames in range(1, 400, 3):
        low, share = linear_positions(frames, count)
        exact = [Fraction(i * (frames - 1), max(count - 1, 1)) for i in range(count)]
        assert low.tolist() == [int(at) for at in exact]
        np.testing.assert_array_equal(share, np.float32([float(at % 1) for at in exact]))
        if frames > count:
            np.testing.assert_array_equal(low, frame_indices(frames, count))


def test_a_clip_of_that_length_stays_and_one_frame_is_repeated():
    points = random_points(9)
    assert resample_linear(points, 9, holes=True).tobytes() == points.tobytes()
    once = resample_linear(points[:1], 4, holes=True)
    np.testing.assert_array_equal(once, np.repeat(points[:1], 4, axis=0))


def test_nothing_is_drawn_towards_the_corner_of_missing_points():
    points = np.full((5, 1, 2), 0.8, np.float32)
    points[2:4] = 0
    found = resample_linear(points, 17, holes=True)[:, 0]
    assert set(found[:, 0].tolist()) == {0.0, np.float32(0.8)}
    # Four moments a frame: half-way stays with the earlier frame, here present and there missing.
    assert np.flatnonzero(found[:, 0] == 0).tolist() == [*range(7, 15)]
    control = resample_linear(points, 17, holes=False)
    assert ((control > 0.01) & (control < 0.79)).any()


def test_between_takes_the_nearer_of_a_missing_and_a_present_one():
    there, missing = np.full((3, 1, 2), 0.6, np.float32), np.zeros((3, 1, 2), np.float32)
    share = np.float32([0.4, 0.5, 0.6])
    assert between(there, missing, share, holes=True)[:, 0, 0].tolist() == [
        np.float32(0.6), np.float32(0.6), 0.0,
    ]  # fmt: skip
    assert between(missing, there, share, holes=True)[:, 0, 0].tolist() == [
        0.0, 0.0, np.float32(0.6),
    ]  # fmt: skip
    assert not between(missing, missing, share, holes=True).any()


@pytest.mark.parametrize("frames", [1, 5, 12, 30])
def test_prepare_resamples_behind_the_plane_whatever_the_length(frames):
    rng = np.random.default_rng(2)
    metres = make_config("kinect20", "body_centred", 12)
    skeletons = rng.normal(size=(frames, 20, 3)).astype(np.float32)
    whole = prepare(skeletons, make_config("kinect20", "body_centred", 99, "nearest"))
    found = prepare(skeletons, metres)
    np.testing.assert_array_equal(found, resample_linear(whole, 12, holes=False))
    assert found.shape == (12, 20, 2)
    deep = prepare(skeletons, metres, 3)
    np.testing.assert_array_equal(deep[..., :2], found)
    assert deep[..., 2].any()
    image = rng.uniform(-0.1, 1.1, (frames, 65, 3))  # beyond two edges is clipped, and missing
    image[rng.random(image.shape[:2]) < 0.2] = 0
    boxed = make_config("kp65", "bbox", 12)
    clipped = np.clip(image[..., :2], 0, 1).astype(np.float32)
    np.testing.assert_array_equal(prepare(image, boxed), resample_linear(clipped, 12, holes=True))
    assert preprocess(image, boxed).shape == (12, 65, 2)
    filled = make_config("kp65", "gaps_filled", 12)
    np.testing.assert_array_equal(
        prepare(image, filled),
        resample_linear(np.clip(fill_gaps(image[..., :2]), 0, 1), 12, holes=True),
    )


def test_the_steps_say_it_and_the_default_says_what_it_said():
    image, metres = make_config("kp65", "bbox", 12), make_config("kinect20", "body_centred", 12)
    for config, holes in ((image, True), (metres, False)):
        (step,) = [text for text in describe_steps(config) if "n = 12" in text]
        assert "shorter ones too" in step and ("2 r <= n - 1" in step) == holes
    nearest = make_config("kp65", "bbox", 12, "nearest")
    assert describe_steps(nearest)[1] == (
        "Of a clip of T > 12 frames keep those at floor(i (T - 1) / (n - 1)), i = 0 … n - 1, "
        "n = 12; keep shorter clips whole."
    )

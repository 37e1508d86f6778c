import dataclasses
from collections import Counter

import numpy as np
import pytest

from signbart.configuration.reading import load_config
from signbart.errors import ClipError
from signbart.synthetic.signs import make_clips
from signbart.training.calibration import MIN_CLIPS, balanced_choice, calibration_inputs


def test_classes_and_signers_are_balanced_whatever_the_recordings_are():
    rng = np.random.default_rng(0)
    # Class 0 has ten times as many clips, and signer "a" most of every class.
    labels = np.concatenate([np.zeros(300, int), rng.integers(1, 10, 300)])
    signers = list(rng.choice(["a", "b", "c", "d"], 600, p=[0.7, 0.1, 0.1, 0.1]))
    chosen = balanced_choice(labels, signers, 120, seed=0)
    assert len(set(chosen)) == 120
    assert set(Counter(labels[chosen]).values()) == {12}
    assert max(Counter(np.array(signers)[chosen]).values()) <= 33  # of 30 if it were even


def test_any_beginning_is_balanced_and_the_seed_decides():
    labels, signers = np.arange(400) % 10, [str(i // 100) for i in range(400)]
    chosen = balanced_choice(labels, signers, 200, seed=1)
    assert set(Counter(labels[chosen[:50]]).values()) == {5}
    np.testing.assert_array_equal(chosen, balanced_choice(labels, signers, 200, seed=1))
    assert (chosen != balanced_choice(labels, signers, 200, seed=2)).any()


def test_a_small_set_is_taken_whole():
    assert sorted(balanced_choice([0, 0, 1], ["a", "a", "a"], 100, seed=0)) == [0, 1, 2]


@pytest.fixture(scope="module")
def recordings():
    return make_clips(num_classes=5, num_signers=4, repetitions=6, seed=0)


def test_inputs_are_padded_to_the_models_length_and_some_are_short(recordings):
    config = load_config("configs/kp90.yaml", ["data.max_frames=24"])
    keypoints, mask = calibration_inputs(recordings, config)
    assert keypoints.shape == (MIN_CLIPS, 24, 90, 2) and keypoints.dtype == np.float32
    lengths = mask.sum(axis=1)
    assert lengths.min() == 1 and lengths.max() == 24
    assert (lengths < 24).sum() >= 20
    assert (keypoints[mask == 0] == 0).all()
    assert np.isfinite(keypoints).all()


def test_too_few_clips_are_refused(recordings):
    config = load_config("configs/kp90.yaml")
    few = dataclasses.replace(recordings, clips=recordings.clips[:40])
    with pytest.raises(ClipError, match="40 clips are too few"):
        calibration_inputs(few, config)
    with pytest.raises(ClipError, match="20 clips are too few"):
        calibration_inputs(recordings, config, count=20)

"""Temperatures, calibration errors and thresholds: against numbers worked out by hand."""

import numpy as np
import pytest

from signbart.errors import SignBartError
from signbart.training.confidence import (
    checked_temperature,
    cross_fit,
    expected_calibration_error,
    fit_temperature,
    shortened,
    softmax,
    temperature_of,
    threshold_of_coverage,
    threshold_of_false_alarms,
)
from signbart.training.metrics import cross_entropy


def drawn(temperature, count=4000, classes=5, seed=0):
    """Logits, and labels drawn by their softmax over a temperature: that is the one to find."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3, size=(count, classes)).astype(np.float32)
    shares = softmax(logits, temperature)
    labels = (shares.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    logits, labels = drawn(temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.06)
    # The least: a step to either side is no better.
    losses = [cross_entropy(logits / (found * by), labels) for by in (0.9, 1.0, 1.1)]
    assert losses[1] == min(losses)
    before, after = (expected_calibration_error(logits, labels, t) for t in (1.0, found))
    assert after < 0.02
    if temperature != 1.0:
        assert before > 3 * after


def test_clips_that_are_all_recognised_do_not_ask_for_certainty():
    logits = np.eye(4, dtype=np.float32).repeat(10, axis=0) * 5
    labels = np.arange(4).repeat(10)
    found = fit_temperature(logits, labels)
    sure = softmax(logits, found).max(axis=1)
    np.testing.assert_allclose(sure, 41 / 42, atol=1e-6)  # Platt's target for 40 clips


def test_the_error_is_that_of_the_definition():
    # Two clips at 0.9, of which one is right, and two at 0.6, both right: 0.5 * 0.4 + 0.5 * 0.4.
    shares = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    error = expected_calibration_error(np.log(shares), np.array([0, 1, 1, 1]))
    assert error == pytest.approx(0.4)
    # In one bin all that is left is the difference of the means, 0.75 and 0.75.
    assert expected_calibration_error(np.log(shares), np.array([0, 1, 1, 1]), bins=1) < 1e-9
    # A bin holds its upper edge: 0.8 is in the 12th of 15.
    edge = np.log([[0.8, 0.2], [0.799, 0.201]])
    assert expected_calibration_error(edge, np.array([0, 1])) == pytest.approx((0.799 - 0.2) / 2)


def test_a_fold_has_no_say_in_its_own_temperature():
    folds = [drawn(t, count=800, seed=at) for at, t in enumerate((0.5, 1.0, 2.0))]
    found = cross_fit(folds)
    assert found[0] == fit_temperature(*map(np.concatenate, zip(folds[1], folds[2], strict=True)))
    folds[0] = drawn(9.0, count=800)
    assert cross_fit(folds)[0] == found[0]
    assert cross_fit(folds)[1] != found[1]
    with pytest.raises(SignBartError, match="two"):
        cross_fit(folds[:1])


def test_thresholds_keep_their_word():
    sure = np.array([0.9, 0.2, 0.7, 0.8, 0.6])
    for coverage, expected in ((1.0, 0.2), (0.8, 0.6), (0.7, 0.6), (0.01, 0.9)):
        threshold = threshold_of_coverage(sure, coverage)
        assert threshold == expected and (sure >= threshold).mean() >= coverage
    for allowed, passing in ((0.0, 0), (0.2, 1), (0.39, 1), (0.4, 2)):
        assert (sure >= threshold_of_false_alarms(sure, allowed)).sum() == passing
    assert threshold_of_false_alarms(np.array([]), 0.0) == 0.0


@pytest.mark.parametrize("threshold", [0.5, 0.70251, 0.9996, 1 - 8e-8, 0.0004, 3e-9])
def test_a_shortened_threshold_lets_pass_what_it_did(threshold):
    down, up = (shortened(threshold, up=way) for way in (False, True))
    assert 0 < down <= threshold <= up < 1
    assert up - down < 1.001e-3
    assert shortened(0.70251, up=False) == 0.702 and shortened(0.70251, up=True) == 0.703


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "1", True, None, [2]])
def test_a_temperature_that_divides_nothing_is_refused(value):
    with pytest.raises(SignBartError, match=r"here.*temperature"):
        temperature_of({"temperature": value}, "here")
    assert temperature_of({}, "here") == 1.0 and temperature_of({"temperature": 2}, "here") == 2.0
    with pytest.raises(SignBartError, match="--temperature"):
        checked_temperature(0.0, "--temperature")
    with pytest.raises(SignBartError, match="no clips"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, int))

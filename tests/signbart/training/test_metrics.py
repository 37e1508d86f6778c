"""Scores against small cases counted by hand."""

import warnings

import numpy as np
import pytest

from signbart.training.metrics import confusion, score


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def one_hot(predictions: list[int], classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[predictions]


def test_three_classes_by_hand():
    """Class 0: 2 of 3 right, class 1: 0 of 1, class 2: 2 of 2."""
    logits = one_hot([0, 0, 2, 2, 2, 2], 3)
    labels = np.array([0, 0, 0, 1, 2, 2])
    found = score(logits, labels)
    assert found.count == 6
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.per_class == pytest.approx([2 / 3, 0, 1])
    assert found.mean_class_accuracy == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert found.top5 == 1.0
    assert confusion(logits, labels).tolist() == [[2, 0, 1], [0, 0, 1], [0, 0, 2]]


def test_a_class_that_does_not_occur_does_not_count():
    logits = one_hot([0, 1, 3, 3], 4)
    labels = np.array([0, 0, 3, 3])
    found = score(logits, labels)
    assert found.per_class[[0, 3]] == pytest.approx([0.5, 1])
    assert np.isnan(found.per_class[[1, 2]]).all()
    assert found.mean_class_accuracy == pytest.approx(0.75)
    assert confusion(logits, labels)[2].tolist() == [0, 0, 0, 0]
    assert confusion(logits, labels).shape == (4, 4)


def test_top5_by_hand():
    """Seven classes; the label's rank among the logits is 1, 5, 6 and 7."""
    logits = np.tile(np.array([7.0, 6, 5, 4, 3, 2, 1]), (4, 1))
    found = score(logits, np.array([0, 4, 5, 6]))
    assert (found.accuracy, found.top5) == (0.25, 0.5)


@pytest.mark.parametrize("classes", [1, 2, 3, 5])
def test_top5_of_up_to_five_classes_is_all(classes):
    labels = np.arange(classes)
    logits = one_hot([0] * classes, classes)
    found = score(logits, labels)
    assert (found.top5, found.accuracy) == (1.0, 1 / classes)
    assert score(one_hot([0] * 6, 6), np.arange(6)).top5 < 1, "of six it is not"


def test_ties_go_to_the_lower_class_everywhere():
    """Coarse logits of quantized models tie; no label may be first and yet not among five."""
    labels = np.arange(8)
    found = score(np.zeros((8, 8)), labels)
    assert found.accuracy == 1 / 8 and found.per_class.tolist() == [1] + [0] * 7
    assert found.top5 == 5 / 8
    assert score(np.zeros((1, 8)), np.array([0])).top5 == 1
    # Classes 6 and 7 lead, 0 to 5 tie for the rest: 0, 1, 2 are in.
    logits = np.tile(np.array([0, 0, 0, 0, 0, 0, 2, 1]), (8, 1))
    assert score(logits, labels).top5 == 5 / 8
    assert [score(logits[:1], labels[i : i + 1]).top5 for i in range(8)] == [1, 1, 1, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("classes", [3, 9])
def test_scores_equal_a_loop(classes):
    rng = np.random.default_rng(classes)
    logits = rng.normal(size=(200, classes)).astype(np.float32)
    labels = rng.integers(0, classes, 200)
    logits[np.arange(200), labels] += 1
    hits, among, right, total = 0, 0, [0] * classes, [0] * classes
    for row, label in zip(logits, labels, strict=True):
        rank = sum(value > row[label] for value in row)
        hits, among = hits + (rank == 0), among + (rank < 5)
        total[label], right[label] = total[label] + 1, right[label] + (rank == 0)
    found = score(logits, labels)
    assert (found.accuracy, found.top5) == (pytest.approx(hits / 200), pytest.approx(among / 200))
    assert found.per_class == pytest.approx([r / t for r, t in zip(right, total, strict=True)])
    assert np.diag(confusion(logits, labels)).tolist() == right
    assert confusion(logits, labels).sum(axis=1).tolist() == total
    # Plain numbers, for JSON and CSV.
    assert all(type(getattr(found, key)) is float for key in ("accuracy", "top5"))

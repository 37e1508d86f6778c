"""The report's table of calibration errors, from runs put together by hand."""

import numpy as np
import pytest

from signbart.training.confidence import cross_fit, expected_calibration_error
from signbart.training.frameworks import TORCH
from signbart.training.predictions import Predictions
from signbart_runtime.book.confidence import confidence
from signbart_runtime.book.results import CHECKPOINT, Result, Run

CLASSES = ("ja", "nein", "danke")


def evaluation(seed, temperature):
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=60)
    logits = rng.normal(size=(60, 3)).astype(np.float32)
    logits[np.arange(60), labels] += 1.5
    who = (f"{seed}",) * 60
    return Predictions("m", CLASSES, who, who, labels, logits, temperature)


@pytest.fixture
def run(tmp_path):
    results = [
        Result("x", fold, "float32", route, "fp32", "pass", evaluation=evaluation(at, 2.0))
        for at, fold in enumerate("AB")
        for route in (CHECKPOINT, "litert")
    ]
    return Run(tmp_path, TORCH, tuple(results), None)


def test_errors_are_means_over_signers_at_three_temperatures(run):
    found = [evaluation(at, 2.0) for at in range(2)]
    fitted = cross_fit([(one.logits, one.labels) for one in found])
    rows = {row[0]: row[1:] for row in confidence(run).rows}
    for cell, temperatures in zip(rows["FP32"], ([1, 1], [2, 2], fitted), strict=True):
        errors = [
            100 * expected_calibration_error(one.logits, one.labels, temperature)
            for one, temperature in zip(found, temperatures, strict=True)
        ]
        assert cell == f"{np.mean(errors):.2f} ± {np.std(errors):.2f}"
    assert rows["PyTorch"] == rows["FP32"]  # the same predictions
    assert list(rows) == ["PyTorch", "FP32"]


def test_one_fold_has_no_others(run):
    alone = Run(run.folder, TORCH, run.results[:2], None)
    table = confidence(alone)
    assert len(table.columns) == 3 and "±" not in table.rows[0][1]

"""The table of the results report that says how far probabilities can be believed."""

from __future__ import annotations

from signbart.console import cell
from signbart.training.confidence import cross_fit, expected_calibration_error
from signbart_runtime.book.results import CHECKPOINT, FP32, Run, deviation, mean
from signbart_runtime.book.tables import Table


def confidence(run: Run) -> Table:
    """Expected calibration error of every variant of the main route, mean over the folds.

    At temperature 1, at the temperature that the models carry, and at the one that the other
    folds' held-out clips ask for; the last takes two folds.
    """
    kinds = [(run.framework.title, CHECKPOINT, FP32)]
    kinds += [(variant.name, run.main_route, variant) for variant in run.variants]
    rows = []
    for name, where, variant in kinds:
        found = [m.evaluation if m else None for m in run.all_folds(variant, where)]
        columns: list[list[float | None]] = [[None] * len(found)] * 3
        if None not in found:
            fitted: list[float | None] = [None] * len(found)
            if len(found) > 1:
                fitted = list(cross_fit([(one.logits, one.labels) for one in found]))
            columns = [
                [
                    None
                    if temperature is None
                    else 100 * expected_calibration_error(one.logits, one.labels, temperature)
                    for one, temperature in zip(found, temperatures, strict=True)
                ]
                for temperatures in ([1.0] * len(found), [one.temperature for one in found], fitted)
            ]
        rows.append([name, *(_spread(column) for column in columns)])
    return Table(
        "Expected calibration error in percent, by temperature",
        ("variant", "1", "the model's own", "fitted on the others"),
        rows,
    ).telling()


def _spread(errors: list[float | None]) -> str:
    text = cell(mean(errors))
    return f"{text} ± {cell(deviation(errors))}" if len(errors) > 1 and None not in errors else text

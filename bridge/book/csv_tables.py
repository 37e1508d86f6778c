"""The tables of the results report for programs: a row a model of every fold."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from bridge.book.results import CHECKPOINT, Result, Run, deviation, mean, values
from bridge.book.tables import Table
from signbart.console import NOT_RUN
from signbart.training.run_folder import csv_text

_SUMMARY_COLUMNS = ("data", "signer", "precision", "scheme", "route", "verdict", "clips")
_MEASURES = ("accuracy", "top5", "mean_class_accuracy", "bytes", "latency_ms", "speed_up")


def summary_table(runs: Sequence[Run]) -> Table:
    """A row a signer, variant and route, then their mean and standard deviation."""
    rows = []
    for run in runs:
        kinds = [(run.framework.title, run.variants[0], CHECKPOINT)]
        kinds += [(variant.precision, variant, route) for variant, route in run.kinds]
        for precision, variant, route in kinds:
            models = run.all_folds(variant, route)
            named = [run.data, precision, variant.scheme, route]
            for fold, model in zip(run.folds, models, strict=True):
                rows.append(_summary_row(named, fold, model))
            if len(models) > 1:
                for name, function in (("mean", mean), ("std", deviation)):
                    spread = [function(values(models, measure)) for measure in _MEASURES]
                    rows.append(_cells(named, name, "", "", spread))
    return Table("", (*_SUMMARY_COLUMNS, *_MEASURES), rows)


def _summary_row(named: Sequence[str], fold: str, model: Result | None) -> list[str]:
    if model is None:
        return _cells(named, fold, NOT_RUN, NOT_RUN, [None] * len(_MEASURES))
    measured = [getattr(model, measure) for measure in _MEASURES]
    return _cells(named, fold, model.verdict, str(model.clips), measured)


def _cells(
    named: Sequence[str], fold: str, verdict: str, clips: str, measured: Sequence[float | None]
) -> list[str]:
    data, precision, scheme, route = named
    numbers = [NOT_RUN if value is None else str(round(value, 4)) for value in measured]
    return [data, fold, precision, scheme, route, verdict, clips, *numbers]


def parity_table(runs: Sequence[Run]) -> Table:
    """A row an artifact: how it compares with PyTorch."""
    measures = ("max_abs", "scaled_rmse", "agreement")
    columns = ("data", "signer", "training", "scheme", "route", "verdict", "reason", *measures)
    rows = []
    for run in runs:
        for r in run.results:
            if r.route == CHECKPOINT:
                continue
            numbers = [getattr(r, name) for name in measures]
            cells = [NOT_RUN if value is None else f"{value:.6g}" for value in numbers]
            rows.append(
                [run.data, r.fold, r.training, r.scheme, r.route, r.verdict, r.reason, *cells]
            )
    return Table("", columns, rows)


def joined(runs: Sequence[Run], table_of: Callable[[Run], Table]) -> Table:
    """One kind of table of every run, with the data's name in front."""
    tables = [(run.data, table_of(run)) for run in runs]
    rows = [[data, *row] for data, table in tables for row in table.rows]
    return Table("", ["data", *tables[0][1].columns], rows)


def as_csv(table: Table) -> str:
    """A table as CSV, its columns named as programs name things."""
    names = [re.sub(r"\W+", "_", column.lower()).strip("_") for column in table.columns]
    # Thousands are for readers, not for programs.
    plain = [[re.sub(r"(?<=\d),(?=\d{3})", "", cell) for cell in row] for row in table.rows]
    return csv_text([dict(zip(names, row, strict=True)) for row in plain])

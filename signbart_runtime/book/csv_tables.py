"""The tables of the results report for programs: a row a model of every fold."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from signbart.console import NOT_RUN, cell
from signbart.training.run_folder import csv_text
from signbart_runtime.book.results import CHECKPOINT, FP32, Run, deviation, mean, values
from signbart_runtime.book.tables import Table, graphs
from signbart_runtime.folds.layout import PLAIN, training_folder

_SUMMARY_COLUMNS = ("data", "signer", "precision", "scheme", "route", "verdict", "clips")
_MEASURES = ("accuracy", "top5", "mean_class_accuracy", "bytes", "latency_ms", "speed_up")


def summary_table(runs: Sequence[Run]) -> Table:
    """A row a signer, variant and route, then their mean and standard deviation."""
    rows = []
    for run in runs:
        kinds = [(run.framework.title, FP32, CHECKPOINT)]
        kinds += [(variant.precision, variant, route) for variant, route in run.kinds]
        for precision, variant, route in kinds:
            models = run.all_folds(variant, route)
            columns = [values(models, measure) for measure in _MEASURES]
            found = [(m.verdict, str(m.clips)) if m else (NOT_RUN, NOT_RUN) for m in models]
            kept = list(zip(run.folds, found, zip(*columns, strict=True), strict=True))
            if len(models) > 1:
                kept.append(("mean", ("", ""), map(mean, columns)))
                kept.append(("std", ("", ""), map(deviation, columns)))
            rows += [
                [run.data, fold, precision, variant.scheme, route, *about, *map(_rounded, measured)]
                for fold, about, measured in kept
            ]
    return Table("", (*_SUMMARY_COLUMNS, *_MEASURES), rows)


def _rounded(value: float | None) -> str:
    return NOT_RUN if value is None else str(round(value, 4))


def parity_table(runs: Sequence[Run]) -> Table:
    """A row an artifact: how it compares with PyTorch."""
    measures = ("max_abs", "scaled_rmse", "agreement")
    columns = ("data", "signer", "training", "scheme", "route", "verdict", "reason", *measures)
    rows = []
    for run in runs:
        for r in run.results:
            if r.route == CHECKPOINT:
                continue
            cells = [cell(getattr(r, name), ".6g") for name in measures]
            rows.append(
                [run.data, r.fold, r.training, r.scheme, r.route, r.verdict, r.reason, *cells]
            )
    return Table("", columns, rows)


def model_info(run: Run) -> Table:
    """Parameters, operations and sizes; all folds have the same graphs.

    PyTorch's FLOPs are `torch.utils.flop_counter`'s, an artifact's twice its multiply-accumulates.
    """
    parameters, flops = count(run)
    columns = (
        *("variant", "route", "parameters", "FLOPs", "multiply-accumulates", "in int8", "bytes"),
        "operators",
    )
    # A checkpoint has neither the size nor the operators of an artifact.
    rows = [["PyTorch", "-", f"{parameters:,}", f"{flops:,}", f"{flops // 2:,}", "0.0", "-", "-"]]
    for variant, route, model in graphs(run):
        products = sum(model.multiply_accumulates.values())
        rows.append(
            [
                variant.name,
                route,
                f"{parameters:,}",
                f"{2 * products:,}" if products else "-",
                f"{products:,}" if products else "-",
                cell(model.share_int8, ".1f") if products else "-",
                cell(mean(values(run.all_folds(variant, route), "bytes")), ",.0f"),
                str(sum(model.operators.values())),
            ]
        )
    return Table("", columns, rows)


def count(run: Run) -> tuple[int, int]:
    """Parameters, and FLOPs of one clip of full length, of the first fold's model in PyTorch."""
    from bridge.weights.source import load_reference
    from signbart.models import io_spec
    from signbart_torch.models import example_inputs, num_parameters
    from signbart_torch.training.flops import count_flops

    path = training_folder(run.folder / run.folds[0], PLAIN) / run.framework.best
    model, config, _ = load_reference(path)
    return num_parameters(model), count_flops(model, example_inputs(io_spec(config)))


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

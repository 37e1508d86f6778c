"""The tables of the results report, as columns and rows of text.

They fit `COLUMNS` columns of a terminal where names are not too long; pages and terminals show
those that do not as a list. What nobody asked for has no cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bridge.verification.verdict import PASS
from signbart.console import NOT_RUN, cell
from signbart_runtime.book.results import (
    CHECKPOINT,
    FP32,
    Result,
    Run,
    Variant,
    deviation,
    mean,
    relative_time,
    values,
)

COLUMNS = 80
TOO_NOISY = "too noisy"
_REJECTED = " †"
_ROUTE = "route"
_BETWEEN = 3  # blanks that a terminal's table has for each column


class Table(NamedTuple):
    """One table: a title, columns, rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def width(self) -> int:
        """Columns of a terminal that it takes."""
        lines = [self.columns, *self.rows]
        widest = [max(len(line[at]) for line in lines) for at in range(len(self.columns))]
        return sum(widest) + _BETWEEN * len(widest)

    def telling(self) -> Table:
        """Without columns in which nothing was measured, and without the only route's."""
        kept = []
        for at, name in enumerate(self.columns):
            found = {row[at] for row in self.rows}
            if found != {NOT_RUN} and not (name == _ROUTE and len(found) == 1):
                kept.append(at)
        rows = [[row[at] for at in kept] for row in self.rows]
        return Table(self.title, [self.columns[at] for at in kept], rows)

    def turned(self) -> Table:
        """Rows as columns."""
        head, *rows = zip(self.columns, *self.rows, strict=True)
        return Table(self.title, head, rows)

    def cards(self) -> list[tuple[str, str]]:
        """A row each as its first cell, and the others behind their columns' names."""
        return [
            (row[0], "; ".join(f"{n} {c}" for n, c in zip(self.columns, row, strict=True) if c)
             .partition("; ")[2])
            for row in self.rows
        ]  # fmt: skip


def files(run: Run) -> Table:
    """Every kind of file: mean ± standard deviation over the folds."""
    columns = ("variant", _ROUTE, "accuracy", "bytes", "time to FP32", "agree")
    rows = []
    for variant, route in run.kinds:
        models = run.all_folds(variant, route)
        if any(models):
            rows.append(
                [
                    variant.name,
                    route,
                    _spread(models, "accuracy"),
                    cell(mean(values(models, "bytes")), ",.0f"),
                    _time(models),
                    _passed(models),
                ]
            )
    spread = ", mean ± standard deviation over signers" if len(run.folds) > 1 else ""
    return Table(f"Files: accuracy in percent{spread}", columns, rows).telling()


def per_signer(run: Run) -> Table:
    """Accuracy of every fold: as trained, FP32, PTQ, QAT."""
    route = run.main_route
    kinds = [(CHECKPOINT, FP32), *((route, variant) for variant in run.variants)]
    columns = ["signer", "clips", run.framework.title, *(variant.name for variant in run.variants)]
    rows, table = [], []
    for fold in run.folds:
        models = [run.find(variant, where, fold) for where, variant in kinds]
        table.append(values(models, "accuracy"))
        clips = max((model.clips for model in models if model), default=0)
        marks = [_REJECTED if model and model.verdict != PASS else "" for model in models]
        cells = [cell(value) + mark for value, mark in zip(table[-1], marks, strict=True)]
        rows.append([fold, str(clips), *cells])
    if len(run.folds) > 1:
        columns_of = list(zip(*table, strict=True))
        rows.append(["mean", "", *(cell(mean(column)) for column in columns_of)])
        rows.append(["std", "", *(cell(deviation(column)) for column in columns_of)])
    noted = any(_REJECTED in text for row in rows for text in row)
    note = f" ({_REJECTED.strip()} rejected, and in the mean all the same)" if noted else ""
    by = f", route {route}" if len(run.routes) > 1 else ""
    table = Table(f"Accuracy by signer{by}, in percent{note}", columns, rows)
    # A few signers and many kinds of files.
    return table.turned() if table.width > COLUMNS >= table.turned().width else table


def scores(run: Run) -> Table:
    """Further scores, where they say more than accuracy does.

    Top-5 is 100 % of at most five classes, and mean class accuracy is accuracy where every class
    has as many clips.
    """
    route = run.main_route
    rows = []
    for variant in run.variants:
        models = run.all_folds(variant, route)
        same = _spread(models, "accuracy") == _spread(models, "mean_class_accuracy")
        rows.append(
            [
                variant.name,
                NOT_RUN if (run.classes or 0) <= 5 else _spread(models, "top5"),
                NOT_RUN if same else _spread(models, "mean_class_accuracy"),
            ]
        )
    table = Table("Further scores, in percent", ("variant", "top-5", "mean class accuracy"), rows)
    table = table.telling()
    return table if len(table.columns) > 1 else Table(table.title, (), ())


def parity(run: Run) -> Table:
    """How far the files are from the model they were made of, the worst of the folds."""
    columns = (*("variant", _ROUTE, "points", "% same class", "max Δ", "rmse / rms"),)
    reference = mean(values(run.all_folds(FP32, CHECKPOINT), "accuracy"))
    rows = []
    for variant, route in run.kinds:
        models = [model for model in run.all_folds(variant, route) if model]
        if not models:
            continue
        accuracy = mean(values(run.all_folds(variant, route), "accuracy"))
        lost = None if None in (accuracy, reference) else accuracy - reference
        rows.append(
            [
                variant.name,
                route,
                cell(lost, "+.2f"),
                cell(_worst(models, "agreement", min)),
                cell(_worst(models, "max_abs", max), ".2e"),
                cell(_worst(models, "scaled_rmse", max), ".2e"),
            ]
        )
    title = f"Agreement with PyTorch in the worst fold; accuracy in points to {run.framework.title}"
    return Table(title, columns, rows).telling()


def failures(run: Run) -> Table:
    """Artifacts that do not pass, and why."""
    columns = ("signer", "variant", _ROUTE, "verdict", "reason")
    rows = [
        [fold, variant.name, route, model.verdict, model.reason]
        for fold in run.folds
        for variant, route in run.kinds
        if (model := run.find(variant, route, fold)) and model.verdict != PASS
    ]
    return Table("Files that were rejected", columns, rows).telling()


def arithmetic(run: Run) -> Table:
    """Products and operators of one forward pass; all folds have the same graphs."""
    rows = []
    for variant, route, model in graphs(run):
        products = sum(model.multiply_accumulates.values())
        rows.append(
            [
                variant.name,
                route,
                f"{products:,}" if products else NOT_RUN,
                cell(model.share_int8, ".1f"),
                str(sum(model.operators.values())),
            ]
        )
    columns = ("variant", _ROUTE, "multiply-accumulates", "% in int8", "operators")
    return Table("Arithmetic of one forward pass", columns, rows).telling()


def operators(run: Run) -> list[Table]:
    """How often each operator stands in a file; one table for all that have the same."""
    groups: dict[tuple[str, tuple[tuple[str, int], ...]], list[str]] = {}
    for variant, route, model in graphs(run):
        counts = tuple(sorted(model.operators.items(), key=lambda one: (-one[1], one[0])))
        groups.setdefault((route, counts), []).append(variant.name)
    return [
        Table(f"Operators by route {route}: {', '.join(names)}", ("operator", "count"),
              [[name, str(count)] for name, count in counts])
        for (route, counts), names in groups.items()
    ]  # fmt: skip


def graphs(run: Run) -> list[tuple[Variant, str, Result]]:
    """Every kind with one of its files, whose operators were counted."""
    found = []
    for variant, route in run.kinds:
        model = next((m for m in run.all_folds(variant, route) if m and m.operators), None)
        if model is not None:
            found.append((variant, route, model))
    return found


def _spread(models: Sequence[Result | None], name: str, form: str = ".2f") -> str:
    """Mean ± standard deviation; the one value where there is one fold."""
    found = values(models, name)
    if mean(found) is None:
        return NOT_RUN
    if len(found) == 1:
        return cell(found[0], form)
    return f"{cell(mean(found), form)} ± {cell(deviation(found), form)}"


def _time(models: Sequence[Result | None]) -> str:
    share, noisy = relative_time(models)
    return TOO_NOISY if noisy else cell(share)


def _passed(models: Sequence[Result | None]) -> str:
    """How many of those that were made agree with PyTorch."""
    verdicts = [model.verdict for model in models if model]
    return f"{verdicts.count(PASS)} of {len(verdicts)}" if verdicts else NOT_RUN


def _worst(models: Sequence[Result], name: str, worst) -> float | None:
    found = [value for value in values(models, name) if value is not None]
    return worst(found) if found else None

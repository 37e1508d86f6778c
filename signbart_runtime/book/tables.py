"""The tables of the results report, as columns and rows of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bridge.quantization.schemes import FLOAT
from bridge.verification.verdict import PASS
from signbart.console import NOT_RUN, cell
from signbart_runtime.book.results import CHECKPOINT, Result, Run, Variant, deviation, mean, values
from signbart_runtime.folds.layout import PLAIN, training_folder

_REJECTED = " †"
_FP32 = Variant("FP32", PLAIN, FLOAT)


class Table(NamedTuple):
    """One table: a title, columns, rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def summary(run: Run, route: str) -> Table:
    """FP32 / PTQ / QAT: mean ± standard deviation over the folds, of one route."""
    rows = []
    for variant in run.variants:
        models = run.all_folds(variant, route)
        rows.append(
            [
                variant.name,
                _spread(models, "accuracy"),
                _spread(models, "top5"),
                _spread(models, "mean_class_accuracy"),
                cell(mean(values(models, "bytes")), ",.0f"),
                _spread(models, "latency_ms", ".3f"),
                _spread(models, "speed_up"),
                _passed(models),
            ]
        )
    columns = (
        *("variant", "accuracy", "top-5", "mean class accuracy", "bytes", "latency in ms"),
        *("speed-up to FP32", "passed"),
    )
    spread = ", mean ± standard deviation over signers" if len(run.folds) > 1 else ""
    title = f"Summary, route {route}: accuracies in percent{spread}"
    return Table(title, columns, rows)


def per_signer(run: Run, route: str) -> Table:
    """Accuracy of every fold: as trained, FP32, PTQ, QAT."""
    kinds = [(CHECKPOINT, _FP32), *((route, variant) for variant in run.variants)]
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
    return Table(f"Accuracy by signer, route {route}, in percent{note}", columns, rows)


def by_route(run: Run) -> Table:
    """Every scheme and route, mean over the folds."""
    columns = (
        *("variant", "route", "accuracy", f"to {run.framework.title}", "top-5", "agreement"),
        *("rmse / rms", "bytes", "in int8", "latency to fp32", "passed"),
    )
    reference = mean(values(run.all_folds(_FP32, CHECKPOINT), "accuracy"))
    rows = []
    for variant, route in run.kinds:
        models = run.all_folds(variant, route)
        if not any(models):
            continue
        accuracy = mean(values(models, "accuracy"))
        lost = None if None in (accuracy, reference) else accuracy - reference
        faster = mean(1 / v if v else None for v in values(models, "speed_up"))
        # The float files are compared on inputs of their own, in every length and with holes.
        form = ".1e" if variant.scheme == FLOAT else ".4f"
        rows.append(
            [
                variant.name,
                route,
                cell(accuracy),
                cell(lost, "+.2f"),
                cell(mean(values(models, "top5"))),
                cell(mean(values(models, "agreement"))),
                cell(mean(values(models, "scaled_rmse")), form),
                cell(mean(values(models, "bytes")), ",.0f"),
                cell(mean(values(models, "share_int8")), ".1f"),
                cell(faster),
                _passed(models),
            ]
        )
    return Table(
        "Every route and scheme: accuracies and agreement in percent, mean over the folds",
        columns,
        rows,
    )


def parity(run: Run) -> Table:
    """How many artifacts agree with PyTorch, and how far the worst is off."""
    columns = ("variant", "route", "passed", "worst max Δ", "worst rmse / rms", "least agreement")
    rows = []
    for variant, route in run.kinds:
        models = [model for model in run.all_folds(variant, route) if model]
        if not models:
            rows.append([variant.name, route, *[NOT_RUN] * 4])
            continue
        rows.append(
            [
                variant.name,
                route,
                _passed(models),
                cell(_worst(models, "max_abs", max), ".2e"),
                cell(_worst(models, "scaled_rmse", max), ".2e"),
                cell(_worst(models, "agreement", min)),
            ]
        )
    return Table("Agreement with PyTorch: Δ in logits, agreement in percent", columns, rows)


def failures(run: Run) -> Table:
    """Artifacts that do not pass, and why."""
    columns = ("signer", "variant", "route", "verdict", "reason")
    rows = [
        [fold, variant.name, route, model.verdict, model.reason]
        for fold in run.folds
        for variant, route in run.kinds
        if (model := run.find(variant, route, fold)) and model.verdict != PASS
    ]
    return Table("Artifacts that were rejected", columns, rows)


def model_info(run: Run) -> Table:
    """Parameters, operations and sizes; all folds have the same graphs.

    PyTorch's FLOPs are `torch.utils.flop_counter`'s, an artifact's twice its multiply-accumulates.
    """
    parameters, flops = _count(run)
    columns = (
        *("variant", "route", "parameters", "FLOPs", "multiply-accumulates", "in int8", "bytes"),
        "operators",
    )
    # A checkpoint has neither the size nor the operators of an artifact.
    rows = [["PyTorch", "-", f"{parameters:,}", f"{flops:,}", f"{flops // 2:,}", "0.0", "-", "-"]]
    for variant, route in run.kinds:
        model = next((m for m in run.all_folds(variant, route) if m and m.operators), None)
        if model is None:
            continue
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
    return Table("Size and arithmetic of one forward pass", columns, rows)


def operators(run: Run) -> Table:
    """How often each operator stands in each artifact; a column for all that have the same."""
    groups: dict[tuple[str, tuple[tuple[str, int], ...]], list[str]] = {}
    for route in dict.fromkeys(route for _, route in run.kinds):
        for variant in (variant for variant, of in run.kinds if of == route):
            model = next((m for m in run.all_folds(variant, route) if m and m.operators), None)
            if model is not None:
                counts = tuple(sorted(model.operators.items()))
                groups.setdefault((route, counts), []).append(variant.name)
    names = sorted({name for _, counts in groups for name, _ in counts})
    columns = [f"{route}: {', '.join(members)}" for (route, _), members in groups.items()]
    rows = [[name, *(str(dict(c).get(name, 0)) for _, c in groups)] for name in names]
    return Table("Operators", ["operator", *columns], rows)


def _count(run: Run) -> tuple[int, int]:
    """Parameters, and FLOPs of one clip of full length, of the first fold's model in PyTorch."""
    from bridge.weights.source import load_reference
    from signbart.models import io_spec
    from signbart_torch.models import example_inputs, num_parameters
    from signbart_torch.training.flops import count_flops

    path = training_folder(run.folder / run.folds[0], PLAIN) / run.framework.best
    model, config, _ = load_reference(path)
    return num_parameters(model), count_flops(model, example_inputs(io_spec(config)))


def _spread(models: Sequence[Result | None], name: str, form: str = ".2f") -> str:
    """Mean ± standard deviation; the one value where there is one fold."""
    found = values(models, name)
    if mean(found) is None:
        return NOT_RUN
    if len(found) == 1:
        return cell(found[0], form)
    return f"{cell(mean(found), form)} ± {cell(deviation(found), form)}"


def _passed(models: Sequence[Result | None]) -> str:
    """How many of those that were made agree with PyTorch."""
    verdicts = [model.verdict for model in models if model]
    return f"{verdicts.count(PASS)} of {len(verdicts)}" if verdicts else NOT_RUN


def _worst(models: Sequence[Result], name: str, worst) -> float | None:
    found = [value for value in values(models, name) if value is not None]
    return worst(found) if found else None

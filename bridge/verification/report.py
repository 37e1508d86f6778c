"""Comparisons for people and for programs: a table, ``parity.json``, ``parity.md``, pictures."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bridge.quantization.schemes import FLOAT
from bridge.verification.verdict import Verdict
from signbart.console import cell, markdown_table, print_table, printable
from signbart.files import atomic_write, make_folder, write_text
from signbart.models.io_spec import SIGNATURE

if TYPE_CHECKING:
    from bridge.verification.samples import Sample

NOT_ASKED = "-"

# Column -> attribute of a verdict and its format; three columns stand in front in every table.
_BY_VALUE = {
    "max Δ": ("max_abs", ".2e"),
    "rmse": ("rmse", ".2e"),
    "max Δ / rms": ("max_scaled", ".2e"),
    "cosine": ("cosine", ".7f"),
    "arg-max": ("argmax_agreement", ".1%"),
}
_ON_CLIPS = {
    "accuracy": ("accuracy", ".2f"),
    "to float32": ("accuracy_change", "+.2f"),
    "top-5": ("top5", ".2f"),
    "agreement": ("argmax_agreement", ".2%"),
    "rmse / rms": ("scaled_rmse", ".4f"),
    "max Δ / rms": ("max_scaled", ".3f"),
}


def _tables(results: Sequence[Verdict]) -> list[tuple[str, Sequence[str], list[list[str]]]]:
    """Title, columns and rows: float artifacts input by input, quantized ones on clips."""
    tables = []
    for title, quantized, counted, measures in (
        ("Parity with PyTorch", False, "samples", _BY_VALUE),
        ("Quantized, judged on clips; accuracies in percent", True, "clips", _ON_CLIPS),
    ):
        rows = [
            [
                *(_row_name(result), result.verdict, str(result.samples)),
                *(_shown(result, name, form) for name, form in measures.values()),
            ]
            for result in results
            if (result.scheme != FLOAT) == quantized
        ]
        if rows:
            tables.append((title, ("artifact", "verdict", counted, *measures), rows))
    return tables


def _shown(result: Verdict, name: str, form: str) -> str:
    """A number; of a comparison that passed, what it has no number for was not asked for."""
    value = getattr(result, name)
    return NOT_ASKED if value is None and result.passed else cell(value, form)


def _row_name(result: Verdict) -> str:
    """What was compared: the artifact, by its first signature if no other is named."""
    second = "" if result.signature == SIGNATURE else f" ({result.signature})"
    return result.artifact + second


def print_parity(results: Sequence[Verdict]) -> None:
    """Prints the tables, and a sentence for each artifact that did not pass."""
    for title, columns, rows in _tables(results):
        print_table(title, columns, rows)
    for parity in results:
        if not parity.passed:
            print(printable(f"{_row_name(parity)}: {parity.verdict}: {parity.reason}"))


def parity_json(results: Sequence[Verdict], settings: Mapping[str, Any]) -> str:
    """The content of ``parity.json``."""
    fields = [f.name for f in dataclasses.fields(Verdict) if f.name != "errors"]
    listed = [{name: getattr(result, name) for name in fields} for result in results]
    tree = {"settings": dict(settings), "results": listed}
    return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def parity_tables(results: Sequence[Verdict], level: int) -> str:
    """The tables as Markdown, each under a heading of `level`."""
    return "\n".join(
        f"{'#' * level} {title}\n\n{markdown_table(columns, rows)}"
        for title, columns, rows in _tables(results)
    )


def parity_markdown(results: Sequence[Verdict], settings: Mapping[str, Any]) -> str:
    """The content of ``parity.md``."""
    lines = [
        parity_tables(results, level=1),
        *(f"- **{_row_name(r)}**: {r.verdict}: {r.reason}" for r in results if not r.passed),
        "\nSettings: " + ", ".join(f"{key} {value}" for key, value in settings.items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def write_reports(
    results: Sequence[Verdict], settings: Mapping[str, Any], folder: Path, limit: float
) -> None:
    """Writes ``parity.json``, ``parity.md`` and ``parity_<artifact>.png`` into `folder`.

    Pictures are drawn of float artifacts' first signature, with the absolute `limit` of their
    tolerance: quantized ones have none for a single logit.
    """
    from signbart.pictures import draw_errors

    make_folder(folder)
    for result in results:
        if result.errors is None or result.signature != SIGNATURE:
            continue
        if result.scheme == FLOAT:
            title = f"{result.artifact}: {result.verdict}, {result.samples} inputs"
            draw_errors(result.errors, limit, title, folder / f"parity_{result.artifact}.png")
    write_text(folder / "parity.json", parity_json(results, settings))
    write_text(folder / "parity.md", parity_markdown(results, settings))


def save_repro(
    checkpoint: str | Path,
    path: Path,
    result: Verdict,
    samples: Sequence[Sample],
    folder: Path,
    options: Sequence[str] = (),
    staging: Path | None = None,
) -> str:
    """Saves the worst of `samples` in `folder`; returns the command that compares on it alone.

    `options` are what else it needs, such as the configuration of a published .pth. A `staging`
    folder receives what is to be moved to `folder` later.
    """
    worst = next(sample for sample in samples if sample.description == result.worst_sample)
    make_folder(staging or folder)
    second = "" if result.signature == SIGNATURE else f"_{result.signature}"
    inputs = folder / f"repro_{path.name}{second}.npz"
    with atomic_write((staging or folder) / inputs.name) as beside:
        np.savez_compressed(beside, **worst.inputs)
    command = ["python", "-m", "bridge.parity", "--reference", checkpoint, *options]
    command += ["--inputs", inputs, path]
    return shlex.join(map(str, command))

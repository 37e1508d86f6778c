"""``python -m bridge.report``: tables over everything that `bridge.loso` measured."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge.parity import PASS
from bridge.quantize import FLOAT
from bridge.results import (
    PLAIN,
    QAT_COLUMNS,
    SCHEME_COLUMNS,
    Result,
    qat_rows,
    read_results,
    scheme_rows,
)
from signbart.console import markdown_table, print_table, run_command
from signbart.files import make_folder, write_text

LATENCY = "latency.json"


def tables(run: Path) -> list[tuple[str, Sequence[str], list[list[str]]]]:
    """Title, columns and rows of each table of a run."""
    results = read_results(run)
    latency = read_latency(run)
    folds = sorted({result.fold for result in results if result.training == PLAIN})
    clips = sum(_clips(results, fold) for fold in folds)
    title = f"{results[0].data}: {clips} unseen clips, {_fold_names(folds)}"
    found = [(title + _measured_on(latency), SCHEME_COLUMNS, scheme_rows(results, latency))]
    qat = qat_rows(results)
    if qat:
        title = f"{results[0].data}: post-training and quantization-aware, accuracy in percent"
        found.append((title, QAT_COLUMNS, qat))
    return found


def read_latency(run: Path) -> dict[str, Any] | None:
    """What `bridge.loso` wrote of times; None where it did not."""
    try:
        return json.loads((run / LATENCY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _clips(results: Sequence[Result], fold: str) -> int:
    """Clips that a fold's quantized artifacts were judged on; float ones have other inputs."""
    counts = [r.clips for r in results if r.fold == fold and r.scheme != FLOAT]
    return max(counts, default=0)


def _fold_names(folds: Sequence[str]) -> str:
    if folds == ["all"]:
        return "one training"
    return f"mean over {len(folds)} signers left out ({', '.join(folds)})"


def _measured_on(latency: dict[str, Any] | None) -> str:
    if latency is None:
        return ""
    return (
        f"; latency of fold {latency['fold']} as median of {latency['rounds']} turns, "
        f"{latency['frames']} frames, "
        f"{latency['threads']} thread, {latency['machine']}"
    )


def print_run(run: Path) -> None:
    """Prints the tables of a run."""
    for title, columns, rows in tables(run):
        print_table(title, columns, rows)


def results_csv(results: Sequence[Result]) -> str:
    """A row an artifact."""
    text = io.StringIO()
    names = [field.name for field in dataclasses.fields(Result)]
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(result) for result in results)
    return text.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0 if every artifact passed, 1 if not."""
    parser = argparse.ArgumentParser(
        prog="python -m bridge.report",
        description="Print the tables over runs of bridge.loso, and write them with --output.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="output folders of bridge.loso")
    parser.add_argument(
        "--output", metavar="FOLDER", help="receives quantization.md and results.csv"
    )
    options = parser.parse_args(arguments)

    runs = [Path(run) for run in options.runs]
    for run in runs:
        print_run(run)
    if options.output:
        output = Path(options.output)
        make_folder(output)
        text = "\n".join(
            f"{title}\n\n{markdown_table(columns, rows)}"
            for run in runs
            for title, columns, rows in tables(run)
        )
        write_text(output / "quantization.md", text)
        write_text(
            output / "results.csv", results_csv([r for run in runs for r in read_results(run)])
        )
        print(f"wrote {output}/quantization.md and {output}/results.csv")
    wrong = [r for run in runs for r in read_results(run) if r.verdict != PASS]
    for result in wrong:
        print(
            f"{result.data} {result.fold} {result.training} {result.route} {result.scheme}: "
            f"{result.verdict}"
        )
    return 1 if wrong else 0


def command() -> None:
    """The console script."""
    run_command(main)


if __name__ == "__main__":
    command()

"""Microseconds by operator of several .tflite, side by side.

``python -m benchmarks.operators results/latency/T64/plain.tflite OTHER.tflite …``
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.litert_profiler import OperatorProfile, profile
from signbart.console import at_least, markdown_table, print_table, redirect_output, run_command
from signbart.files import make_folder, write_text
from signbart.timing import machine_name

_UNTOLD = "below 1 µs each, and between operators"
_WHOLE = "one call"


def table(profiles: dict[str, OperatorProfile]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: an operator a row, the costliest first; ``count: microseconds``."""
    names = sorted(
        {name for one in profiles.values() for name in one.operators},
        key=lambda name: -max(one.operators.get(name, (0, 0.0))[1] for one in profiles.values()),
    )
    rows = []
    for name in names:
        found = [one.operators.get(name) for one in profiles.values()]
        if any(cell and cell[1] >= 1 for cell in found):
            rows.append([name, *(f"{cell[0]}: {cell[1]:.0f}" if cell else "-" for cell in found)])
    told = [sum(time for _, time in one.operators.values()) for one in profiles.values()]
    rows.append(
        [_UNTOLD, *(f"{p.whole - t:.0f}" for p, t in zip(profiles.values(), told, strict=True))]
    )
    rows.append([_WHOLE, *(f"{one.whole:.0f}" for one in profiles.values())])
    return ["operator, as LiteRT names it", *profiles], rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operators")
    parser.add_argument("models", nargs="+", metavar="TFLITE")
    parser.add_argument("--rounds", type=at_least(1), default=200)
    parser.add_argument("--output", metavar="MD", help="receives the table")
    options = parser.parse_args(arguments)

    paths = [Path(model).resolve() for model in options.models]
    shared = os.path.commonpath([path.parent for path in paths])
    names = {os.path.relpath(path.with_suffix(""), shared): path for path in paths}
    with tempfile.TemporaryDirectory() as folder, redirect_output(Path(folder) / "log"):
        profiles = {name: profile(path, options.rounds) for name, path in names.items()}
    columns, rows = table(profiles)
    title = f"count: microseconds, medians of {options.rounds} calls, 1 thread, {machine_name()}"
    print_table(title, columns, rows)
    if options.output:
        make_folder(Path(options.output).parent)
        write_text(Path(options.output), f"{title}\n\n{markdown_table(columns, rows)}")
    return 0


if __name__ == "__main__":
    run_command(main)

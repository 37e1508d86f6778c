"""How long ``bridge/convert.py`` takes: every route alone, and all of them with four schemes.

``python -m benchmarks.conversion --checkpoint CKPT --data RECORDINGS``

Whole commands, from the start of Python to its end, interleaved; medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bridge.routes import ROUTES
from bridge.verification.verdict import FAILED
from signbart.console import at_least, markdown_table, print_table, run_command
from signbart.errors import SignBartError
from signbart.files import make_folder, write_text
from signbart.timing import machine_name

_SCHEMES = "fp32,fp16,dynamic_int8,int8"
_COLUMNS = ("command", "seconds", "from to", "to the slowest single route")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conversion")
    parser.add_argument("--checkpoint", required=True, metavar="FILE")
    parser.add_argument("--data", required=True, metavar="PATH", help="its recordings")
    parser.add_argument(
        "--routes",
        nargs="+",
        choices=ROUTES,
        default=[*ROUTES],
        help="all of them at once are timed only where none is left out",
    )
    parser.add_argument("--rounds", type=at_least(1), default=3, help="default: %(default)s")
    parser.add_argument("--output", metavar="MD", help="receives the table")
    options = parser.parse_args(arguments)

    base = ["--checkpoint", options.checkpoint, "--data", options.data]
    commands = {f"--route {name}": ["--route", name] for name in options.routes}
    everything = f"--route all --quantize {_SCHEMES}"
    if set(options.routes) == set(ROUTES):
        commands[everything] = everything.split()
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, extra in commands.items():
            seconds[name].append(_run([*base, *extra]))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    slowest = max(median for name, median in medians.items() if name != everything)
    rows = [
        [
            name,
            f"{median:.1f}",
            f"{min(seconds[name]):.1f} to {max(seconds[name]):.1f}",
            f"{median / slowest:.2f}",
        ]
        for name, median in medians.items()
    ]
    title = f"bridge/convert.py, medians of {options.rounds}, {machine_name()}"
    print_table(title, _COLUMNS, rows)
    if options.output:
        make_folder(Path(options.output).parent)
        write_text(Path(options.output), f"{title}\n\n{markdown_table(_COLUMNS, rows)}")
    return 0


def _run(options: Sequence[str]) -> float:
    """Seconds of one conversion, whose routes must all have brought something."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        process = subprocess.run(
            [sys.executable, "bridge/convert.py", *options, "--output", folder],
            capture_output=True, text=True,
        )  # fmt: skip
        taken = time.perf_counter() - started
        # An artifact that is judged and rejected takes as long as another; a route that breaks off
        # does not.
        manifest = Path(folder) / "manifest.json"
        verdicts = set()
        if manifest.is_file():
            artifacts = json.loads(manifest.read_text(encoding="utf-8"))["artifacts"]
            verdicts = {artifact["verdict"] for artifact in artifacts}
    if process.returncode not in (0, 1) or not verdicts or FAILED in verdicts:
        raise SignBartError(
            f"bridge/convert.py failed: {(process.stderr or process.stdout)[-500:]}"
        )
    return taken


if __name__ == "__main__":
    run_command(main)

"""How long ``bridge/convert.py`` takes: every route alone, and all of them with four schemes.

``python -m benchmarks.conversion --checkpoint CKPT --data RECORDINGS``

Whole commands, from the start of Python to its end, one after the other.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bridge.latency import machine_name
from bridge.routes import ROUTES
from signbart.console import markdown_table, print_table, run_command
from signbart.errors import SignBartError
from signbart.files import make_folder, write_text

_SCHEMES = "fp32,fp16,dynamic_int8,int8"
_COLUMNS = ("command", "seconds", "to the slowest single route")


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
    parser.add_argument("--output", metavar="MD", help="receives the table")
    options = parser.parse_args(arguments)

    base = ["--checkpoint", options.checkpoint, "--data", options.data]
    commands = {f"--route {name}": ["--route", name] for name in options.routes}
    everything = f"--route all --quantize {_SCHEMES}"
    if set(options.routes) == set(ROUTES):
        commands[everything] = everything.split()
    seconds = {}
    for name, extra in commands.items():
        with tempfile.TemporaryDirectory() as folder:
            seconds[name] = _run([*base, *extra, "--output", folder])
    slowest = max(time for name, time in seconds.items() if name != everything)
    rows = [[name, f"{time:.1f}", f"{time / slowest:.2f}"] for name, time in seconds.items()]
    title = f"bridge/convert.py, {machine_name()}"
    print_table(title, _COLUMNS, rows)
    if options.output:
        make_folder(Path(options.output).parent)
        write_text(Path(options.output), f"{title}\n\n{markdown_table(_COLUMNS, rows)}")
    return 0


def _run(options: Sequence[str]) -> float:
    started = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "bridge/convert.py", *options], capture_output=True, text=True
    )
    taken = time.perf_counter() - started
    # 1: an artifact was judged and rejected, which takes as long.
    if process.returncode not in (0, 1):
        raise SignBartError(f"bridge/convert.py failed: {process.stderr.strip()[-300:]}")
    return taken


if __name__ == "__main__":
    run_command(main)

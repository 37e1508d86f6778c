"""How long commands take from the start of Python: every ``--help``, and the classifying of a clip.

``python -m benchmarks.startup MODEL.tflite CLIP``
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from signbart.console import at_least, markdown_table, print_table, run_command
from signbart.errors import SignBartError
from signbart.files import make_folder, write_text
from signbart.timing import machine_name

_PACKAGES = ("signbart", "signbart_torch", "signbart_tf", "bridge", "signbart_runtime")
_COLUMNS = ("command", "seconds", "from to", "limit")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup")
    parser.add_argument("model", metavar="MODEL.tflite")
    parser.add_argument("clip", metavar="CLIP", help="as signbart_runtime.classify takes it")
    parser.add_argument("--rounds", type=at_least(1), default=5, help="default: %(default)s")
    parser.add_argument("--output", metavar="MD", help="receives the table")
    options = parser.parse_args(arguments)

    script = "from signbart.command_line import main; main()"
    commands = {"signbart --help": ("-c", script, "--help")}
    commands |= {f"{module} --help": ("-m", module, "--help") for module in _modules()}
    classify = "signbart_runtime.classify MODEL.tflite CLIP"
    commands[classify] = ("-m", "signbart_runtime.classify", options.model, options.clip)
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, command in commands.items():
            seconds[name].append(_run(command))
    rows = [
        [
            name,
            f"{np.median(times):.2f}",
            f"{min(times):.2f} to {max(times):.2f}",
            "1.0" if name == classify else "0.3",
        ]
        for name, times in seconds.items()
    ]
    title = f"from the start of Python, medians of {options.rounds}, {machine_name()}"
    print_table(title, _COLUMNS, rows)
    if options.output:
        make_folder(Path(options.output).parent)
        write_text(Path(options.output), f"{title}\n\n{markdown_table(_COLUMNS, rows)}")
    return 0


def _modules() -> list[str]:
    """Every module of the packages that is a command."""
    root = Path(__file__).resolve().parent.parent
    return [
        ".".join(path.relative_to(root).with_suffix("").parts)
        for package in _PACKAGES
        for path in sorted((root / package).rglob("*.py"))
        if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
    ]


def _run(command: Sequence[str]) -> float:
    started = time.perf_counter()
    process = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    taken = time.perf_counter() - started
    if process.returncode:
        raise SignBartError(f"{' '.join(command)} failed: {process.stderr.strip()[-300:]}")
    return taken


if __name__ == "__main__":
    run_command(main)

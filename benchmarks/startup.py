"""How long commands take from the start of Python: every ``--help``, and the classifying of a clip.

``python -m benchmarks.startup MODEL.tflite CLIP``. And how long until the README's first answer: a
clip is made, and the shipped example says what it is.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from signbart.console import at_least, markdown_table, print_table, run_command
from signbart.errors import SignBartError
from signbart.files import make_folder, write_text
from signbart.timing import machine_name

_PACKAGES = ("signbart", "signbart_torch", "signbart_tf", "bridge", "signbart_runtime")
_SEVERAL = 50  # clips for one process
_COLUMNS = ("command", "seconds", "from to", "limit")
_CLASSIFY = "signbart_runtime.classify"
_EXAMPLE = "exports/example/demo_litert_dynamic_int8.tflite"


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
    classify = f"{_CLASSIFY} MODEL.tflite CLIP"
    commands[classify] = ("-m", _CLASSIFY, options.model, options.clip)
    several = f"{classify}, {_SEVERAL} of them"
    commands[several] = (*commands[classify][:-1], *[options.clip] * _SEVERAL)
    first = "the README's first answer"
    limits = {classify: "1.0", several: "", first: "20"}
    seconds: dict[str, list[float]] = {name: [] for name in (*commands, first)}
    with tempfile.TemporaryDirectory() as folder:
        clips = f"{folder}/signs.npz"
        for _ in range(options.rounds):
            for name, command in commands.items():
                seconds[name].append(_run(command))
            making = _run(("-m", "signbart.synthetic", clips))
            seconds[first].append(making + _run(("-m", _CLASSIFY, _EXAMPLE, f"{clips}[0]")))
    rows = [
        [
            name,
            f"{np.median(times):.2f}",
            f"{min(times):.2f} to {max(times):.2f}",
            limits.get(name, "0.3"),
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

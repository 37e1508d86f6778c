"""What float32 and int8 take with the kernels that LiteRT would choose on other processors.

``python -m benchmarks.instruction_sets FP32.tflite INT8.tflite``: one process an instruction set,
in which XNNPACK is left no more than that. The core stays this machine's: a processor that lacks a
set is another in the rest, too. Ratios within one set of instructions are what means something.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.xnnpack_kernels import SETS, restrict
from signbart.console import at_least, markdown_table, print_table, run_command
from signbart.errors import SignBartError
from signbart.files import make_folder, write_text
from signbart.timing import ROUNDS, interleaved, machine_name
from signbart_runtime.bench.calls import open_call

_KERNELS = ("instructions", "scheme", "kernel of its products")
_TIMES = ("instructions", "file", "median ms", "10 to 90 %", "to the first")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instruction_sets")
    parser.add_argument("files", nargs="+", metavar="FILE", help=".tflite; ratios are to the first")
    parser.add_argument("--rounds", type=at_least(1), default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--output", metavar="MD", help="receives the tables")
    options = parser.parse_args(arguments)
    kernels, times = [], []
    for name in SETS:
        spawn = multiprocessing.get_context("spawn")  # XNNPACK chooses once a process
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            try:
                chosen, rows = pool.submit(_measure, name, options.files, options.rounds).result()
            except SignBartError as error:
                print(f"left out: {error}")
                continue
        kernels += [[name, scheme, kernel] for scheme, kernel in chosen.items()]
        times += rows
    title = f"one thread, {options.rounds} turns, {machine_name()}"
    print_table("", _KERNELS, kernels)
    print_table(title, _TIMES, times)
    if options.output:
        make_folder(Path(options.output).parent)
        tables = (markdown_table(_KERNELS, kernels), markdown_table(_TIMES, times))
        write_text(Path(options.output), "\n\n".join((*tables, title)))
    return 0


def _measure(
    name: str, files: Sequence[str], rounds: int
) -> tuple[dict[str, str], list[list[str]]]:
    """Kernels by scheme, and a row of `_TIMES` for each file, in a process that has run nothing."""
    kernels = restrict(name)
    calls = {file: open_call(Path(file), threads=1, frames=None, seed=0) for file in files}
    found = interleaved(calls, rounds=rounds)
    first = found[files[0]].median
    return kernels, [
        [
            name, Path(file).stem, f"{time.median:.3f}", f"{time.low:.3f} to {time.high:.3f}",
            f"{time.median / first:.2f}",
        ]
        for file, time in found.items()
    ]  # fmt: skip


if __name__ == "__main__":
    run_command(main)

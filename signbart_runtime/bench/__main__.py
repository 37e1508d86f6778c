"""``python -m signbart_runtime.bench``, ``signbart bench``: times of model files, side by side.

Any .tflite, .onnx and .pte, whoever made it. One call after the other in turns, A B C A B C …, so
that whatever else the machine does hits all alike; the ratio is the figure to keep, for times are
of this machine alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from signbart.console import at_least, print_table, program_name, require_tables, run_command
from signbart.errors import SignBartError
from signbart.timing import ROUNDS, interleaved, machine_name
from signbart.waiting import stage
from signbart_runtime.bench.calls import open_call

_COLUMNS = ("file", "bytes", "threads", "median", "10 % to 90 %", "to the first")


@dataclass(frozen=True)
class Row:
    """One file at one number of threads; times in milliseconds.

    Attributes:
        ratio: Its median over the first file's, in the same turns.
        noisy: Whether the calls differ too much for either to be believed.
    """

    file: str
    bytes: int
    threads: int
    median: float
    low: float
    high: float
    ratio: float
    noisy: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Times bare calls of model files, interleaved, inputs in place."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart_runtime.bench"),
        description="Time bare calls of model files, in turns, and give each file's ratio to the "
        "first.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help=".tflite, .onnx or .pte")
    number = at_least(1)
    parser.add_argument(
        "--threads", type=number, nargs="+", default=[1, 2], metavar="N", help="default: 1 2"
    )
    parser.add_argument(
        "--rounds", type=number, default=ROUNDS, metavar="N", help="turns (default: %(default)s)"
    )
    parser.add_argument(
        "--frames", type=number, metavar="T", help="of a clip, where a file leaves that open"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the random inputs")
    parser.add_argument("--json", action="store_true", help="all of it as JSON")
    options = parser.parse_args(arguments)
    if not options.json:
        require_tables()
    if len({*options.files}) < len(options.files):
        raise SignBartError("a file is named twice: each once, for its row is found by its name")
    rows = [
        row
        for threads in options.threads
        for row in measure(
            [Path(name) for name in options.files], threads, options.rounds,
            frames=options.frames, seed=options.seed,
        )
    ]  # fmt: skip
    if options.json:
        found = {"machine": machine_name(), "rounds": options.rounds}
        print(json.dumps(found | {"files": [dataclasses.asdict(row) for row in rows]}, indent=2))
        return 0
    print_table(f"{machine_name()}; milliseconds", _COLUMNS, [_cells(row) for row in rows])
    if any(row.noisy for row in rows):
        print("too noisy: something else keeps the machine busy; measure again when it is idle")
    if any(row.file.endswith(".pte") for row in rows):
        print(
            "ExecuTorch takes a thread a core, whatever --threads says; taskset -c 0 leaves it one"
        )
    return 0


def measure(
    paths: Sequence[Path], threads: int, rounds: int, *, frames: int | None, seed: int
) -> list[Row]:
    """Times the files in turn.

    Args:
        paths: Each once; ratios are to the first.
        threads: Of each runtime.
        rounds: Turns.
        frames: For sizes that a file leaves open.
        seed: Of the random inputs.

    Raises:
        ArtifactError: One cannot be run.
    """
    calls = {str(path): open_call(path, threads, frames, seed) for path in paths}
    # No bar: drawing it would disturb the clock.
    with stage(f"{rounds} turns of {len(calls)} files, threads {threads}"):
        times = interleaved(calls, rounds=rounds)
    first = times[str(paths[0])].median
    return [
        Row(
            name, Path(name).stat().st_size, threads, found.median, found.low, found.high,
            found.median / first, found.noisy,
        )
        for name, found in times.items()
    ]  # fmt: skip


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "too noisy" if row.noisy else f"{row.ratio:.2f}"
    return (
        row.file, f"{row.bytes:,}", str(row.threads), f"{row.median:.3f}",
        f"{row.low:.3f} to {row.high:.3f}", ratio,
    )  # fmt: skip


if __name__ == "__main__":
    run_command(main)

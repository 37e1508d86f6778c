"""``python -m benchmarks.engines``: what an engine costs beside the tasks, and what it survives.

Tasks are so many seconds of one core's arithmetic. Beside processes and Ray of this machine it
measures weak scaling, twice the tasks for twice the workers, and lets tasks kill their process.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from signbart.console import at_least, print_table, run_command
from signbart.engines import run_tasks


def work(seconds: float) -> float:
    """Uses a core for so many seconds of its time; the wall-clock seconds that took."""
    began, until = time.perf_counter(), time.process_time() + seconds
    while time.process_time() < until:
        sum(range(1000))
    return time.perf_counter() - began


def work_or_die(seconds: float, died: Path) -> float:
    """`work`, but the first time it kills its process in the middle."""
    if not died.exists():
        work(seconds / 2)
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return work(seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engines", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--tasks", type=at_least(1), default=4, help="a worker (default: %(default)s)")
    add("--seconds", type=float, default=5.0, help="of a task (default: %(default)s)")
    add("--workers", type=at_least(1), nargs="+", default=[1, 2], help="default: 1 2")
    add("--kills", type=at_least(0), default=20, help="processes killed (default: %(default)s)")
    options = parser.parse_args(arguments)
    rows = []
    for engine in ("processes", "ray"):
        for workers in options.workers:
            tasks = [partial(work, options.seconds)] * (options.tasks * workers)
            began = time.perf_counter()
            first = None
            inside = 0.0
            for _, seconds in run_tasks(tasks, workers, engine=engine, threads=1):
                first = first or time.perf_counter() - began - seconds
                inside += seconds
            whole = time.perf_counter() - began
            beside = (whole - first - inside / workers) / options.tasks
            rows.append(
                [engine, workers, len(tasks), f"{whole:.1f}", f"{first:.1f}", f"{beside:.2f}"]
            )
    print_table(
        f"Tasks of {options.seconds:g} s, load {os.getloadavg()[0]:.1f}",
        ["engine", "workers", "tasks", "seconds", "until the first begins", "beside each further"],
        rows,
    )
    if options.kills:
        with tempfile.TemporaryDirectory() as folder:
            tasks = [
                partial(work_or_die, 1.0, Path(folder, str(at))) for at in range(options.kills)
            ]
            found = dict(run_tasks(tasks, max(options.workers), engine="ray"))
        print(f"{options.kills} processes killed: {len(found)} of {len(tasks)} tasks have a result")
    return 0


if __name__ == "__main__":
    # By its address, under which other processes find the tasks.
    from benchmarks import engines

    run_command(engines.main)

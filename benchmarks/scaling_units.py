"""What one clip, step, epoch and process of a training cost, measured: for `benchmarks.scaling`.

Processor seconds on one thread, which a busy machine changes less than those by the clock.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signbart.batches import prepare_clips
from signbart.configuration.schema import RunConfig
from signbart.console import NOT_RUN, at_least, run_command
from signbart.engines.connection import Cluster, connected
from signbart.recordings.data_source import DataSource
from signbart.training.requirements import with_labels

if TYPE_CHECKING:
    from signbart_torch.training.data import Batch

TOGETHER = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
STORED = 64 << 20  # bytes for the object store

_RATE, _EXCHANGES = 1e-3, 200
_MANY = 64  # processes, of which each makes next to nothing of a batch


@dataclass(frozen=True)
class Units:
    """Processor seconds; of a clip, where nothing else is said.

    Attributes:
        agent: Of torchrun, until it starts any process.
        read: Opening a packed file, looking at it and identifying it.
        prepare: What is the same in every epoch.
        draw: Drawing how clips are changed, which every process does for a whole batch.
        make: Changing and normalising those of a process's share.
        step: Of a training step, however many clips it has.
        learn: Forward, backward.
        evaluate: Forward.
        save: Writing a checkpoint to go on from.
        exchange: Of a step, adding gradients up with one other process.
    """

    agent: float
    read: float
    prepare: float
    draw: float
    make: float
    step: float
    learn: float
    evaluate: float
    save: float
    exchange: float


def measure(config: RunConfig, data: Path) -> tuple[Units, dict[str, int]]:
    """The units, and how many bytes a clip, a checkpoint and a step's gradients are.

    Args:
        config: The run's.
        data: A packed file; a checkpoint is written beside it.
    """
    import torch

    from signbart_torch.training.data import training_steps
    from signbart_torch.training.learner import TorchLearner
    from signbart_torch.training.memory import keep_freed_memory
    from signbart_torch.training.workers import Workers

    keep_freed_memory()  # as training does
    torch.set_num_threads(1)
    layout = config.data.landmark_layout
    clips, _ = DataSource(str(data)).read(layout=layout, quiet=True)
    config = with_labels(config, clips)
    prepared = prepare_clips(clips, config)
    learner = TorchLearner(Workers(0, 1, torch.device("cpu")), config, clips.class_names, None)
    learner.model.train()

    def make(processes: int) -> float:
        return seconds(lambda: list(training_steps(prepared, config, 0, world_size=processes)))

    def learn(those: Sequence[list[Batch]]) -> float:
        return seconds(lambda: [learner.step(step, _RATE) for step in those])

    def read() -> None:
        DataSource(str(data)).read(layout=layout, quiet=True)[0].fingerprint()

    count, progress, checkpoint = len(clips), {}, data.with_name("units.safetensors")
    alone, share = make(1), make(_MANY)
    draw = share - (alone - share) / (_MANY - 1)
    steps = list(training_steps(prepared, config, 0))
    halves = [[half] for (whole,) in steps for half in _halved(whole)]
    learner.step(steps[0], _RATE)
    # The same clips in twice the steps.
    whole, split = learn(steps), learn(halves)
    step = max((split - whole) / (len(halves) - len(steps)), 0.0)
    units = Units(
        agent=seconds_of("-c", "import torch.distributed.run"),
        read=seconds(read) / count,
        prepare=seconds(lambda: prepare_clips(clips, config)) / count,
        draw=draw / count,
        make=(alone - draw) / count,
        step=step,
        learn=(whole - len(steps) * step) / count,
        evaluate=seconds(lambda: learner.evaluate(prepared)) / count,
        save=seconds(lambda: learner.save(checkpoint, progress, resumable=True)),
        exchange=_exchange(learner.parameters),
    )
    sizes = {
        "clip": data.stat().st_size // count,
        "checkpoint": checkpoint.stat().st_size,
        "gradients": 4 * learner.parameters,
    }
    return units, sizes


def _halved(batch: Batch) -> tuple[Batch, Batch]:
    """A batch as two of half the clips."""
    middle = (len(batch.labels) + 1) // 2
    return batch.with_each(lambda t: t[:middle]), batch.with_each(lambda t: t[middle:])


def seconds(function: Callable[[], object]) -> float:
    """Processor seconds of a call: the median of three."""
    found = []
    for _ in range(3):
        begun = time.process_time()
        function()
        found.append(time.process_time() - begun)
    return float(np.median(found))


def seconds_of(*arguments: str) -> float:
    """Processor seconds of a Python, with those of the processes that it starts.

    Raises:
        CalledProcessError: It failed.
    """
    command = [sys.executable, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=_one_thread())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime


def _one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _exchange(parameters: int) -> float:
    """Processor seconds that a process takes to add up so many gradients with another one's."""
    command = [sys.executable, *TOGETHER, "-m", "benchmarks.scaling_units", str(parameters)]
    said = subprocess.run(command, env=_one_thread(), capture_output=True, text=True, check=True)
    return float(np.mean([float(text) for text in said.stdout.split()]))


def main(arguments: Sequence[str] | None = None) -> int:
    """One of the two processes of `_exchange`: prints what adding up took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling_units")
    parser.add_argument("gradients", type=at_least(1), metavar="N", help="that are added up")
    options = parser.parse_args(arguments)

    import torch
    import torch.distributed as dist

    gradients = torch.zeros(options.gradients)
    dist.init_process_group("gloo")
    dist.all_reduce(gradients)
    begun = time.process_time()
    for _ in range(_EXCHANGES):
        dist.all_reduce(gradients)
    sys.stdout.write(f"{(time.process_time() - begun) / _EXCHANGES}\n")
    dist.destroy_process_group()
    return 0


def object_store() -> str:
    """Seconds by the clock in which Ray takes `STORED` bytes and gives them back."""
    try:
        with connected(Cluster(), 1) as ray:
            moments, stored = [time.perf_counter()], np.zeros(STORED, np.uint8)
            place = ray.put(stored)
            moments.append(time.perf_counter())
            ray.get(place).sum()  # it is mapped, and read here
            moments.append(time.perf_counter())
    except ModuleNotFoundError:
        return NOT_RUN
    put, got = np.diff(moments)
    return f"{put:.3f} s to put, {got:.3f} s to get and read"


if __name__ == "__main__":
    run_command(main)

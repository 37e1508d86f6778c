"""What trainings of any size cost, from measured units, against trainings that are run.

``python -m benchmarks.scaling FOLDER`` measures what one clip, step, epoch and process cost,
predicts from those alone what trainings of several sizes take, runs some of them as a user does,
and prints both. `docs/scaling.md` goes on to sizes that no one machine runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.large_set import SIGNERS, make_set
from benchmarks.scaling_units import STORED, TOGETHER, Units, measure, object_store, seconds_of
from signbart import batches
from signbart.configuration.reading import load_config
from signbart.configuration.schema import RunConfig
from signbart.console import NOT_RUN, at_least, print_table, run_command
from signbart.files import make_folder

_CONFIG = "configs/demo.yaml"
_CHANGES = ("data.layout=kp75", "data.max_frames=40", "model.d_model=48")


@dataclass(frozen=True)
class Size:
    """A training: clips of a set, epochs, processes that share a batch, and clips of that."""

    clips: int
    epochs: int
    processes: int
    batch: int = 32


# What is left of it besides the units is what any process takes to begin and to end.
_SMALLEST = Size(200, 1, 1)
# The third is more than what is kept prepared.
_SIZES = (Size(500, 4, 1), Size(3_000, 2, 1), Size(12_000, 1, 1), Size(3_000, 2, 2))
_ON_PAPER = tuple(Size(1_000_000, 100, count, 32 * count) for count in (1, 16, 100, 1600))


def predict(
    size: Size, units: Units, config: RunConfig, trained: int, start: float = 0.0
) -> dict[str, float]:
    """Processor seconds of all processes of a training, by what they are for.

    Args:
        size: How large it is.
        units: What it consists of.
        config: The run's.
        trained: Clips that are trained on; the others are evaluated on.
        start: What any process takes besides.
    """
    count, epochs, steps = size.processes, size.epochs, -(-trained // size.batch)
    shape = config.data.max_frames, config.num_keypoints, config.augmented_coordinates
    kept = trained * math.prod(shape) * 4 <= batches._KEPT
    # Once by every process, or of its share in every epoch.
    prepared = (count if kept else epochs) * trained * units.prepare
    return {
        "start": count * start + (units.agent if count > 1 else 0.0),
        "reading": count * size.clips * units.read + prepared,
        "batches": epochs * trained * (count * units.draw + units.make),
        "steps": epochs * (steps * count * units.step + trained * units.learn),
        # After each epoch, and of the best one in the end; by every process.
        "evaluation": count * (epochs + 1) * (size.clips - trained) * units.evaluate,
        # The last one, and with every better epoch the best.
        "checkpoints": 2 * epochs * units.save,
        "exchange": count * epochs * steps * units.exchange if count > 1 else 0.0,
    }


def _trained(clips: int, config: RunConfig) -> int:
    """How many of a made set's clips are trained on: all but those of validation signers."""
    return clips - config.train.val_signers * clips // SIGNERS


def _run(size: Size, folder: Path, changes: Sequence[str]) -> float:
    """Processor seconds of the training itself, as a user starts it."""
    data, run = folder / f"{size.clips}.npz", folder / f"run_{time.time_ns()}"
    make_set(data, size.clips)
    overrides = [*changes, f"train.epochs={size.epochs}", f"train.batch_size={size.batch}"]
    return seconds_of(
        *(TOGETHER if size.processes > 1 else ()),
        *("-m", "signbart_torch.train", "--config", _CONFIG, "--device", "cpu"),
        *("--data", str(data), "--output", str(run)),
        *(text for change in overrides for text in ("--set", change)),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling")
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="receives the sets and runs; 0.3 GB")
    add("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    add("--runs", type=at_least(0), default=len(_SIZES), help="sizes run (default: %(default)s)")
    add("--sample", type=at_least(200), default=1000, help="clips that units are measured on")
    options = parser.parse_args(arguments)
    folder, changes = Path(options.folder), [*_CHANGES, *options.changes]
    make_folder(folder)
    config = load_config(_CONFIG, changes)
    sample = folder / "sample.npz"
    make_set(sample, options.sample)
    units, sizes = measure(config, sample)
    smallest = predict(_SMALLEST, units, config, _trained(_SMALLEST.clips, config))
    start = _run(_SMALLEST, folder, changes) - sum(smallest.values())
    shown = {"start": start, **dataclasses.asdict(units)}
    print_table(
        "Processor seconds of a unit",
        ["", "ms"],
        [[name, f"{1e3 * value:.3f}"] for name, value in shown.items()],
    )
    print(", ".join(f"{name} {size:,} bytes" for name, size in sizes.items()))
    print(f"object store, {STORED >> 20} MiB: {object_store()}")
    rows = []
    for number, size in enumerate((*_SIZES[: options.runs], *_ON_PAPER)):
        parts = predict(size, units, config, _trained(size.clips, config), start)
        total, cells = sum(parts.values()), [NOT_RUN, ""]
        if number < options.runs:
            found = _run(size, folder, changes)
            cells = [f"{found:.1f}", f"{total / found:.2f}"]
        most = sorted(parts, key=lambda name: parts[name], reverse=True)[:3]
        named = ", ".join(f"{name} {100 * parts[name] / total:.0f} %" for name in most)
        shape = [f"{size.clips:,}", size.epochs, f"{size.processes:,}"]
        rows.append([*shape, f"{total:,.1f}", *cells, f"{total / size.processes:,.1f}", named])
    print_table(
        "Processor seconds of trainings",
        ["clips", "epochs", "processes", "predicted", "measured", "ratio", "a process", "most"],
        rows,
    )
    return 0


if __name__ == "__main__":
    run_command(main)

"""Accuracy against bytes and against latency: which models and schemes nothing else is better than.

    python -m benchmarks.frontier --data isl_kinect30 --output FOLDER \
        SignBART=runs/isl_kinect30 ConvSignBART=runs/conv

Each folder is one of `signbart_runtime.loso`: ``SIGNER/exports/`` holds artifacts of a model that
was not trained on that signer. Every .tflite is evaluated on its signer's clips; of each scheme the
file of the first signer is timed, all of them in turns of one run, one thread, each on a clip of
its own length. Files that their conversion rejected count too; the table says how many they are.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from bridge.quantization.schemes import FLOAT, SCHEMES
from bridge.routes import ROUTES
from signbart.console import at_least, markdown_table, print_table, run_command
from signbart.errors import SignBartError
from signbart.files import atomic_write, make_folder, write_text
from signbart.recordings.options import add_reading_arguments, read_data
from signbart.timing import interleaved, machine_name
from signbart.waiting import track
from signbart_runtime.folds.fold import artifacts
from signbart_runtime.folds.layout import EXPORTS

if TYPE_CHECKING:
    from signbart.recordings.clip import ClipSet

_COLUMNS = (
    *("model", "scheme", "accuracy", "± signers", "bytes", "ms", "10 % … 90 %", "ratio", "frames"),
    *("rejected", "best by"),
)
# Okabe and Ito's colours, which colour-blind readers tell apart, without yellow.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vP"


@dataclasses.dataclass(frozen=True)
class Point:
    """A model in a scheme.

    Attributes:
        model: What it is called.
        scheme: Name of the quantization scheme.
        accuracy: Percent, the mean of the signers.
        deviation: Over them.
        signers: How many.
        rejected: Of how many the conversion rejected the file.
        bytes: Size of the first signer's file.
        frames: T, the length of its clips.
        ms: Median of its calls; those below from the same turns.
        low_ms: 10th percentile.
        high_ms: 90th percentile.
    """

    model: str
    scheme: str
    accuracy: float
    deviation: float
    signers: int
    rejected: int
    bytes: int
    frames: int
    ms: float = 0.0
    low_ms: float = 0.0
    high_ms: float = 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluates, times, writes frontier.csv, .md and .png."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontier", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--data", required=True, metavar="PATH", help="the recordings")
    add_reading_arguments(parser)
    parser.add_argument("--skip-bad", action="store_true", help="leave unusable clips out")
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--route", choices=ROUTES, default="litert")
    parser.add_argument("--rounds", type=at_least(1), default=200)
    options = parser.parse_args(arguments)

    from benchmarks.latency_calls import random_inputs, tflite_call
    from signbart.artifacts.metadata import carried_config, read_metadata

    runs = [_split(run) for run in options.runs]
    found = {name: _files(folder, options.route) for name, folder in runs}
    signers = {run: sorted(files) for run, files in found.items()}
    if len({tuple(of) for of in signers.values()}) > 1:
        raise SignBartError(f"not the same signers in every folder: {signers}")
    clips = read_data(options)
    points, calls = [], {}
    for name, folds in found.items():
        first = next(iter(folds.values()))
        for scheme in (scheme for scheme in SCHEMES if scheme in first):
            files = {signer: of[scheme] for signer, of in folds.items() if scheme in of}
            if len(files) < len(folds):
                raise SignBartError(f"{name}: not every signer has a file of {scheme}")
            config = carried_config(read_metadata(first[scheme]), first[scheme])
            points.append(_point(name, scheme, files, clips, config.data.max_frames))
            calls[name, scheme] = tflite_call(first[scheme], random_inputs(config), 1)
    times = interleaved(calls, rounds=options.rounds)
    points = [
        dataclasses.replace(point, ms=t.median, low_ms=t.low, high_ms=t.high)
        for point, t in zip(points, times.values(), strict=True)
    ]
    _write(options.output, points)
    return 0


def _split(run: str) -> tuple[str, Path]:
    name, equals, folder = run.partition("=")
    if not (name and equals and folder):
        raise SignBartError(f"{run}: give NAME=FOLDER")
    return name, Path(folder)


def _files(folder: Path, route: str) -> dict[str, dict[str, Path]]:
    """Signer -> scheme -> its .tflite of the route."""
    from signbart.artifacts.metadata import read_metadata

    found: dict[str, dict[str, Path]] = {}
    for exports in sorted(folder.glob(f"*/{EXPORTS}")):
        for path in artifacts(exports, ".tflite"):
            metadata = read_metadata(path)
            if metadata["route"] == route:
                found.setdefault(exports.parent.name, {})[metadata["scheme"]] = path
    if not found:
        raise SignBartError(
            f"{folder} holds no SIGNER/{EXPORTS}/*.tflite of route {route}; give the --output of "
            "signbart_runtime.loso"
        )
    return found


def _point(name: str, scheme: str, files: Mapping[str, Path], clips: ClipSet, frames: int) -> Point:
    """Evaluates each file on its signer."""
    from signbart_runtime.evaluate import select_clips
    from signbart_runtime.evaluation.opened import open_model
    from signbart_runtime.evaluation.predict import evaluate

    shares = []
    for signer, path in track(files.items(), f"{name} {scheme}", len(files)):
        own = select_clips(clips, [signer], str(path))
        shares.append(100 * evaluate(open_model(path), own, signer).scores.accuracy)
    rejected = sum(path.parent.name != EXPORTS for path in files.values())
    size = next(iter(files.values())).stat().st_size
    return Point(name, scheme, fmean(shares), pstdev(shares), len(shares), rejected, size, frames)


def best(points: Sequence[Point], cost: str) -> list[Point]:
    """Those that no other is as good as for as little, the cheapest first.

    Args:
        points: All.
        cost: ``bytes`` or ``ms``.
    """
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (getattr(point, cost), -point.accuracy)):
        if not found or point.accuracy > found[-1].accuracy:
            found.append(point)
    return found


def _write(output: Path, points: Sequence[Point]) -> None:
    fronts = {cost: best(points, cost) for cost in ("bytes", "ms")}
    rows = [
        [
            point.model,
            point.scheme,
            f"{point.accuracy:.2f}",
            f"{point.deviation:.1f}",
            f"{point.bytes:,}",
            f"{point.ms:.3f}",
            f"{point.low_ms:.3f} … {point.high_ms:.3f}",
            f"{point.ms / points[0].ms:.2f}",
            str(point.frames),
            str(point.rejected),
            ", ".join(cost for cost, front in fronts.items() if point in front),
        ]
        for point in points
    ]
    note = f"{points[0].signers} signers; {machine_name()}; one thread"
    print_table(note, _COLUMNS, rows)
    make_folder(output)
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(Point)])
    writer.writeheader()
    writer.writerows(dataclasses.asdict(point) for point in points)
    write_text(output / "frontier.csv", text.getvalue())
    write_text(output / "frontier.md", f"{markdown_table(_COLUMNS, rows)}\n{note}\n")
    with atomic_write(output / "frontier.png") as picture:
        _draw(points, fronts, note, picture)
    print(f"wrote {output}/frontier.md, frontier.csv and frontier.png")


def _draw(
    points: Sequence[Point], fronts: Mapping[str, Sequence[Point]], note: str, path: Path
) -> None:
    """A panel a cost; colours are models, shapes schemes, the line joins the best."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(9.6, 4.6), layout="constrained", facecolor="white")
    panels = figure.subplots(1, 2, sharey=True)
    models = list(dict.fromkeys(point.model for point in points))
    colours = {m: _COLOURS[at % len(_COLOURS)] for at, m in enumerate(models)}
    schemes = [scheme for scheme in SCHEMES if any(p.scheme == scheme for p in points)]
    markers = {s: _MARKERS[at % len(_MARKERS)] for at, s in enumerate(schemes)}
    for axes, (cost, unit, label) in zip(
        panels,
        (("bytes", 1e6, "size of the .tflite in MB"), ("ms", 1, "median of a call in ms")),
        strict=True,
    ):
        front = [(getattr(point, cost) / unit, point.accuracy) for point in fronts[cost]]
        axes.plot(*zip(*front, strict=True), color="#888888", linewidth=1, zorder=1)
        for point in points:
            axes.scatter(
                getattr(point, cost) / unit, point.accuracy, s=46, zorder=2, linewidth=0.8,
                marker=markers[point.scheme], color=colours[point.model], edgecolor="white",
            )  # fmt: skip
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"accuracy in percent, mean of {points[0].signers} signers left out")

    def key(label: str, **look: Any) -> Line2D:
        return Line2D([], [], label=label, **{"color": "#444444", "linestyle": "", **look})

    shapes = [
        key("float32" if scheme == FLOAT else scheme, marker=marker)
        for scheme, marker in markers.items()
    ]
    shapes.append(key("nothing better for less", color="#888888", linestyle="-", linewidth=1))
    names = [key(model, color=colour, marker="o") for model, colour in colours.items()]
    for axes, keys in zip(panels, (names, shapes), strict=True):
        axes.legend(handles=keys, loc="best", fontsize=9)
    figure.suptitle(note, fontsize="medium")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run_command(main)

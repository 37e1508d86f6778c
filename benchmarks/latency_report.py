"""What `benchmarks.latency` measured, as tables, CSV and a picture."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bridge.quantization.schemes import FLOAT, SCHEMES
from bridge.routes import ROUTES
from signbart.console import markdown_table, print_table
from signbart.files import atomic_write, write_text
from signbart.timing import machine_name

# Contestants that are no artifact of ours.
PLAIN, FLOOR = "plain export", "floor: its products alone"


@dataclasses.dataclass(frozen=True)
class Row:
    """One contestant at one length and number of threads.

    Attributes:
        frames: T.
        threads: Of the runtime.
        name: Who.
        median_ms: Of its calls.
        low_ms: Their 10th percentile.
        high_ms: Their 90th percentile.
        reference_ms: Median of the float32 .tflite of the litert route in the same turns.
        ratio: To that one.
        bytes: Size of the file; None where there is none.
    """

    frames: int
    threads: int
    name: str
    median_ms: float
    low_ms: float
    high_ms: float
    reference_ms: float
    ratio: float
    bytes: int | None = None


def write_report(output: Path, rows: Sequence[Row]) -> None:
    """Prints the tables, and writes them as Markdown, as CSV and as a picture into a folder."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(Row)])
    writer.writeheader()
    writer.writerows(dataclasses.asdict(row) for row in rows)
    write_text(output / "latency.csv", text.getvalue())
    parts = [f"{machine_name()}\n", _figures(rows)]
    for frames, threads in dict.fromkeys((row.frames, row.threads) for row in rows):
        here = [row for row in rows if (row.frames, row.threads) == (frames, threads)]
        columns = (
            *("contestant", "median ms", "10 to 90 %", "litert fp32 beside it, ms", "to that"),
            "bytes",
        )
        cells = [
            [
                row.name,
                f"{row.median_ms:.3f}",
                f"{row.low_ms:.3f} to {row.high_ms:.3f}",
                f"{row.reference_ms:.3f}",
                f"{row.ratio:.2f}",
                "" if row.bytes is None else f"{row.bytes:,}",
            ]
            for row in here
        ]
        title = f"T {frames}, threads {threads}"
        print_table(title, columns, cells)
        parts.append(f"{title}\n\n{markdown_table(columns, cells)}")
    write_text(output / "latency.md", "\n".join(parts))
    with atomic_write(output / "latency.png") as picture:
        _draw(rows, picture)
    print(f"wrote {output}/latency.md, latency.csv and latency.png")


# Figure -> its limit at 64 frames and one thread (None: none), and how it follows from the ratios.
_FIGURES: dict[str, tuple[float | None, Callable[[Mapping[str, float]], float]]] = {
    "fp32 .tflite / plain export": (0.60, lambda ratio: 1 / ratio[PLAIN]),
    "fp32 .tflite / PyTorch eager": (0.25, lambda ratio: 1 / ratio["PyTorch eager"]),
    "fp32 .tflite / ONNX Runtime": (1.0, lambda ratio: 1 / ratio["ONNX Runtime"]),
    "fp32 .tflite / floor": (2.0, lambda ratio: 1 / ratio[FLOOR]),
    "dynamic_int8 / fp32 .tflite": (0.60, lambda ratio: ratio["litert dynamic_int8"]),
    "int8 / fp32 .tflite": (None, lambda ratio: ratio["litert int8"]),
    "slowest route / fastest route": (
        1.15,
        lambda ratio: (
            max(ratio[f"{route} {FLOAT}"] for route in ROUTES)
            / min(ratio[f"{route} {FLOAT}"] for route in ROUTES)
        ),
    ),
}


def _figures(rows: Sequence[Row]) -> str:
    """`_FIGURES` at every length and number of threads, beside their limits."""
    ratios: dict[tuple[int, int], dict[str, float]] = {}
    for row in rows:
        ratios.setdefault((row.frames, row.threads), {})[row.name] = row.ratio
    columns = ["figure", "limit"]
    columns += [f"T {frames}, {threads} thread{'s' * (threads > 1)}" for frames, threads in ratios]
    cells = [
        [name, "" if limit is None else f"{limit:.2f}", *(f"{of(r):.2f}" for r in ratios.values())]
        for name, (limit, of) in _FIGURES.items()
    ]
    return markdown_table(columns, cells)


def _draw(rows: Sequence[Row], path: Path) -> None:
    """Latency against size, at the middle length and the fewest threads."""
    from matplotlib.figure import Figure

    lengths = sorted({row.frames for row in rows})
    frames, threads = lengths[len(lengths) // 2], min(row.threads for row in rows)
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    markers = dict(zip(ROUTES, "osD", strict=True))
    colours = dict(zip(SCHEMES, (f"C{number}" for number in range(len(SCHEMES))), strict=True))
    for row in rows:
        if row.bytes is None or (row.frames, row.threads) != (frames, threads):
            continue
        route, scheme = row.name.split()
        label = f"{scheme}, {route}"
        axes.scatter(
            row.bytes / 1e6, row.median_ms, marker=markers[route], color=colours[scheme],
            label=label, s=36, alpha=0.8,
        )  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.set_xlabel("size of the .tflite in MB")
    axes.set_ylabel("median of a call in ms")
    axes.set_title(f"{frames} frames, threads: {threads}, {machine_name()}", fontsize="medium")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=6.5, ncols=2)
    figure.savefig(path, dpi=120)

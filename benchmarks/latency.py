"""How long one clip takes: every route and scheme beside PyTorch, ONNX Runtime, Keras, and a floor.

``python -m benchmarks.latency --output results/latency``

The model has random weights: its arithmetic does not depend on them. Each contestant takes turns
with the float32 .tflite of the litert route, A B A B …, and its ratio is to that one in those very
turns; the medians themselves are for orientation. In LiteRT the call is ``invoke``, inputs in
place.

The floor is what the graph's multiply-accumulates would take at the speed of one large
FULLY_CONNECTED in float32, in the same runtime, at the same number of threads.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bridge.quantization.schemes import FLOAT, SCHEMES
from bridge.routes import ROUTES
from signbart.configuration.reading import load_config
from signbart.configuration.schema import RunConfig
from signbart.console import at_least, markdown_table, print_table, run_command
from signbart.errors import SignBartError
from signbart.files import make_folder, replacing, write_text
from signbart.models.io_spec import ATTENTION_MASK, KEYPOINTS, LOGITS
from signbart.timing import Latency, interleaved, machine_name

_REFERENCE = f"litert {FLOAT}"
_PLAIN, _FLOOR = "plain export", "floor: its products alone"
_PRODUCT_SIZE = 1024
_CLIPS = 100  # that calibration takes, of random numbers
_SEED = 0
Call = Callable[[], object]


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency")
    parser.add_argument("--config", default="configs/arabic_90.yaml", metavar="YAML")
    number = at_least(1)
    parser.add_argument("--frames", type=number, nargs="+", default=[32, 64, 128], metavar="T")
    parser.add_argument("--threads", type=number, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--rounds", type=number, default=200)
    parser.add_argument("--output", default="results/latency", metavar="FOLDER")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # see _measure_apart
    options = parser.parse_args(arguments)
    output = Path(options.output)
    if options.measure:
        (threads,) = options.threads
        (frames,) = options.frames
        rows = _measure(output, options.config, frames, threads, options.rounds)
        write_text(Path(options.measure), json.dumps([dataclasses.asdict(row) for row in rows]))
        return 0
    for frames in options.frames:
        _config(options.config, frames)  # what does not fit is said before anything is made
    make_folder(output)
    for frames in options.frames:
        _export_apart(output, options.config, frames)
    rows = [
        row
        for frames in options.frames
        for threads in options.threads
        for row in _measure_apart(output, options, frames, threads)
    ]
    _report(output, rows)
    return 0


def _config(path: str, frames: int) -> RunConfig:
    return load_config(path, [f"data.max_frames={frames}"])


def _model(config: RunConfig):
    import torch

    from signbart_torch.models.signbart.model import SignBart

    torch.manual_seed(_SEED)
    return SignBart(config.model).eval()


def _inputs(config: RunConfig) -> dict[str, np.ndarray]:
    shape = (1, config.data.max_frames, config.model.num_keypoints, 2)
    rng = np.random.default_rng(_SEED)
    return {
        KEYPOINTS: rng.random(shape, np.float32),
        ATTENTION_MASK: np.ones(shape[:2], np.int32),
    }


def _export_apart(output: Path, config: str, frames: int) -> None:
    """Exports in a process of its own: what converters leave behind would disturb the clock."""
    code = f"from benchmarks.latency import export; export({str(output)!r}, {config!r}, {frames})"
    _run([sys.executable, "-c", code], f"exporting for {frames} frames")


def _run(command: Sequence[str], what: str, environment: Mapping[str, str] | None = None) -> None:
    status = subprocess.run(command, env=environment).returncode
    if status:
        raise SignBartError(f"{what} failed with exit status {status}; its own error stands above")


def export(folder: str, config_path: str, frames: int) -> None:
    """Makes every contestant that is a file: FOLDER/T<frames>/<route>_<scheme>.tflite and others.

    Args:
        folder: Where to.
        config_path: Configuration of the model.
        frames: T.
    """
    from signbart.console import redirect_output

    config = _config(config_path, frames)
    target = Path(folder) / f"T{frames}"
    make_folder(target)
    with redirect_output(target / "export.log"):
        _export(config, target)


def _export(config: RunConfig, target: Path) -> None:
    import torch

    from benchmarks.plain_graph import export_plain
    from bridge.artifact.compaction import compact
    from bridge.quantization.quantizer import quantize
    from signbart.models import io_spec
    from signbart.training.calibration import calibrate_on_noise

    model, spec = _model(config), io_spec(config)
    calibration = calibrate_on_noise(config, count=_CLIPS, seed=_SEED)
    for route in ROUTES.values():
        paths = {ending: target / f"{route.name}_{FLOAT}{ending}" for ending in route.produces}
        route.export(model, spec, paths)
        compact(paths[".tflite"])
        for scheme in SCHEMES.values():
            if scheme.name != FLOAT:
                path = target / f"{route.name}_{scheme.name}.tflite"
                used = calibration if scheme.calibrated else None
                quantize(paths[".tflite"], scheme, path, used)
    example = {name: torch.from_numpy(array) for name, array in _inputs(config).items()}
    export_plain(model, example, target / "plain.tflite")
    _export_product(target / "product.tflite")


def _export_product(path: Path) -> None:
    """One large FULLY_CONNECTED."""
    import litert_torch
    import torch

    layer = torch.nn.Linear(_PRODUCT_SIZE, _PRODUCT_SIZE).eval()
    litert_torch.convert(layer, (torch.rand(_PRODUCT_SIZE, _PRODUCT_SIZE),)).export(str(path))


def _measure_apart(
    output: Path, options: argparse.Namespace, frames: int, threads: int
) -> list[Row]:
    """Measures in a process of its own, for TensorFlow's threads are fixed when it starts."""
    found = output / f"T{frames}" / f"measured_{threads}.json"
    command = [
        sys.executable, "-m", "benchmarks.latency", "--config", options.config,
        "--frames", str(frames), "--threads", str(threads), "--rounds", str(options.rounds),
        "--output", str(output), "--measure", str(found),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    _run(command, f"measuring {frames} frames on {threads} threads", environment)
    return [Row(**row) for row in json.loads(found.read_text(encoding="utf-8"))]


def _measure(output: Path, config_path: str, frames: int, threads: int, rounds: int) -> list[Row]:
    from bridge.artifact.contents import multiply_accumulates

    config = _config(config_path, frames)
    folder = output / f"T{frames}"
    inputs = _inputs(config)
    files = {
        f"{route} {scheme}": folder / f"{route}_{scheme}.tflite"
        for route in ROUTES
        for scheme in SCHEMES
    }
    calls: dict[str, Call] = {
        "PyTorch eager": _torch_call(config, inputs, threads),
        "torch.compile": _compiled_call(config, inputs, threads),
        "ONNX Runtime": _onnx_call(folder / f"onnx_{FLOAT}.onnx", inputs, threads),
        "Keras (tf.function)": _keras_call(config, inputs, threads),
        _PLAIN: _tflite_call(folder / "plain.tflite", inputs, threads),
    }
    reference = _tflite_call(files[_REFERENCE], inputs, threads)
    rows = []

    def measure(name: str, call: Call, size: int | None) -> Latency:
        times = interleaved({"it": call, "reference": reference}, rounds=rounds)
        it = times["it"]
        beside = it if name == _REFERENCE else times["reference"]
        ratio = it.median / beside.median
        rows.append(
            Row(frames, threads, name, it.median, it.low, it.high, beside.median, ratio, size)
        )
        return it

    for name, call in calls.items():
        measure(name, call, None)
    for name, path in files.items():
        call = reference if name == _REFERENCE else _tflite_call(path, inputs, threads)
        measure(name, call, path.stat().st_size)

    product = folder / "product.tflite"
    matrix = np.random.default_rng(_SEED).random((_PRODUCT_SIZE, _PRODUCT_SIZE), np.float32)
    call = _tflite_call(product, {"args_0": matrix}, threads)
    times = interleaved({"it": call, "reference": reference}, rounds=max(20, rounds // 5))
    products = sum(multiply_accumulates(files[_REFERENCE]).values())
    share = products / _PRODUCT_SIZE**3
    floor = dataclasses.replace(
        Row(frames, threads, _FLOOR, 0, 0, 0, times["reference"].median, 0),
        median_ms=share * times["it"].median,
        low_ms=share * times["it"].low,
        high_ms=share * times["it"].high,
        ratio=share * times["it"].median / times["reference"].median,
    )
    return [*rows, floor]


def _torch_call(config: RunConfig, inputs: dict[str, np.ndarray], threads: int) -> Call:
    import torch

    torch.set_num_threads(threads)
    model = _model(config)
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}

    def call() -> object:
        with torch.inference_mode():
            return model(**tensors)

    return call


def _compiled_call(config: RunConfig, inputs: dict[str, np.ndarray], threads: int) -> Call:
    import torch

    torch.set_num_threads(threads)
    model = torch.compile(_model(config))
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}

    def call() -> object:
        with torch.no_grad():
            return model(**tensors)

    return call


def _onnx_call(path: Path, inputs: dict[str, np.ndarray], threads: int) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run([LOGITS], inputs)


def _keras_call(config: RunConfig, inputs: dict[str, np.ndarray], threads: int) -> Call:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from bridge.weights.port import build_twin

    twin = build_twin(_model(config))
    compiled = tf.function(lambda given: twin(given, training=False))
    tensors = {name: tf.constant(array) for name, array in inputs.items()}
    return lambda: compiled(tensors)[LOGITS].numpy()


def _tflite_call(path: Path, inputs: dict[str, np.ndarray], threads: int) -> Call:
    """One ``invoke``."""
    from bridge.artifact.runtimes import TFLiteRuntime

    return TFLiteRuntime(path, threads).invocation(inputs)


def _report(output: Path, rows: Sequence[Row]) -> None:
    """Table, CSV and picture."""
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
    with replacing(output / "latency.png") as picture:
        _draw(rows, picture)
    print(f"wrote {output}/latency.md, latency.csv and latency.png")


# Figure -> its limit at 64 frames and one thread (None: none), and how it follows from the ratios.
_FIGURES: dict[str, tuple[float | None, Callable[[Mapping[str, float]], float]]] = {
    "fp32 .tflite / plain export": (0.60, lambda ratio: 1 / ratio[_PLAIN]),
    "fp32 .tflite / PyTorch eager": (0.25, lambda ratio: 1 / ratio["PyTorch eager"]),
    "fp32 .tflite / ONNX Runtime": (1.0, lambda ratio: 1 / ratio["ONNX Runtime"]),
    "fp32 .tflite / floor": (2.0, lambda ratio: 1 / ratio[_FLOOR]),
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
    axes.set_xlabel("size of the .tflite in MB")
    axes.set_ylabel("median of a call in ms")
    axes.set_title(f"{frames} frames, threads: {threads}, {machine_name()}", fontsize="medium")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=6.5, ncols=2)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run_command(main)

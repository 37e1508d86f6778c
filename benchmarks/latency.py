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
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.latency_calls import (
    SEED,
    Call,
    compiled_call,
    keras_call,
    onnx_call,
    random_inputs,
    random_model,
    tflite_call,
    torch_call,
)
from benchmarks.latency_report import FLOOR, PLAIN, Row, write_report
from bridge.quantization.schemes import FLOAT, SCHEMES
from bridge.routes import ROUTES
from signbart.configuration.reading import load_config
from signbart.configuration.schema import RunConfig
from signbart.console import at_least, run_command
from signbart.errors import SignBartError
from signbart.files import make_folder, write_text
from signbart.timing import Latency, interleaved

_REFERENCE = f"litert {FLOAT}"
_PRODUCT_SIZE = 1024
_CLIPS = 100  # that calibration takes, of random numbers


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
    write_report(output, rows)
    return 0


def _config(path: str, frames: int) -> RunConfig:
    return load_config(path, [f"data.max_frames={frames}"])


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
    from bridge.quantization.quantizer import quantize
    from signbart.artifacts.compaction import compact
    from signbart.models import io_spec
    from signbart.training.calibration import calibrate_on_noise

    model, spec = random_model(config), io_spec(config)
    calibration = calibrate_on_noise(config, count=_CLIPS, seed=SEED)
    for route in ROUTES.values():
        paths = {ending: target / f"{route.name}_{FLOAT}{ending}" for ending in route.produces}
        route.export(model, spec, paths)
        compact(paths[".tflite"])
        for scheme in SCHEMES.values():
            if scheme.name != FLOAT:
                path = target / f"{route.name}_{scheme.name}.tflite"
                used = calibration if scheme.calibrated else None
                quantize(paths[".tflite"], scheme, path, used)
    example = {name: torch.from_numpy(array) for name, array in random_inputs(config).items()}
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
    from signbart.artifacts.contents import multiply_accumulates

    config = _config(config_path, frames)
    folder = output / f"T{frames}"
    inputs = random_inputs(config)
    files = {
        f"{route} {scheme}": folder / f"{route}_{scheme}.tflite"
        for route in ROUTES
        for scheme in SCHEMES
    }
    calls: dict[str, Call] = {
        "PyTorch eager": torch_call(config, inputs, threads),
        "torch.compile": compiled_call(config, inputs, threads),
        "ONNX Runtime": onnx_call(folder / f"onnx_{FLOAT}.onnx", inputs, threads),
        "Keras (tf.function)": keras_call(config, inputs, threads),
        PLAIN: tflite_call(folder / "plain.tflite", inputs, threads),
    }
    reference = tflite_call(files[_REFERENCE], inputs, threads)
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
        call = reference if name == _REFERENCE else tflite_call(path, inputs, threads)
        measure(name, call, path.stat().st_size)

    product = folder / "product.tflite"
    matrix = np.random.default_rng(SEED).random((_PRODUCT_SIZE, _PRODUCT_SIZE), np.float32)
    call = tflite_call(product, {"args_0": matrix}, threads)
    times = interleaved({"it": call, "reference": reference}, rounds=max(20, rounds // 5))
    products = sum(multiply_accumulates(files[_REFERENCE]).values())
    share = products / _PRODUCT_SIZE**3
    floor = dataclasses.replace(
        Row(frames, threads, FLOOR, 0, 0, 0, times["reference"].median, 0),
        median_ms=share * times["it"].median,
        low_ms=share * times["it"].low,
        high_ms=share * times["it"].high,
        ratio=share * times["it"].median / times["reference"].median,
    )
    return [*rows, floor]


if __name__ == "__main__":
    run_command(main)

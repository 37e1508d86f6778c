"""What makes static int8 fail, and what it costs: one change at a time, on one trained model.

``python -m benchmarks.static_int8 --checkpoint CKPT --data PATH --test-signers S01``

Uses ai-edge-quantizer directly (in the project `bridge.quantize` alone does), for what is measured
here are the settings that it does *not* use.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from bridge.options import add_test_signers_argument
from signbart.artifacts.contents import operators
from signbart.console import markdown_table, print_table, run_command
from signbart.errors import ArtifactError
from signbart.timing import Latency, interleaved
from signbart_runtime.evaluation.tensor_errors import COLUMNS, tensor_errors

# Each: operators in int8, besides inputs and outputs.
_GRAPHS = {
    "FULLY_CONNECTED": ["FULLY_CONNECTED"],
    "+ GELU": ["FULLY_CONNECTED", "GELU"],
    "+ ADD": ["FULLY_CONNECTED", "ADD"],
    "+ BATCH_MATMUL": ["FULLY_CONNECTED", "BATCH_MATMUL"],
    "+ BATCH_MATMUL, SOFTMAX": ["FULLY_CONNECTED", "BATCH_MATMUL", "SOFTMAX"],
    "every operator": ["ALL_SUPPORTED"],
}
_COLUMNS = (
    *("setting", "accuracy", "agreement", "rmse / rms", "max Δ / rms", "operators"),
    *("rmse / rms, first third", "latency to float32"),
)
_FLOAT, _MOVING = "float32", "FULLY_CONNECTED, ranges by moving average"
_ROUNDS = 100


def _quantize(
    source: Path,
    inputs: Sequence[dict[str, np.ndarray]],
    target: Path,
    names: Sequence[str],
    *,
    moving_average: bool = False,
) -> Path:
    from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe_manager
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.utils import qsv_utils

    known = qtyping.TFLOperationName
    manager = recipe_manager.RecipeManager()
    for name in names:
        manager.add_static_config(".*", known[name], activation_num_bits=8, weight_num_bits=8)
    for edge in (known.INPUT, known.OUTPUT):
        manager.add_quantization_config(".*", edge, None, algorithm_key=AlgorithmName.NO_QUANTIZE)
    update = qsv_utils.moving_average_update if moving_average else qsv_utils.min_max_update
    observer = calibrator.Calibrator(str(source), num_threads=1, qsv_update_func=update)
    observer.calibrate({"serving_default": inputs}, manager)
    made = quantizer.Quantizer(str(source), manager.get_quantization_recipe()).quantize(
        observer.get_model_qsvs(), enable_progress_bar=False, enable_progress_report=False
    )
    target.write_bytes(made.quantized_model)
    return target


def _survives(path: Path) -> bool:
    """Whether LiteRT runs the file at all: on some scales it ends the whole process."""
    code = (
        "import sys, numpy; from bridge.artifact.runtimes import TFLiteRuntime; "
        "runtime = TFLiteRuntime(sys.argv[1]); "
        "runtime({t.name: numpy.ones(t.shape, t.dtype) for t in runtime.spec.inputs})"
    )
    return subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 0


def _plain_graph(wanted: bool) -> contextlib.AbstractContextManager[Any]:
    """Exports without `signbart_torch.models.signbart.export_graph`."""
    if not wanted:
        return contextlib.nullcontext()
    return mock.patch("bridge.routes.via_litert.for_export", lambda model: model)


@contextlib.contextmanager
def _mask_bias(value: float) -> Iterator[None]:
    """Another constant for masked scores in what is exported."""
    with mock.patch("signbart_torch.models.signbart.layers.MASK_BIAS", value):
        yield


def _ratio(latencies: dict[str, Latency], title: str) -> str:
    if title not in latencies:
        return "not run"
    return f"{latencies[title].median / latencies[_FLOAT].median:.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.static_int8", description=__doc__)
    parser.add_argument("--checkpoint", required=True, metavar="FILE")
    parser.add_argument("--data", required=True, metavar="PATH")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--plain", action="store_true", help="export the model as it is trained, with SOFTMAX"
    )
    parser.add_argument(
        "--only",
        metavar="TEXT",
        default="",
        help="of the settings those whose names hold it, besides float32",
    )
    add_test_signers_argument(parser)
    options = parser.parse_args(arguments)

    from bridge.artifact.runtimes import TFLiteRuntime, TorchRuntime
    from bridge.routes.via_litert import export
    from bridge.verification.clips import clips_to_judge, predict
    from bridge.verification.compare import judge_outputs
    from bridge.verification.limits import load_limits
    from bridge.verification.samples import make_samples
    from bridge.weights.source import read_source
    from signbart.artifacts.compaction import compact
    from signbart.console import redirect_output
    from signbart.models import io_spec
    from signbart.models.io_spec import ATTENTION_MASK, KEYPOINTS, LOGITS
    from signbart.recordings.data_source import read_recordings
    from signbart.training.calibration import Calibration, calibrate_on, calibrate_on_noise

    source = read_source(options.checkpoint)
    model, config = source.model, source.config
    reference = TorchRuntime(model, config)
    trained_on, clips = clips_to_judge(
        source,
        reference,
        make_samples(config, seed=options.seed),
        options.data,
        read_recordings(options.data),
        options.test_signers,
    )
    short = np.maximum(clips.attention_mask.sum(axis=1) // 3, 1)
    short_mask = (np.arange(clips.attention_mask.shape[1]) < short[:, None]).astype(np.int32)
    short_expected = predict(reference, clips.keypoints, short_mask)
    limits = load_limits("int8")
    rows: dict[str, list[Any]] = {}
    paths: dict[str, Path] = {}
    failures: dict[str, str] = {}
    runtimes: dict[str, TFLiteRuntime] = {}

    def calibration(count: int) -> Calibration:
        return calibrate_on(trained_on, config, count=count, seed=options.seed, source=options.data)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "log"

        def measure(title: str, make: Callable[[Path], Path]) -> None:
            if options.only not in title and title != _FLOAT:
                return
            with redirect_output(log):
                path = make(folder / f"{len(rows)}.tflite")
                if not _survives(path):
                    rows[title] = [title, "aborts", *["not run"] * 5]
                    return
                runtime = TFLiteRuntime(path)
                try:
                    found = predict(runtime, clips.keypoints, clips.attention_mask)
                    cut_short = predict(runtime, clips.keypoints, short_mask)
                except ArtifactError as error:
                    rows[title] = [title, "fails", *["not run"] * 5]
                    failures[title] = str(error.__cause__ or error).splitlines()[0]
                    return
                paths[title], runtimes[title] = path, runtime
            result = judge_outputs(
                title,
                {LOGITS: clips.reference},
                {LOGITS: found},
                clips.descriptions,
                limits,
                scheme="int8",
                labels=clips.labels,
            )
            off = cut_short - short_expected
            rows[title] = [
                title,
                f"{result.accuracy:.2f}",
                f"{result.argmax_agreement:.2%}",
                f"{result.scaled_rmse:.4f}",
                f"{result.max_scaled:.3f}",
                sum(operators(path).values()),
                f"{np.sqrt((off**2).mean() / (short_expected**2).mean()):.4f}",
            ]

        plain = folder / "float.tflite"
        with redirect_output(log), _plain_graph(options.plain):
            export(model, io_spec(config), {".tflite": plain})
            compact(plain)
        given = list(calibration(100).inputs())
        measure(_FLOAT, lambda path: plain)
        for title, names in _GRAPHS.items():
            measure(title, lambda path, names=names: _quantize(plain, given, path, names))
        linear = _GRAPHS["FULLY_CONNECTED"]
        for title, names in (("FULLY_CONNECTED", linear), ("every operator", ["ALL_SUPPORTED"])):
            measure(
                f"{title}, ranges by moving average",
                lambda path, names=names: _quantize(plain, given, path, names, moving_average=True),
            )
        for count in (10, 30, 200, 400):
            some = list(calibration(max(count, 100)).inputs())[:count]
            measure(
                f"FULLY_CONNECTED, {len(some)} clips",
                lambda path, some=some: _quantize(plain, some, path, linear),
            )
        whole = [one for one in given if one[ATTENTION_MASK].all()]
        if whole:
            measure(
                f"FULLY_CONNECTED, {len(whole)} clips, none of them padded",
                lambda path: _quantize(plain, whole, path, linear),
            )
        noise = list(calibrate_on_noise(config, count=100, seed=options.seed).inputs())
        measure(
            "FULLY_CONNECTED, 100 random inputs",
            lambda path: _quantize(plain, noise, path, linear),
        )
        for bias in (-1e9, float(np.finfo(np.float32).min)):
            other = folder / f"bias{bias:g}.tflite"
            with redirect_output(log), _plain_graph(options.plain), _mask_bias(bias):
                export(model, io_spec(config), {".tflite": other})
            for title, names in (
                ("FULLY_CONNECTED", linear),
                ("every operator", ["ALL_SUPPORTED"]),
            ):
                measure(
                    f"{title}, mask {bias:.3g}",
                    lambda path, names=names, other=other: _quantize(other, given, path, names),
                )
        inputs = {
            KEYPOINTS: np.nan_to_num(clips.keypoints[:1]),
            ATTENTION_MASK: clips.attention_mask[:1],
        }
        cut = []
        if _MOVING in paths:
            cut = tensor_errors(
                plain,
                paths[_MOVING],
                (
                    {KEYPOINTS: points[None], ATTENTION_MASK: mask[None]}
                    for points, mask in zip(clips.keypoints, clips.attention_mask, strict=True)
                ),
            )
        latencies = interleaved(
            {title: lambda r=runtime: r(inputs) for title, runtime in runtimes.items()},
            rounds=_ROUNDS,
        )
    table = [[*row, _ratio(latencies, title)] for title, row in rows.items()]
    print_table(f"Static int8 of {options.checkpoint}, {clips.source}", _COLUMNS, table)
    print(markdown_table(_COLUMNS, table))
    for title, failure in failures.items():
        print(f"{title}: {failure}")
    if cut:
        print(f"{_MOVING}, the five tensors that lose most of their numbers:\n")
        worst = sorted(cut, key=lambda row: -row.cut)[:5]
        print(markdown_table(COLUMNS, [row.cells() for row in worst]))
    return 0


if __name__ == "__main__":
    run_command(main)

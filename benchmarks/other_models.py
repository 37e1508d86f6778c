"""Every route for the other models: operators, bytes, seconds, agreement, and interleaved latency.

    python -m benchmarks.other_models --transformer runs/sign_transformer/best.safetensors \
        --gru runs/mediapipe_gru/best.safetensors --data RECORDINGS

Latency is that of one whole sequence of the artifacts' fixed length, one thread, all artifacts of a
model in turns, PyTorch among them. Of the GRU also that of a sequence a tenth as long.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bridge.artifact.runtimes import OnnxRuntime, TFLiteRuntime, TorchRuntime
from bridge.conversion.artifact_record import Artifact
from bridge.conversion.published import export_models
from bridge.quantization.schemes import select_schemes
from bridge.routes import ROUTES, routes_of
from bridge.weights.source import Source
from signbart.console import markdown_table, run_command
from signbart.models import MODEL_KINDS
from signbart.timing import interleaved, machine_name

COLUMNS = ("model", "route", "scheme", "operators", "bytes", "s to make", "cosine", "max Δ", "ms")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exports by every route, times, prints one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--transformer", required=True, metavar="FILE")
    parser.add_argument("--gru", required=True, metavar="FILE")
    parser.add_argument("--data", metavar="PATH", help="recordings to compare on")
    parser.add_argument("--routes", nargs="+", choices=ROUTES, default=[*ROUTES])
    parser.add_argument("--rounds", type=int, default=60, help="of latency (default: %(default)s)")
    options = parser.parse_args(arguments)

    import torch

    from bridge.weights.source import read_published_source

    torch.set_num_threads(1)
    sources = [
        read_published_source(model.name, Path(getattr(options, model.published.option)))
        for model in MODEL_KINDS.values()
        if model.published
    ]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for source in sources:
            made = [
                artifact
                for route in routes_of(source.kind)
                if route in options.routes
                for artifact in export_models(
                    [source],
                    Path(folder) / route,
                    schemes=select_schemes(["fp32,fp16"]),
                    route=route,
                    data=options.data,
                )[source.kind.name]
                # One .onnx, whatever is made from it.
                if artifact.path and (artifact.path.suffix != ".onnx" or route == "onnx")
            ]
            rows += _rows(source, made, options.rounds)
    print(markdown_table(COLUMNS, rows))
    print(f"{machine_name()}; {sources[0].config.data.max_frames} frames, one thread")
    return 0


def _rows(source: Source, artifacts: list[Artifact], rounds: int) -> list[list[str]]:
    frames, features = source.config.data.max_frames, source.config.model.num_features
    rng = np.random.default_rng(0)
    keypoints = rng.random((1, frames, features), np.float32)
    full = {"keypoints": keypoints, "attention_mask": np.ones((1, frames), np.int32)}
    short = {**full, "attention_mask": (np.arange(frames) < frames // 10).astype(np.int32)[None]}
    runtimes = {"PyTorch": TorchRuntime(source.model, source.config)}
    for artifact in artifacts:
        opened = OnnxRuntime if artifact.path.suffix == ".onnx" else TFLiteRuntime
        runtimes[str(artifact.path)] = opened(artifact.path)
    calls = {
        f"{name}{text}": (lambda run=runtime, given=inputs: run(given))
        for name, runtime in runtimes.items()
        for text, inputs in (("", full), (" short", short))
    }
    times = interleaved(calls, rounds=rounds, warm_up=5)

    def milliseconds(name: str) -> str:
        return f"{times[name].median:.1f} ({times[f'{name} short'].median:.1f})"

    rows = [[source.kind.name, "PyTorch", "fp32", "", "", "", "", "", milliseconds("PyTorch")]]
    for artifact in artifacts:
        kind = "ONNX Runtime" if artifact.path.suffix == ".onnx" else artifact.route
        rows.append(
            [
                source.kind.name,
                kind,
                artifact.scheme,
                str(sum(artifact.operators.values())),
                f"{artifact.path.stat().st_size:,}",
                f"{artifact.seconds:.1f}",
                f"{artifact.parity.cosine:.7f}",
                f"{artifact.parity.max_abs:.1e}",
                milliseconds(str(artifact.path)),
            ]
        )
    return rows


if __name__ == "__main__":
    run_command(main)

"""From a checkpoint to verified .tflite: `convert`, what the command of that name does."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.arguments import MIN_SAMPLES
from bridge.describe import foreign_operators, operators
from bridge.errors import BridgeError, ConversionError
from bridge.metadata import build_metadata, embed_metadata
from bridge.model_card import model_card
from bridge.parity import (
    FAILED,
    FLOAT32_ATOL,
    FLOAT32_RTOL,
    Parity,
    compare,
    parity_json,
    parity_markdown,
)
from bridge.routes import get_route
from bridge.runtimes import Runtime, TFLiteRuntime, TorchRuntime
from bridge.samples import Sample, make_samples, read_recordings
from bridge.spec import io_spec
from signbart.config import load_config

SCHEME = "fp32"
_PACKAGES = ("torch", "litert-torch", "ai-edge-litert", "numpy")


@dataclass(frozen=True)
class Conversion:
    """One route's outcome.

    Attributes:
        route: The route's name.
        path: The artifact; None where there is none. What does not agree with PyTorch goes into
            ``rejected/``, so that it cannot be shipped by accident.
        parity: The comparison with PyTorch.
        seconds: Duration of the export.
        operators: Operator -> count; empty where the export failed.
    """

    route: str
    path: Path | None
    parity: Parity
    seconds: float
    operators: dict[str, int]


def convert(
    checkpoint: str | Path,
    output: str | Path,
    *,
    routes: Sequence[str] = ("litert",),
    config: str | Path | None = None,
    labels: str | Path | None = None,
    data: str | None = None,
    samples: int = MIN_SAMPLES,
    seed: int = 0,
    verbose: bool = False,
) -> list[Conversion]:
    """Converts a checkpoint by each route and compares every artifact with PyTorch.

    A route that fails does not stop the others.

    Args:
        checkpoint: .safetensors of `signbart_torch.train`, or a published .pth.
        output: Folder that receives the artifacts, manifest, parity report, model card and log.
        routes: Names or aliases of `ROUTES`.
        config: Configuration of a published .pth.
        labels: label2id.json of a published .pth.
        data: Recordings to compare on.
        samples: Inputs a length; see `parity.make_samples`.
        seed: Of the comparison's inputs.
        verbose: Show the converters' own output.

    Raises:
        SignBartError: The input cannot be used. A failing route is no exception but a verdict.
    """
    chosen = [get_route(name) for name in routes]

    from signbart_torch.checkpoint import file_sha256, load_model

    model, run_config, class_names = load_model(
        checkpoint, load_config(config) if config else None, _read_labels(labels)
    )
    made = make_samples(run_config, clips=read_recordings(data), samples=samples, seed=seed)
    reference = TorchRuntime(model, run_config)
    spec = io_spec(run_config)
    sha256 = file_sha256(checkpoint)

    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    conversions = []
    with tempfile.TemporaryDirectory(dir=output, prefix=".converting-") as folder:
        log = Path(folder) / "convert.log"
        for route in chosen:
            beside = Path(folder) / f"{run_config.name}_{route.name}_{SCHEME}.tflite"
            metadata = build_metadata(
                run_config,
                class_names,
                spec,
                checkpoint_sha256=sha256,
                route=route.name,
                scheme=SCHEME,
                packages=_PACKAGES,
            )
            started = time.perf_counter()
            try:
                with _chatter_to(log, verbose):
                    route.export(model, spec, beside)
                    parity, counted = _verify(beside, metadata, reference, made)
            except BridgeError as error:
                parity, counted = Parity(beside.name, FAILED, str(error)), {}
            seconds = time.perf_counter() - started
            path = _settle(beside, output, parity)
            conversions.append(Conversion(route.name, path, parity, seconds, counted))
        comparison = {
            "reference": Path(checkpoint).name,
            "atol": FLOAT32_ATOL,
            "rtol": FLOAT32_RTOL,
            "inputs": len(made),
            "seed": seed,
            "recordings": data or "synthetic where the layout is kp90",
        }
        _write_reports(output, Path(folder), conversions, metadata, comparison)
    return conversions


def _verify(
    path: Path, metadata: dict[str, Any], reference: Runtime, samples: Sequence[Sample]
) -> tuple[Parity, dict[str, int]]:
    """Completes a fresh .tflite and compares it with PyTorch: the very file that is shipped."""
    counted = dict(operators(path).most_common())
    foreign = foreign_operators(path)
    if foreign:
        raise ConversionError(f"plain LiteRT cannot run the artifact's {', '.join(foreign)}")
    embed_metadata(path, metadata)
    return compare(reference, TFLiteRuntime(path), samples), counted


def _settle(beside: Path, output: Path, parity: Parity) -> Path | None:
    """Moves an artifact to where its verdict belongs; what an earlier run left there goes.

    Where the route made no file, an earlier run's goes to ``rejected/``: beside a manifest that
    says "failed" it would be taken for this checkpoint's.
    """
    good, bad = output / beside.name, output / "rejected" / beside.name
    if not beside.is_file():
        if good.is_file():
            bad.parent.mkdir(exist_ok=True)
            os.replace(good, bad)
        return None
    target, other = (good, bad) if parity.passed else (bad, good)
    target.parent.mkdir(exist_ok=True)
    os.replace(beside, target)
    other.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty: another route's artifact was rejected
        (output / "rejected").rmdir()
    return target


@contextlib.contextmanager
def _chatter_to(log: Path, verbose: bool) -> Iterator[None]:
    """Sends all output, that of C++ libraries included, to the end of a file."""
    if verbose:
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, kept in zip((1, 2), saved, strict=True):
            os.dup2(kept, descriptor)
            os.close(kept)


def _read_labels(path: str | Path | None) -> tuple[str, ...]:
    """Class names in the order of their ids, from a label2id.json."""
    if path is None:
        return ()
    try:
        label2id = json.loads(Path(path).read_text(encoding="utf-8"))
        names = sorted(label2id.keys(), key=label2id.__getitem__)
        if not names or [label2id[name] for name in names] != list(range(len(names))):
            raise ValueError("the ids are not 0, 1, 2, …")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BridgeError(f"{path} is no label2id.json (name -> id): {error}") from None
    return tuple(names)


def _write_reports(
    output: Path,
    folder: Path,
    conversions: Sequence[Conversion],
    metadata: dict[str, Any],
    comparison: dict[str, Any],
) -> None:
    """Manifest, parity report, model card and log; each whole or not at all."""
    parities = [conversion.parity for conversion in conversions]
    manifest = {
        "comparison": comparison,
        "checkpoint_sha256": metadata["checkpoint_sha256"],
        "versions": metadata["versions"],
        "artifacts": [
            {
                "route": conversion.route,
                "scheme": SCHEME,
                "verdict": conversion.parity.verdict,
                "reason": conversion.parity.reason,
                "seconds": round(conversion.seconds, 1),
                **(_file_facts(conversion.path, output) if conversion.path else {}),
                "operators": conversion.operators,
            }
            for conversion in conversions
        ],
    }
    reports = {
        "manifest.json": json.dumps(manifest, indent=2, ensure_ascii=False) + "\n",
        "parity.json": parity_json(parities, comparison),
        "parity.md": parity_markdown(parities, comparison),
        "MODEL_CARD.md": model_card(metadata, parities),
    }
    for name, text in reports.items():
        (folder / name).write_text(text, encoding="utf-8")
        os.replace(folder / name, output / name)
    if (folder / "convert.log").is_file():
        os.replace(folder / "convert.log", output / "convert.log")


def _file_facts(path: Path, output: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {
        "file": str(path.relative_to(output)),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }

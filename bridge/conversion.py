"""From a checkpoint to verified artifacts: `convert`, what the command of that name does."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.arguments import MIN_SAMPLES, published_options
from bridge.arithmetic import multiply_accumulates
from bridge.chatter import chatter_to
from bridge.checkpoints import load_reference, read_labels
from bridge.compaction import compact
from bridge.describe import foreign_operators, operators
from bridge.errors import BridgeError, ConversionError
from bridge.exports_folder import set_others_aside, settle
from bridge.metadata import build_metadata, embed_metadata, tensors_of
from bridge.model_card import model_card
from bridge.parity import FAILED, WRONG, Parity, compare_artifact, diagnose, save_repro
from bridge.parity_report import write_reports
from bridge.quantization_job import QuantizationJob, QuantizationOptions, prepare
from bridge.quantize import FLOAT, Scheme, select_schemes
from bridge.quantized_parity import with_scores
from bridge.routes import Route, select_routes
from bridge.runtimes import Runtime, TorchRuntime, open_runtime
from bridge.samples import Sample, describe_samples, make_samples, read_recordings
from bridge.spec import IOSpec, io_spec
from bridge.tolerances import Tolerance, load_tolerance
from signbart.config import RunConfig, load_config
from signbart.files import file_sha256, make_folder

if TYPE_CHECKING:
    from signbart_torch.model import SignBart

_WORKSHOP = ".converting-"
_PACKAGES = (
    *("torch", "litert-torch", "ai-edge-litert", "onnx", "onnx2tf", "onnxruntime"),
    *("tensorflow", "keras", "numpy", "ai-edge-quantizer"),
)


@dataclass(frozen=True)
class Conversion:
    """One artifact of one route.

    Attributes:
        route: The route's name.
        scheme: Name of its quantization scheme.
        path: The artifact; None where there is none. What does not agree with PyTorch goes into
            ``rejected/``, so that it cannot be shipped by accident.
        parity: The comparison with PyTorch.
        seconds: Duration of the route's export, which may have made several artifacts, or of the
            quantization.
        operators: Operator -> count; empty where the export failed.
        multiply_accumulates: Number format -> count, of a .tflite.
        preprocessing: What the artifact says of it.
        inputs: How many inputs it was compared on, and where they came from.
        repro: A command that repeats the comparison on the worst input; empty on a pass.
    """

    route: str
    scheme: str
    path: Path | None
    parity: Parity
    seconds: float
    operators: Mapping[str, int]
    multiply_accumulates: Mapping[str, int]
    preprocessing: Mapping[str, Any]
    inputs: str
    repro: str = ""


def convert(
    checkpoint: str | Path,
    output: str | Path,
    *,
    routes: Sequence[str] = ("litert",),
    quantization: QuantizationOptions | None = None,
    config: str | Path | None = None,
    overrides: Sequence[str] = (),
    labels: str | Path | None = None,
    data: str | None = None,
    samples: int = MIN_SAMPLES,
    seed: int = 0,
    verbose: bool = False,
) -> list[Conversion]:
    """Converts a checkpoint by each route and compares every artifact with PyTorch.

    A route that fails does not stop the others.

    Args:
        checkpoint: .safetensors of `signbart_torch.train`, .keras or .weights.h5 of
            `signbart_tf.train`, or a published .pth.
        output: Folder that receives the artifacts, manifest, parity report, model card and log.
        routes: Names or aliases of `ROUTES`; ``all`` for every one.
        quantization: What else than float32 to make of each route's .tflite.
        config: Configuration of a published .pth.
        overrides: ``section.key=value`` texts on top of it.
        labels: label2id.json of a published .pth.
        data: Recordings to compare on.
        samples: Inputs a length; see `samples.make_samples`.
        seed: Of the comparison's inputs and of the choice of calibration clips.
        verbose: Show the converters' own output.

    Raises:
        SignBartError: The input cannot be used. A failing route is no exception but a verdict.
    """
    chosen = select_routes(routes)
    quantization = quantization or QuantizationOptions()
    schemes = select_schemes(quantization.schemes)
    output = Path(output)
    make_folder(output)
    for left_over in output.glob(f"{_WORKSHOP}*"):  # of a conversion that was killed
        shutil.rmtree(left_over, ignore_errors=True)

    model, run_config, class_names = load_reference(
        checkpoint, load_config(config, overrides) if config else None, read_labels(labels)
    )
    recordings = read_recordings(data)
    made = make_samples(run_config, clips=recordings, samples=samples, seed=seed)
    reference = TorchRuntime(model, run_config)
    spec = io_spec(run_config)
    quantized = [scheme for scheme in schemes if scheme.name != FLOAT]
    job = _Job(
        model=model,
        config=run_config,
        class_names=class_names,
        spec=spec,
        reference=reference,
        samples=made,
        inputs=describe_samples(made, data),
        tolerance=load_tolerance(FLOAT),
        checkpoint=Path(checkpoint),
        sha256=file_sha256(checkpoint),
        published=published_options(config, overrides),
        quantization=prepare(
            quantization,
            quantized,
            checkpoint=checkpoint,
            config=run_config,
            class_names=class_names,
            reference=reference,
            samples=made,
            data=data,
            recordings=recordings,
            seed=seed,
        )
        if quantized
        else None,
    )
    conversions = []
    with tempfile.TemporaryDirectory(dir=output, prefix=_WORKSHOP) as folder:
        log = Path(folder) / "convert.log"
        for route in chosen:
            conversions += _convert_by(
                route, schemes, job, Path(folder), output, lambda: chatter_to(log, verbose)
            )
        listed = {conversion.parity.artifact for conversion in conversions}
        set_others_aside(output, listed, job.sha256)
        _write_reports(output, Path(folder), conversions, job, seed)
    return conversions


def _convert_by(
    route: Route,
    schemes: Sequence[Scheme],
    job: _Job,
    folder: Path,
    output: Path,
    quietly: Callable[[], AbstractContextManager[None]],
) -> list[Conversion]:
    """Exports by one route, quantizes its .tflite, and judges all that came of it.

    Args:
        route: The route.
        schemes: What to make of its .tflite.
        job: What all routes share.
        folder: The workshop.
        output: Where artifacts go.
        quietly: Opens a block whose output goes to the log.
    """
    started = time.perf_counter()
    paths = {ending: folder / job.file_name(route, FLOAT, ending) for ending in route.produces}
    plain = folder / f"plain_{route.name}.tflite"  # what is quantized: it has no metadata yet
    problem = ""
    with quietly():
        try:
            route.export(job.model, job.spec, paths)
            compact(paths[".tflite"])
            shutil.copyfile(paths[".tflite"], plain)
        except BridgeError as error:
            problem = str(error)
        # Compaction reads what a converter wrote, which can fail in any way.
        except Exception as error:
            traceback.print_exc()
            problem = f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - started
    conversions = []
    float_parity = None
    for ending, path in paths.items():
        with quietly():
            artifact = job.verify(path, route, problem)
        if ending == ".tflite":
            float_parity = artifact.parity
            if artifact.parity.passed and all(scheme.name != FLOAT for scheme in schemes):
                path.unlink()  # nobody asked for it
                continue
        conversions.append(job.settle(artifact, route, FLOAT, seconds, path, output))
    for scheme in schemes:
        if scheme.name == FLOAT:
            continue
        started = time.perf_counter()
        path = folder / job.file_name(route, scheme.name, ".tflite")
        with quietly():
            artifact = job.quantize(plain, scheme, path, route, float_parity)
        seconds = time.perf_counter() - started
        conversions.append(job.settle(artifact, route, scheme.name, seconds, path, output))
    plain.unlink(missing_ok=True)
    return conversions


@dataclass(frozen=True)
class _Judged:
    """A fresh artifact, before it goes to where its verdict belongs."""

    parity: Parity
    operators: Mapping[str, int] = field(default_factory=dict)
    multiply_accumulates: Mapping[str, int] = field(default_factory=dict)
    tried: Sequence[Sample] = ()


@dataclass(frozen=True)
class _Job:
    """What all routes of one conversion share."""

    model: SignBart
    config: RunConfig
    class_names: Sequence[str]
    spec: IOSpec
    reference: Runtime
    samples: Sequence[Sample]
    inputs: str
    tolerance: Tolerance
    checkpoint: Path
    sha256: str
    published: Sequence[str] = ()
    quantization: QuantizationJob | None = None

    def file_name(self, route: Route, scheme: str, ending: str) -> str:
        """An .onnx is the model's own, whatever is made from it."""
        if ending == ".onnx":
            return f"{self.config.name}.onnx"
        if self.quantization and self.quantization.has_integer_edges(scheme):
            scheme = f"{scheme}_io"
        return f"{self.config.name}_{route.name}_{scheme}{ending}"

    def metadata(self, route: Route, scheme: str, spec: IOSpec) -> dict[str, Any]:
        """What an artifact says of itself."""
        return build_metadata(
            self.config,
            self.class_names,
            spec,
            checkpoint_sha256=self.sha256,
            route=route.name,
            scheme=scheme,
            packages=_PACKAGES,
        )

    def verify(self, path: Path, route: Route, problem: str) -> _Judged:
        """Completes a fresh float artifact and compares it with PyTorch: the very file shipped.

        Args:
            path: The artifact.
            route: What made it.
            problem: Why there is none; empty where there is one.
        """
        if problem or not path.is_file():
            return _Judged(Parity(path.name, FAILED, problem or "the route wrote no such file"))
        try:
            counted = dict(operators(path).most_common())
            foreign = foreign_operators(path)
            if foreign:
                raise ConversionError(f"a plain runtime lacks the artifact's {', '.join(foreign)}")
            # An .onnx takes any batch and any length.
            promised = self.reference.spec if path.suffix == ".onnx" else self.spec
            embed_metadata(path, self.metadata(route, FLOAT, self.spec) | tensors_of(promised))
            _require(open_runtime(path).spec, promised)
            parity, tried = compare_artifact(
                self.reference,
                path,
                self.samples,
                atol=self.tolerance.atol,
                rtol=self.tolerance.rtol,
            )
            parity = diagnose(self.model, path, parity, tried)
            products = multiply_accumulates(path) if path.suffix == ".tflite" else {}
            if parity.passed and self.quantization and path.suffix == ".tflite":
                # What its quantized forms will be seen beside.
                parity = with_scores(parity, path, self.quantization.clips)
            return _Judged(parity, counted, products, tried)
        except BridgeError as error:
            return _Judged(Parity(path.name, FAILED, str(error)))
        # Reading what a converter wrote can fail in any way; that too is a verdict on one artifact.
        except Exception as error:
            traceback.print_exc()
            return _Judged(Parity(path.name, FAILED, f"{type(error).__name__}: {error}"))

    def quantize(
        self, plain: Path, scheme: Scheme, path: Path, route: Route, float_parity: Parity
    ) -> _Judged:
        """Makes a quantized artifact from a float one and judges it on clips."""
        failed = Parity(path.name, FAILED, scheme=scheme.name)
        if not float_parity.passed:
            reason = f"its float32 form is not usable: {float_parity.verdict}"
            return _Judged(dataclasses.replace(failed, reason=reason))
        try:
            record = self.quantization.make(plain, scheme, path)
            spec = open_runtime(path).spec
            _require(spec, self.quantization.promised(self.spec, scheme))
            metadata = self.metadata(route, scheme.name, spec)
            embed_metadata(path, metadata | {"quantization": record})
            return _Judged(
                self.quantization.judge(path, scheme),
                dict(operators(path).most_common()),
                record["multiply_accumulates"],
                self.quantization.clips.samples(),
            )
        except BridgeError as error:
            return _Judged(dataclasses.replace(failed, reason=str(error)))
        except Exception as error:
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}"
            return _Judged(dataclasses.replace(failed, reason=reason))

    def settle(
        self, artifact: _Judged, route: Route, scheme: str, seconds: float, path: Path, output: Path
    ) -> Conversion:
        """Moves an artifact to where its verdict belongs and reports on it."""
        parity = artifact.parity
        settled = settle(path, output, parity)
        repro = ""
        if settled is not None and parity.verdict == WRONG and artifact.tried:
            repro = save_repro(
                self.checkpoint, settled, parity, artifact.tried, settled.parent, self.published
            )
        return Conversion(
            route=route.name,
            scheme=scheme,
            path=settled,
            parity=parity,
            seconds=seconds,
            operators=artifact.operators,
            multiply_accumulates=artifact.multiply_accumulates,
            preprocessing=self.metadata(route, scheme, self.spec)["preprocessing"],
            inputs=self.inputs if scheme == FLOAT else self.quantization.inputs,
            repro=repro,
        )


def _require(found: IOSpec, promised: IOSpec) -> None:
    if not found.keeps(promised):
        raise ConversionError(
            f"the artifact takes and gives {found.describe()}; it had to be {promised.describe()}"
        )


def _write_reports(
    output: Path, folder: Path, conversions: Sequence[Conversion], job: _Job, seed: int
) -> None:
    """Manifest, parity report, model card and log; each whole or not at all."""
    comparison = {
        "reference": job.checkpoint.name,
        "atol": job.tolerance.atol,
        "rtol": job.tolerance.rtol,
        "inputs": len(job.samples),
        "seed": seed,
        "inputs from": job.inputs,
    }
    if job.quantization:
        comparison["quantized judged on"] = job.quantization.inputs
    route = select_routes([conversions[0].route])[0]
    metadata = job.metadata(route, FLOAT, job.spec)
    parities = [conversion.parity for conversion in conversions]
    manifest = {
        "name": job.config.name,
        "comparison": comparison,
        "checkpoint_sha256": job.sha256,
        "versions": metadata["versions"],
        **({"quantization": job.quantization.describe()} if job.quantization else {}),
        "artifacts": [
            {
                "route": conversion.route,
                "scheme": conversion.scheme,
                "verdict": conversion.parity.verdict,
                "reason": conversion.parity.reason,
                "seconds": round(conversion.seconds, 1),
                **(_file_facts(conversion.path, output) if conversion.path else {}),
                "operators": conversion.operators,
                "multiply_accumulates": dict(conversion.multiply_accumulates),
                "parity": _measured(conversion.parity),
                **({"repro": conversion.repro} if conversion.repro else {}),
            }
            for conversion in conversions
        ],
    }
    products = {
        conversion.parity.artifact: conversion.multiply_accumulates
        for conversion in conversions
        if conversion.multiply_accumulates
    }
    calibration = job.quantization and job.quantization.record
    reports = {
        "manifest.json": json.dumps(manifest, indent=2, ensure_ascii=False) + "\n",
        "MODEL_CARD.md": model_card(metadata, parities, products, calibration),
    }
    for name, text in reports.items():
        (folder / name).write_text(text, encoding="utf-8")
    write_reports(parities, comparison, folder, job.tolerance.atol)
    for file in folder.iterdir():
        os.replace(file, output / file.name)


def _measured(parity: Parity) -> dict[str, Any]:
    """The numbers of a comparison."""
    found = {field.name: getattr(parity, field.name) for field in dataclasses.fields(parity)}
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def _file_facts(path: Path, output: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {
        "file": str(path.relative_to(output)),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }

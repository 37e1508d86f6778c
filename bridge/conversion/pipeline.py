"""From a checkpoint to verified artifacts: `convert`, what the command of that name does."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bridge.artifact.runtimes import TorchRuntime
from bridge.conversion.evidence import QuantizationOptions, prepare
from bridge.conversion.folder import set_others_aside, settle, workshop
from bridge.conversion.model_card import model_card
from bridge.conversion.route_run import ConversionJob, Made, fallen, make_by
from bridge.quantization.schemes import FLOAT, Scheme, select_schemes
from bridge.routes import Route, select_routes
from bridge.verification import MIN_SAMPLES
from bridge.verification.compare import WRONG, Parity
from bridge.verification.limits import load_tolerance
from bridge.verification.report import save_repro, write_reports
from bridge.verification.samples import describe_samples, make_samples, read_recordings
from bridge.weights.source import load_reference, published_options, read_labels
from signbart.configuration.reading import load_config
from signbart.engines import start_worker
from signbart.files import file_sha256
from signbart.models import io_spec


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
    jobs: int = 1,
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
        jobs: Routes at a time, in processes of their own if more than one.

    Raises:
        SignBartError: The input cannot be used. A failing route is no exception but a verdict.
    """
    chosen = select_routes(routes)
    quantization = quantization or QuantizationOptions()
    schemes = select_schemes(quantization.schemes)
    output = Path(output)
    with workshop(output) as folder:
        model, run_config, class_names = load_reference(
            checkpoint, load_config(config, overrides) if config else None, read_labels(labels)
        )
        recordings = read_recordings(data)
        made = make_samples(run_config, clips=recordings, samples=samples, seed=seed)
        reference = TorchRuntime(model, run_config)
        spec = io_spec(run_config)
        quantized = [scheme for scheme in schemes if scheme.name != FLOAT]
        job = ConversionJob(
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
        made = _make_all(chosen, schemes, job, folder, jobs, verbose)
        conversions = [_settle(one, job, output) for one in made]
        listed = {conversion.parity.artifact for conversion in conversions}
        set_others_aside(output, listed, job.sha256)
        _write_reports(output, folder, conversions, job, seed)
    return conversions


def _make_all(
    chosen: Sequence[Route],
    schemes: Sequence[Scheme],
    job: ConversionJob,
    folder: Path,
    jobs: int,
    verbose: bool,
) -> list[Made]:
    """Everything by every route, in the order of the routes; logs are joined in it too."""
    logs = [folder / f"convert_{route.name}.log" for route in chosen]
    tasks = [
        (route, schemes, job, folder, log, verbose) for route, log in zip(chosen, logs, strict=True)
    ]
    if min(jobs, len(tasks)) == 1:
        made = [make_by(*task) for task in tasks]
    else:
        made = _make_apart(tasks, jobs)
    with open(folder / "convert.log", "wb") as joined:
        for log in logs:
            if log.is_file():
                joined.write(log.read_bytes())
                log.unlink()
    return [one for of_route in made for one in of_route]


def _make_apart(tasks: Sequence[tuple], jobs: int) -> list[list[Made]]:
    """Calls `make_by` in processes of their own; what one of them does to itself is its verdict."""
    # Converters load libraries that do not survive a fork.
    pool_of = partial(
        ProcessPoolExecutor,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=start_worker,
    )
    made: dict[int, list[Made]] = {}
    # What makes most files takes longest; begun last, everybody would wait for it.
    order = sorted(range(len(tasks)), key=lambda at: -len(tasks[at][0].produces))
    with pool_of(min(jobs, len(tasks))) as pool:
        futures = {at: pool.submit(make_by, *tasks[at]) for at in order}
        for at, future in futures.items():
            # A process that ends takes the pool along: the others get another try below.
            with contextlib.suppress(BrokenProcessPool):
                made[at] = future.result()
    for at in order:
        if at not in made:
            with pool_of(1) as pool:
                try:
                    made[at] = pool.submit(make_by, *tasks[at]).result()
                except BrokenProcessPool:
                    made[at] = fallen(*tasks[at])
    return [made[at] for at in range(len(tasks))]


def _settle(made: Made, job: ConversionJob, output: Path) -> Conversion:
    """Moves an artifact to where its verdict belongs and reports on it."""
    parity = made.artifact.parity
    settled = settle(made.path, output, parity)
    repro = ""
    if settled is not None and parity.verdict == WRONG and made.artifact.tried:
        repro = save_repro(
            job.checkpoint, settled, parity, made.artifact.tried, settled.parent, job.published
        )
    return Conversion(
        route=made.route.name,
        scheme=made.scheme,
        path=settled,
        parity=parity,
        seconds=made.seconds,
        operators=made.artifact.operators,
        multiply_accumulates=made.artifact.multiply_accumulates,
        preprocessing=job.metadata(made.route, made.scheme, job.spec)["preprocessing"],
        inputs=job.inputs if made.scheme == FLOAT else job.quantization.inputs,
        repro=repro,
    )


def _write_reports(
    output: Path, folder: Path, conversions: Sequence[Conversion], job: ConversionJob, seed: int
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

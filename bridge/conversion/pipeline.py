"""The one pipeline: load, export, quantize, verify, move by verdict, and say what was done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bridge.artifact.lengths import check_lengths
from bridge.conversion.artifact_record import Artifact
from bridge.conversion.card_notes import read_card_notes
from bridge.conversion.evidence import QuantizationOptions, gather_evidence
from bridge.conversion.folder import Change, staging_folder
from bridge.conversion.golden import GOLDEN
from bridge.conversion.manifest import write_records
from bridge.conversion.raw_landmarks import raw_signature
from bridge.conversion.route_run import RouteRun, describe
from bridge.quantization.schemes import select_schemes
from bridge.routes import select_routes
from bridge.verification import MIN_SAMPLES
from bridge.verification.report import save_repro
from bridge.verification.verdict import WRONG
from bridge.weights.source import read_source
from signbart.artifacts.completeness import MANIFEST
from signbart.engines import Engine, run_tasks
from signbart.recordings.data_source import DataSource
from signbart.waiting import stage

LOG = "convert.log"


def convert(
    checkpoint: str | Path,
    output: str | Path,
    *,
    routes: Sequence[str] = ("litert",),
    quantization: QuantizationOptions | None = None,
    config: str | Path | None = None,
    overrides: Sequence[str] = (),
    labels: str | Path | None = None,
    temperature: float | None = None,
    threshold: float | None = None,
    data: str | DataSource | None = None,
    samples: int = MIN_SAMPLES,
    seed: int = 0,
    verbose: bool = False,
    jobs: int | None = 1,
    engine: Engine | None = None,
    raw_frames: int | None = None,
    lengths: Sequence[int] = (),
    card_notes: str | Path | None = None,
    checksum: bool = True,
) -> list[Artifact]:
    """Converts a checkpoint by each route and compares every artifact with PyTorch.

    A route that fails does not stop the others.

    Args:
        checkpoint: What `bridge.weights.source.read_source` reads.
        output: Folder that receives the artifacts, manifest, parity report, model card and log.
        routes: Names or aliases of `ROUTES`; ``all`` for every one.
        quantization: What else than float32 to make of each route's .tflite.
        config: Configuration of a published .pth.
        overrides: ``section.key=value`` texts on top of it.
        labels: label2id.json of a published .pth.
        temperature: Of the softmax over the logits; by default what the checkpoint says.
        threshold: Probability from which on a stream's answer is a sign; by default none travels.
        data: Recordings to compare on.
        samples: Inputs per length; see `samples.make_samples`.
        seed: Of the comparison's inputs and of the choice of calibration clips.
        verbose: Show the converters' own output.
        jobs: Routes at a time, in processes of their own if more than one; None leaves it to the
            engine.
        engine: Runs them; see `run_tasks`. Its machines must see `output`.
        raw_frames: Most frames of the signature that takes raw landmarks; 0: there is none. None:
            `RAW_FRAMES`, or the model's own number where that is higher; see `raw_landmarks`.
        lengths: Frames of further signatures, for shorter clips; see `artifact.lengths`.
        card_notes: A person's part of the model card; see `card_notes.read_card_notes`.
        checksum: Refuse a checkpoint that is not what its checksum was made of.

    Raises:
        SignBartError: The input cannot be used. A failing route is no exception but a verdict.
    """
    chosen = select_routes(routes)
    quantization = quantization or QuantizationOptions()
    schemes = select_schemes(quantization.schemes)
    notes = read_card_notes(card_notes) if card_notes is not None else None
    output = Path(output)
    with staging_folder(output) as folder:
        change = Change(output, folder)
        with stage(f"reading {checkpoint}"):
            source = read_source(
                checkpoint, config=config, overrides=overrides, labels=labels, checksum=checksum
            )
        source = source.carrying(temperature, threshold)
        evidence = gather_evidence(
            source, schemes, quantization, data=data, samples=samples, seed=seed,
            raw=raw_signature(source, raw_frames),
            lengths=check_lengths(lengths, source.config, open_length=source.kind.open_length),
        )  # fmt: skip
        runs = [
            RouteRun(
                source=source,
                route=route,
                endings=route.produces,
                schemes=tuple(schemes),
                evidence=evidence,
                name=partial(file_name, source.config.name),
                folder=folder,
                verbose=verbose,
            )
            for route in chosen
        ]
        made = make_artifacts(runs, change, LOG, jobs, engine=engine)
        artifacts = [artifact for of_route in made for artifact in of_route]
        change.set_others_aside(source.sha256)
        change.remove(GOLDEN)  # where none can be made
        with stage("writing card, manifest and report"):
            write_records(change.made, source, evidence, artifacts, seed, notes)
        change.commit(MANIFEST)
    return [change.settled(artifact) for artifact in artifacts]


def file_name(name: str, route: str, scheme: str, ending: str) -> str:
    """Of an artifact; an .onnx is the model's own, whatever is made from it."""
    return f"{name}{ending}" if ending.endswith(".onnx") else f"{name}_{route}_{scheme}{ending}"


def make_artifacts(
    runs: Sequence[RouteRun],
    change: Change,
    log: str,
    jobs: int | None = 1,
    report: Callable[[Artifact], None] = lambda artifact: None,
    engine: Engine | None = None,
) -> list[list[Artifact]]:
    """Takes routes, `jobs` at a time, and places each artifact where its verdict belongs.

    Each route's log ends up in the `log`, one behind the other; `report` is called with each
    artifact as its route ends. Their paths are those in `change.made`.

    Returns:
        The artifacts of each run.
    """
    # What makes most files takes longest; begun last, everybody would wait for it.
    order = sorted(runs, key=lambda run: -len(run.endings)) if jobs != 1 else list(runs)
    several = len({run.source.kind.name for run in runs}) > 1
    made = {}
    for at, of_route in run_tasks(
        order,
        jobs and min(jobs, len(runs)),
        engine=engine,
        crashed=lambda at: order[at].crashed(),
        name="route",
        names=[
            f"{run.source.kind.name} by {run.route.name}" if several else run.route.name
            for run in order
        ],
        folder=change.output,
        travels=False,
    ):
        run = order[at]
        made[id(run)] = [_place(artifact, run, change) for artifact in of_route]
        for artifact in made[id(run)]:
            report(artifact)
    with open(change.made / log, "ab") as joined:
        for run in runs:
            if run.log.is_file():
                joined.write(run.log.read_bytes())
                run.log.unlink()
    return [made[id(run)] for run in runs]


def _place(artifact: Artifact, run: RouteRun, change: Change) -> Artifact:
    """Places an artifact where its verdict belongs; of a wrong one the worst input is kept."""
    source = run.source
    path = change.place(artifact.path, artifact.parity)
    repro = ""
    if path is not None and artifact.parity.verdict == WRONG and artifact.tried:
        final, tried = change.final(path), artifact.tried
        at = {"folder": final.parent, "staging": path.parent, "options": source.options}
        repro = save_repro(source.checkpoint, final, artifact.parity, tried, **at)
    return dataclasses.replace(
        artifact,
        path=path,
        repro=repro,
        inputs=run.evidence.judged_on(artifact.scheme),
        preprocessing=describe(source, run.route, artifact.scheme)["preprocessing"] or {},
    )

"""The one pipeline: load, export, quantize, verify, move by verdict, and say what was done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bridge.artifact.completeness import MANIFEST, require_complete
from bridge.artifact.lengths import carried_lengths, check_lengths, config_at, signature_at
from bridge.artifact.metadata import (
    carried_config,
    carried_kind,
    carried_raw,
    embed_metadata,
    read_metadata,
    tensors_of,
)
from bridge.artifact.runtimes import open_runtime
from bridge.conversion.artifact_record import Artifact
from bridge.conversion.card_notes import read_card_notes
from bridge.conversion.evidence import Evidence, QuantizationOptions, gather_evidence, same_file
from bridge.conversion.folder import Change, staging_folder
from bridge.conversion.golden import GOLDEN
from bridge.conversion.manifest import write_records
from bridge.conversion.quantized import calibrate, quantize_file
from bridge.conversion.raw_landmarks import raw_signature
from bridge.conversion.relisting import list_again
from bridge.conversion.route_run import RouteRun, describe
from bridge.errors import BridgeError, ConversionError
from bridge.quantization.schemes import FLOAT, Scheme, select_schemes
from bridge.routes import select_routes
from bridge.verification import MIN_SAMPLES
from bridge.verification.clips import clips_of_samples, judged_clips
from bridge.verification.limits import load_limits
from bridge.verification.raw import make_raw_samples
from bridge.verification.report import save_repro
from bridge.verification.samples import make_samples
from bridge.verification.verdict import FAILED, WRONG, Verdict
from bridge.weights.source import read_source
from signbart.console import redirect_output
from signbart.engines import run_tasks
from signbart.models.io_spec import SIGNATURE
from signbart.recordings.data_source import DataSource, read_recordings
from signbart.training.splits import divide

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
    jobs: int = 1,
    raw_frames: int | None = None,
    lengths: Sequence[int] = (),
    card_notes: str | Path | None = None,
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
        jobs: Routes at a time, in processes of their own if more than one.
        raw_frames: Most frames of the signature that takes raw landmarks; 0: there is none. None:
            `RAW_FRAMES`, or the model's own number where that is higher; see `raw_landmarks`.
        lengths: Frames of further signatures, for shorter clips; see `artifact.lengths`.
        card_notes: A person's part of the model card; see `card_notes.read_card_notes`.

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
        source = read_source(checkpoint, config=config, overrides=overrides, labels=labels)
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
        artifacts = make_artifacts(runs, change, LOG, jobs)
        change.set_others_aside(source.sha256)
        change.remove(GOLDEN)  # where none can be made
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
    jobs: int = 1,
    report: Callable[[Artifact], None] = lambda artifact: None,
) -> list[Artifact]:
    """Takes routes, `jobs` at a time, and places each artifact where its verdict belongs.

    Each route's log ends up in the `log`, one behind the other; `report` is called with each
    artifact. Their paths are those in `change.made`.
    """
    # What makes most files takes longest; begun last, everybody would wait for it.
    order = sorted(runs, key=lambda run: -len(run.endings)) if jobs > 1 else list(runs)
    made = {}
    for at, of_route in run_tasks(
        order, min(jobs, len(runs)), crashed=lambda at: order[at].crashed(), name="route"
    ):
        made[id(order[at])] = of_route
    with open(change.made / log, "ab") as joined:
        for run in runs:
            if run.log.is_file():
                joined.write(run.log.read_bytes())
                run.log.unlink()
    artifacts = []
    for run in runs:
        for artifact in made[id(run)]:
            artifacts.append(_place(artifact, run, change))
            report(artifacts[-1])
    return artifacts


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


def quantize_artifact(
    source: Path,
    scheme: Scheme,
    target: Path,
    options: QuantizationOptions,
    *,
    data: str | DataSource | None = None,
    seed: int = 0,
) -> Artifact:
    """Quantizes a float .tflite of `convert` and judges the result by it.

    Args:
        source: The float .tflite, with its metadata.
        scheme: Any but fp32.
        target: The file to write. What does not agree goes into ``rejected/`` beside it.
        options: `schemes` and `test_signers` do not count here.
        data: Labelled recordings to judge by; by default those of the calibration data that
            calibration does not take, and without any the comparison's synthetic inputs.
        seed: Of the choice of clips.

    Raises:
        SignBartError: `source` is no such file, or the recordings do not fit it.
    """
    for path in (source, target):
        if path.suffix != ".tflite":
            raise BridgeError(f"{path} is no .tflite file; only those are quantized")
        require_complete(path)
    if target.resolve() == source.resolve():
        raise BridgeError(f"{source} would be overwritten; choose another --output")
    if options.int8_io and not scheme.calibrated:
        raise BridgeError(f"integer inputs and outputs need int8 or int16x8, not {scheme.name}")
    metadata = read_metadata(source)
    if metadata["scheme"] != FLOAT:
        raise BridgeError(
            f"{source} is quantized already ({metadata['scheme']}); give its {FLOAT} form"
        )
    evidence = _evidence_of(source, metadata, scheme, options, data, seed)
    inputs = evidence.judged_on(scheme.name)
    with staging_folder(target.parent, shared=True) as folder:
        path, log = folder / target.name, folder / "log"
        try:
            with redirect_output(log):
                record = quantize_file(
                    source,
                    scheme,
                    path,
                    evidence.calibrations,
                    operators=carried_kind(metadata).quantized_operators,
                    int8_io=evidence.has_integer_edges(scheme.name),
                )
        except ConversionError as error:
            failed = Verdict(target.name, FAILED, str(error), scheme.name)
            return Artifact(metadata["route"], scheme.name, None, failed, inputs=inputs)
        about = {"scheme": scheme.name, "quantization": record}
        embed_metadata(path, metadata | about | tensors_of(open_runtime(path).spec))
        verdict, _ = evidence.judge(path, scheme.name)
        made = Artifact(metadata["route"], scheme.name, path, verdict, inputs=inputs)
        made = made.with_others(evidence)
        change = Change(target.parent, folder)
        made = dataclasses.replace(made, path=change.place(path, made.parity))
        change.commit(MANIFEST if list_again(change, made) else None)
        return change.settled(made)


def _evidence_of(
    source: Path,
    metadata: dict,
    scheme: Scheme,
    options: QuantizationOptions,
    data: str | DataSource | None,
    seed: int,
) -> Evidence:
    """What a quantized file is judged by where its float form is the reference."""
    whole = carried_config(metadata, source)
    signature = carried_raw(metadata, whole)
    recordings = read_recordings(data or options.calibration_data)
    named = str(data or options.calibration_data)
    shared = data is None or same_file(data, options.calibration_data)

    def gather(frames: int | None) -> Evidence:
        config = config_at(whole, frames)
        reference = open_runtime(source, signature_at(SIGNATURE, frames))
        raw = signature if frames is None or signature is None else signature.at(config)
        if recordings is None:
            clips = clips_of_samples(make_samples(config, seed=seed), reference)
        else:
            judged, how = recordings.relabel(metadata["labels"], named), "to judge by"
            if shared:
                count = options.calibration_clips if scheme.calibrated else 0
                _, judged, how = divide(judged, config, None, count=count, seed=seed)
            text = f"{len(judged)} clips {how} ({named})"
            clips = judged_clips(judged, config, reference, labelled=True, source=text)
        calibration = None
        if scheme.calibrated:
            shown = recordings if shared else None  # read already
            calibration = calibrate(options, config, shown, options.calibration_data, seed)
        return Evidence(
            reference=reference,
            samples=(),
            open_samples=(),
            inputs=clips.source,
            limits={scheme.name: load_limits(scheme.name)},
            clips=clips,
            calibration=calibration,
            int8_io=options.int8_io,
            raw=raw,
            raw_samples=make_raw_samples(raw, clips=recordings, seed=seed) if raw else (),
            frames=frames,
        )

    lengths = carried_lengths(metadata, source)
    return dataclasses.replace(gather(None), shorter={n: gather(n) for n in lengths})

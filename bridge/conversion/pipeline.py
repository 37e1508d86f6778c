"""The one pipeline: load, export, quantize, verify, move by verdict, and say what was done."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bridge.artifact.metadata import (
    carried_config,
    carried_kind,
    carried_raw,
    embed_metadata,
    read_metadata,
    tensors_of,
)
from bridge.artifact.raw_signature import RAW_FRAMES, RawSignature
from bridge.artifact.runtimes import open_runtime
from bridge.conversion.artifact_record import Artifact
from bridge.conversion.evidence import (
    Evidence,
    QuantizationOptions,
    calibrate,
    gather_evidence,
    same_file,
)
from bridge.conversion.folder import move_by_verdict, set_others_aside, staging_folder
from bridge.conversion.manifest import write_records
from bridge.conversion.route_run import RouteRun, describe, quantize_file
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
from bridge.verification.weights import judge_weights
from bridge.weights.source import Source, read_source
from signbart.console import redirect_output
from signbart.engines import run_tasks
from signbart.files import make_folder
from signbart.recordings.data_source import DataSource, read_recordings
from signbart.training.confidence import checked_temperature
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
    data: str | DataSource | None = None,
    samples: int = MIN_SAMPLES,
    seed: int = 0,
    verbose: bool = False,
    jobs: int = 1,
    raw_frames: int | None = None,
) -> list[Artifact]:
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
        temperature: Of the softmax over the logits; by default what the checkpoint says.
        data: Recordings to compare on.
        samples: Inputs per length; see `samples.make_samples`.
        seed: Of the comparison's inputs and of the choice of calibration clips.
        verbose: Show the converters' own output.
        jobs: Routes at a time, in processes of their own if more than one.
        raw_frames: Most frames of the signature that takes raw landmarks; 0: there is none. None:
            `RAW_FRAMES`, or the model's own number where that is higher.

    Raises:
        SignBartError: The input cannot be used. A failing route is no exception but a verdict.
    """
    chosen = select_routes(routes)
    quantization = quantization or QuantizationOptions()
    schemes = select_schemes(quantization.schemes)
    output = Path(output)
    with staging_folder(output) as folder:
        source = read_source(checkpoint, config=config, overrides=overrides, labels=labels)
        if temperature is not None:
            checked = checked_temperature(temperature, "--temperature")
            source = dataclasses.replace(source, temperature=checked)
        evidence = gather_evidence(
            source,
            schemes,
            quantization,
            data=data,
            samples=samples,
            seed=seed,
            raw=raw_signature(source, raw_frames),
        )
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
        artifacts = make_artifacts(runs, output, folder / LOG, jobs)
        listed = {artifact.parity.artifact for artifact in artifacts}
        set_others_aside(output, listed, source.sha256)
        write_records(output, folder, source, evidence, artifacts, seed)
    return artifacts


def raw_signature(source: Source, raw_frames: int | None) -> RawSignature | None:
    """The second signature, as for `convert`; None where it is not known or not wanted."""
    if raw_frames is None:
        raw_frames = max(RAW_FRAMES, source.config.data.max_frames)
    if raw_frames == 0 or not source.preprocessing_known:
        return None
    return RawSignature(source.config, raw_frames, source.temperature)


def file_name(name: str, route: str, scheme: str, ending: str) -> str:
    """Of an artifact; an .onnx is the model's own, whatever is made from it."""
    return f"{name}{ending}" if ending.endswith(".onnx") else f"{name}_{route}_{scheme}{ending}"


def make_artifacts(
    runs: Sequence[RouteRun],
    output: Path,
    log: Path,
    jobs: int = 1,
    report: Callable[[Artifact], None] = lambda artifact: None,
) -> list[Artifact]:
    """Takes routes, `jobs` at a time, and moves each artifact to where its verdict belongs.

    Each route has a log of its own, which ends up in `log`, one behind the other; `report` is
    called with each artifact.
    """
    # What makes most files takes longest; begun last, everybody would wait for it.
    order = sorted(runs, key=lambda run: -len(run.endings)) if jobs > 1 else list(runs)
    made = {}
    for at, of_route in run_tasks(
        order, min(jobs, len(runs)), crashed=lambda at: order[at].crashed(), name="route"
    ):
        made[id(order[at])] = of_route
    with open(log, "ab") as joined:
        for run in runs:
            if run.log.is_file():
                joined.write(run.log.read_bytes())
                run.log.unlink()
    artifacts = []
    for run in runs:
        for artifact in made[id(run)]:
            artifacts.append(_place(artifact, run, output))
            report(artifacts[-1])
    return artifacts


def _place(artifact: Artifact, run: RouteRun, output: Path) -> Artifact:
    """Moves an artifact to where its verdict belongs; of a wrong one the worst input is kept."""
    source = run.source
    path = move_by_verdict(artifact.path, output, artifact.parity)
    repro = ""
    if path is not None and artifact.parity.verdict == WRONG and artifact.tried:
        repro = save_repro(
            source.checkpoint, path, artifact.parity, artifact.tried, path.parent, source.options
        )
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
    make_folder(target.parent)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".quantizing-") as folder:
        path, log = Path(folder) / target.name, Path(folder) / "log"
        try:
            with redirect_output(log):
                record = quantize_file(
                    source,
                    scheme,
                    path,
                    evidence.calibration,
                    operators=carried_kind(metadata).quantized_operators,
                    int8_io=evidence.has_integer_edges(scheme.name),
                )
        except ConversionError as error:
            failed = Verdict(target.name, FAILED, str(error), scheme.name)
            return Artifact(metadata["route"], scheme.name, None, failed, inputs=inputs)
        about = {"scheme": scheme.name, "quantization": record}
        embed_metadata(path, metadata | about | tensors_of(open_runtime(path).spec))
        verdict, _ = evidence.judge(path, scheme.name)
        verdict = judge_weights(verdict, path, parent=source)
        second = evidence.judge_raw(path, scheme.name) if evidence.raw else None
        if verdict.passed and second and not second.passed:
            verdict = verdict.spoilt_by(second)
        path = move_by_verdict(path, target.parent, verdict)
        return Artifact(metadata["route"], scheme.name, path, verdict, second, inputs=inputs)


def _evidence_of(
    source: Path,
    metadata: dict,
    scheme: Scheme,
    options: QuantizationOptions,
    data: str | DataSource | None,
    seed: int,
) -> Evidence:
    """What a quantized file is judged by where its float form is the reference."""
    config, reference = carried_config(metadata, source), open_runtime(source)
    raw = carried_raw(metadata, config)
    recordings = read_recordings(data or options.calibration_data)
    named = str(data or options.calibration_data)
    shared = data is None or same_file(data, options.calibration_data)
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
    )

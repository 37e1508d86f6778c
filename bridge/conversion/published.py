"""Other people's checkpoints, by the one pipeline: the same few files of several models.

Where `pipeline.convert` makes every artifact of one checkpoint by every route that is asked for,
`export_models` takes the route that suits each model best, and names files by the model.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.conversion.artifact_record import Artifact
from bridge.conversion.evidence import Evidence, QuantizationOptions, with_clips
from bridge.conversion.folder import Change, staging_folder
from bridge.conversion.golden import GOLDEN, golden_json
from bridge.conversion.pipeline import make_artifacts
from bridge.conversion.raw_landmarks import raw_signature
from bridge.conversion.route_run import RouteRun
from bridge.errors import BridgeError
from bridge.quantization.schemes import FLOAT, Scheme
from bridge.routes import ROUTES, Route, routes_of
from bridge.verification.limits import BY_VALUE, Limits, load_limits
from bridge.verification.raw import make_raw_samples
from bridge.verification.samples import describe_samples
from bridge.verification.sequences import UnmaskedTorch, make_sequences
from signbart.artifacts.completeness import RESULTS
from signbart.artifacts.metadata import versions
from signbart.engines import Engine
from signbart.models.raw_spec import RawSignature
from signbart.recordings.data_source import DataSource, read_recordings

if TYPE_CHECKING:
    from bridge.weights.source import Source
    from signbart.recordings.clip import ClipSet

LOG = "export.log"
_BY_SEQUENCE = (FLOAT, "fp16")  # schemes that are compared number by number


def export_models(
    sources: Sequence[Source],
    output: str | Path,
    *,
    schemes: Sequence[Scheme],
    route: str | None = None,
    quantization: QuantizationOptions | None = None,
    verify: bool = True,
    data: str | DataSource | None = None,
    skipped: Mapping[str, str] | None = None,
    seed: int = 0,
    verbose: bool = False,
    raw_frames: int | None = None,
    jobs: int | None = 1,
    engine: Engine | None = None,
    report: Callable[[Artifact], None] = lambda artifact: None,
) -> dict[str, list[Artifact]]:
    """Exports models and compares every file with PyTorch.

    Args:
        sources: From `source.read_published_source`, each of another kind.
        output: Folder that receives the files, ``export_results.json`` and the log.
        schemes: Of the .tflite files.
        route: Name in `ROUTES`; by default each model's own.
        quantization: What to show the quantizer; its `schemes` do not count here.
        verify: Compare with PyTorch; without it names and shapes alone are checked.
        data: Recordings to compare on, beside random sequences.
        skipped: Kind -> why it is not among the sources, for the results.
        seed: Of the comparison's sequences.
        verbose: Show the converters' own output.
        raw_frames: As for `pipeline.convert`.
        jobs: Routes of whatever models at a time; otherwise as for `pipeline.convert`.
        engine: As for `pipeline.convert`.
        report: Called with each file.

    Returns:
        Kind -> its files.

    Raises:
        SignBartError: Something asked for does not exist. A file that cannot be made, or that
            disagrees, is no exception but a verdict.
    """
    output = Path(output)
    routes = {source.kind.name: _route_of(source, route) for source in sources}
    quantization = quantization or QuantizationOptions()
    recordings = read_recordings(data)
    evidence = {  # before anything is written: what cannot be used is refused here
        source.kind.name: sequence_evidence(
            source,
            schemes,
            quantization,
            data=data,
            recordings=recordings,
            seed=seed,
            raw=raw_signature(source, raw_frames),
        )
        for source in sources
    }
    with staging_folder(output) as folder:
        change = Change(output, folder)
        runs = []
        for source in sources:
            name = source.kind.name
            run_of = partial(
                RouteRun,
                source=source,
                evidence=evidence[name],
                name=partial(file_name, name),
                folder=folder,
                verbose=verbose,
                verify=verify,
            )
            chosen = routes[name]
            runs.append(run_of(route=chosen, endings=chosen.produces, schemes=tuple(schemes)))
            if ".onnx" not in chosen.produces:
                runs.append(run_of(route=ROUTES["onnx"], endings=(".onnx",), schemes=()))
        made: dict[str, list[Artifact]] = {source.kind.name: [] for source in sources}
        of_runs = make_artifacts(runs, change, LOG, jobs, report=report, engine=engine)
        for run, of_run in zip(runs, of_runs, strict=True):
            made[run.source.kind.name] += of_run
        for source in sources:
            change.set_others_aside(source.sha256, f"{source.kind.name}*")
        results = {
            "versions": versions(),
            "verified": verify,
            "real_sequences": str(data or "synthetic signs"),
            "seed": seed,
            "limits": {scheme.name: _limits(scheme.name).to_dict() for scheme in schemes},
            "skipped": dict(skipped or {}),
            "models": {
                source.kind.name: _about(source, made[source.kind.name], change)
                for source in sources
            },
        }
        for source in sources:
            name = source.kind.name
            golden = golden_json(source, made[name], evidence[name], seed)
            change.remove(f"{name}_{GOLDEN}")  # where none can be made
            if golden is not None:
                (change.made / f"{name}_{GOLDEN}").write_text(golden, encoding="utf-8")
        text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (change.made / RESULTS).write_text(text, encoding="utf-8")
        change.commit(RESULTS)
    return {
        name: [change.settled(artifact) for artifact in of_model] for name, of_model in made.items()
    }


def file_name(name: str, route: str, scheme: str, ending: str) -> str:
    """Of an artifact: by kind and scheme, whatever the route."""
    return f"{name}{ending}" if ending.endswith(".onnx") else f"{name}_{scheme}{ending}"


def sequence_evidence(
    source: Source,
    schemes: Sequence[Scheme],
    options: QuantizationOptions,
    *,
    data: str | DataSource | None,
    recordings: ClipSet | None,
    seed: int,
    raw: RawSignature | None = None,
) -> Evidence:
    """What artifacts of a sequence model are judged by; arguments as for `with_clips`.

    Short and long sequences, with and without a mask; and clips, for the schemes whose single
    numbers have no limit. Recordings are labelled ones, where the checkpoint knows its labels.

    Raises:
        SignBartError: A scheme needs recordings that are not given, or they do not fit.
    """
    fixed, any_length = make_sequences(source.config, clips=recordings, seed=seed)
    evidence = Evidence(
        reference=UnmaskedTorch(source.model, source.config),
        samples=fixed,
        open_samples=any_length,
        inputs=describe_samples(fixed, data),
        limits={name: _limits(name) for name in _BY_SEQUENCE},
        raw=raw,
        raw_samples=make_raw_samples(raw, clips=recordings, seed=seed) if raw else (),
    )
    # A published file does not say what its classes are called: then nobody is recognised.
    labelled = recordings if source.preprocessing_known else None
    if labelled is None and options.calibration_data is None:
        options = dataclasses.replace(options, calibration_data=data)
    return with_clips(evidence, source, schemes, options, data=data, recordings=labelled, seed=seed)


def _limits(scheme: str) -> Limits:
    if scheme in _BY_SEQUENCE:
        return load_limits(f"sequences_{scheme}", (*BY_VALUE, "cosine"))
    return load_limits(scheme)


def _route_of(source: Source, route: str | None) -> Route:
    name, carried = route or source.kind.default_route, routes_of(source.kind)
    if name not in carried:
        raise BridgeError(
            f"the {source.kind.title} has no route '{name}'; it has {', '.join(carried)}"
        )
    return ROUTES[name]


def _about(source: Source, artifacts: Sequence[Artifact], change: Change) -> dict[str, Any]:
    """The part of the results that is about one model."""
    from signbart_torch.models import num_parameters

    verdicts = [artifact.parity for artifact in artifacts]
    # What a route exports together took that time once.
    seconds = {(artifact.route, artifact.scheme): artifact.seconds for artifact in artifacts}
    return {
        "checkpoint": str(source.checkpoint),
        "checkpoint_sha256": source.sha256,
        "sizes": dataclasses.asdict(source.config.model),
        "parameters": num_parameters(source.model),
        "sequence_length": source.config.data.max_frames,
        "seconds": round(sum(seconds.values()), 1),
        "verdict": next((v.verdict for v in verdicts if not v.passed), verdicts[0].verdict),
        "artifacts": [
            {
                "path": str(change.final(artifact.path)) if artifact.path else None,
                **artifact.file_facts(),
                "scheme": artifact.scheme,
                "route": artifact.route,
                "seconds": round(artifact.seconds, 1),
                "verdict": artifact.parity.verdict,
                "reason": artifact.parity.reason,
                "sequences": artifact.parity.samples,
                "cosine_similarity": artifact.parity.cosine,
                "max_difference": artifact.parity.max_abs,
                "outputs": {name: dict(v) for name, v in artifact.parity.outputs.items()},
                "raw_max_difference": artifact.raw_parity and artifact.raw_parity.max_abs,
                "operators": dict(artifact.operators),
            }
            for artifact in artifacts
        ],
    }

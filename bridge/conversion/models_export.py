"""Other people's sequence models from checkpoint to verified .tflite and .onnx: `export_models`.

Unlike `pipeline`, which makes every artifact of one SignBART checkpoint by every route,
this makes the same few files of several models, by the route that suits each best.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.artifact.compaction import compact
from bridge.artifact.contents import foreign_operators, operators
from bridge.artifact.metadata import build_metadata, embed_metadata, tensors_of
from bridge.artifact.runtimes import open_runtime
from bridge.conversion.converter_log import chatter_to
from bridge.conversion.export_results import PACKAGES, export_results
from bridge.conversion.folder import set_others_aside, settle, workshop
from bridge.errors import BridgeError, ConversionError
from bridge.quantization.quantizer import quantize
from bridge.quantization.schemes import FLOAT, SCHEMES, Scheme
from bridge.routes import ROUTES, Route, routes_of
from bridge.verification.compare import FAILED, NOT_VERIFIED, WRONG, Parity, compare
from bridge.verification.limits import load_sequence_tolerance
from bridge.verification.sequences import UnmaskedTorch, make_sequences
from bridge.weights.model_sources import Source
from signbart.files import file_sha256
from signbart.models import io_spec
from signbart.models.io_spec import IOSpec

if TYPE_CHECKING:
    from bridge.verification.samples import Sample
    from signbart.recordings.clip import ClipSet

OFFERED = ("fp16", FLOAT)  # schemes, in the order of the files
RESULTS = "export_results.json"
LOG = "export.log"


@dataclass(frozen=True)
class Artifact:
    """One file of one model.

    Attributes:
        model: Key in `signbart.models.MODEL_KINDS`.
        scheme: ``fp32`` or ``fp16``; an .onnx is ``fp32``.
        route: What made it.
        path: Where it is; None where there is none. What does not agree is in ``rejected/``.
        parity: The comparison with PyTorch.
        seconds: Duration of its export or quantization.
        operators: Operator -> count.
    """

    model: str
    scheme: str
    route: str
    path: Path | None
    parity: Parity
    seconds: float
    operators: Mapping[str, int] = field(default_factory=dict)


def export_models(
    sources: Sequence[Source],
    output: str | Path,
    *,
    route: str | None = None,
    schemes: Sequence[Scheme] = tuple(SCHEMES[name] for name in OFFERED),
    verify: bool = True,
    clips: ClipSet | None = None,
    data: str | None = None,
    skipped: Mapping[str, str] | None = None,
    seed: int = 0,
    verbose: bool = False,
    report: Callable[[Artifact], None] = lambda artifact: None,
) -> list[Artifact]:
    """Exports models and compares every file with PyTorch.

    Args:
        sources: From `model_sources.read_source`.
        output: Folder that receives the files, ``export_results.json`` and the log.
        route: Name in `ROUTES`; by default each model's own.
        schemes: Of the .tflite files, among `OFFERED`.
        verify: Compare with PyTorch; without it names and shapes alone are checked.
        clips: Recordings to compare on, beside random sequences.
        data: Their path.
        skipped: Model -> why it is not among the sources, for the results.
        seed: Of the comparison's sequences.
        verbose: Show the converters' own output.
        report: Called with each file as it is done.

    Raises:
        SignBartError: Something asked for does not exist. A file that cannot be made, or that
            disagrees, is no exception but a verdict.
    """
    routes = {}
    for source in sources:
        name = route or source.row.default_route
        if name not in routes_of(source.row):
            raise BridgeError(
                f"the {source.row.title} has no route '{name}'; it has "
                f"{', '.join(routes_of(source.row))}"
            )
        routes[source.row.name] = ROUTES[name]
    output = Path(output)
    artifacts: list[Artifact] = []
    seconds: dict[str, float] = {}
    with workshop(output) as folder:
        for source in sources:
            started = time.perf_counter()
            job = _Job(
                source,
                routes[source.row.name],
                folder,
                output,
                schemes,
                make_sequences(source.config, clips=clips, seed=seed) if verify else None,
                verbose,
            )
            for artifact in job.artifacts():
                artifacts.append(artifact)
                report(artifact)
            seconds[source.row.name] = time.perf_counter() - started
            listed = {artifact.parity.artifact for artifact in artifacts}
            set_others_aside(output, listed, job.sha256, f"{source.row.name}*")
        results = export_results(sources, artifacts, seconds, skipped or {}, data, seed, verify)
        text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (folder / RESULTS).write_text(text, encoding="utf-8")
        for name in (RESULTS, LOG):
            if (folder / name).is_file():
                os.replace(folder / name, output / name)
    return artifacts


class _Job:
    """The export of one model."""

    def __init__(
        self,
        source: Source,
        route: Route,
        folder: Path,
        output: Path,
        schemes: Sequence[Scheme],
        sequences: tuple[list[Sample], list[Sample]] | None,
        verbose: bool,
    ):
        self.source, self.route, self.folder, self.output = source, route, folder, output
        self.schemes, self.sequences, self.verbose = schemes, sequences, verbose
        self.name = source.row.name
        self.sha256 = file_sha256(source.checkpoint)
        self.spec = io_spec(source.config)
        self.reference = UnmaskedTorch(source.model, source.config)

    def artifacts(self):
        """Makes one file after the other; yields each when it is where it belongs."""
        exported = {ending: self._path(FLOAT, ending) for ending in self.route.produces}
        plain = exported[".tflite"].with_suffix(".plain")
        started = time.perf_counter()
        problem = self._attempt(lambda: self._export(exported, plain))
        seconds = time.perf_counter() - started
        float_file = None
        if SCHEMES[FLOAT] in self.schemes:
            float_file = self._settle(exported[".tflite"], FLOAT, self.route, seconds, problem)
        else:
            exported[".tflite"].unlink(missing_ok=True)
        for scheme in self.schemes:
            if scheme.name == FLOAT:
                yield float_file
                continue
            path = self._path(scheme.name, ".tflite")
            started = time.perf_counter()
            made = problem or self._attempt(lambda p=path, s=scheme: quantize(plain, s, p))
            spent = time.perf_counter() - started
            yield self._settle(path, scheme.name, self.route, spent, made)
        onnx = self._path(FLOAT, ".onnx")
        if ".onnx" not in exported:
            problem, started = "", time.perf_counter()
            problem = self._attempt(
                lambda: ROUTES["onnx"].export(self.source.model, self.spec, {".onnx": onnx})
            )
            seconds = time.perf_counter() - started
        yield self._settle(onnx, FLOAT, ROUTES["onnx"], seconds, problem)

    def _path(self, scheme: str, ending: str) -> Path:
        return self.folder / f"{self.name}{'' if ending == '.onnx' else f'_{scheme}'}{ending}"

    def _export(self, paths: Mapping[str, Path], plain: Path) -> None:
        self.route.export(self.source.model, self.spec, paths)
        compact(paths[".tflite"])
        shutil.copyfile(paths[".tflite"], plain)  # what is quantized: it has no metadata yet

    def _attempt(self, make: Callable[[], None]) -> str:
        """Runs a step with its chatter in the log; why it failed, empty where it did not."""
        with chatter_to(self.folder / LOG, self.verbose):
            try:
                make()
            except BridgeError as error:
                return str(error)
            # Converters, and what reads their files, fail with every kind of exception.
            except Exception as error:
                traceback.print_exc()
                return f"{type(error).__name__}: {error}"
        return ""

    def _settle(
        self, path: Path, scheme: str, route: Route, seconds: float, problem: str
    ) -> Artifact:
        """Completes a file, judges it, and moves it to where its verdict belongs."""
        judged: list[tuple[Parity, Mapping[str, int]]] = []
        if problem:
            path.unlink(missing_ok=True)  # a converter may have stopped in the middle of it
        problem = problem or self._attempt(lambda: judged.append(self._judge(path, scheme, route)))
        failed = Parity(path.name, FAILED, " ".join(problem.split()), scheme=scheme)
        parity, counted = judged[0] if judged else (failed, {})
        settled = settle(path, self.output, parity)
        return Artifact(self.name, scheme, route.name, settled, parity, seconds, counted)

    def _judge(self, path: Path, scheme: str, route: Route) -> tuple[Parity, Mapping[str, int]]:
        """The comparison of the very file that is shipped, and its operators."""
        counted = dict(operators(path).most_common())
        foreign = foreign_operators(path)
        if foreign:
            raise ConversionError(
                f"a plain runtime lacks {', '.join(foreign)}, which route '{route.name}' left in "
                "the file; choose another --route"
            )
        promised = self.reference.spec if path.suffix == ".onnx" else self.spec
        embed_metadata(path, self._metadata(route, scheme, promised))
        runtime = open_runtime(path)
        if not runtime.spec.keeps(promised):
            raise ConversionError(
                f"the file takes and gives {runtime.spec.describe()}; it had to be "
                f"{promised.describe()}"
            )
        if self.sequences is None:
            return Parity(path.name, NOT_VERIFIED, scheme=scheme), counted
        samples = self.sequences[path.suffix == ".onnx"]
        limits = load_sequence_tolerance(scheme)
        parity = compare(self.reference, runtime, samples, atol=limits.max_abs, rtol=0.0)
        return _judge_cosine(parity, limits.cosine, scheme), counted

    def _metadata(self, route: Route, scheme: str, promised: IOSpec) -> dict[str, Any]:
        metadata = build_metadata(
            self.source.config,
            self.source.class_names,
            self.spec,
            checkpoint_sha256=self.sha256,
            route=route.name,
            scheme=scheme,
            packages=PACKAGES,
        )
        if not self.source.preprocessing_known:
            config = self.source.config.to_dict()
            metadata |= {"preprocessing": None, "config": {"model": config["model"]}}
        return metadata | tensors_of(promised)


def _judge_cosine(parity: Parity, limit: float, scheme: str) -> Parity:
    """Adds the limit on the cosine to a comparison of values."""
    parity = dataclasses.replace(parity, scheme=scheme)
    if parity.cosine is None or parity.cosine > limit:
        return parity
    which = min(parity.outputs, key=lambda name: parity.outputs[name]["cosine"], default="output")
    reason = f"{which}: cosine similarity {parity.cosine:.7f}, limit {limit:g}"
    if parity.reason:
        reason = f"{reason}; {parity.reason}"
    return dataclasses.replace(parity, verdict=WRONG, reason=reason)

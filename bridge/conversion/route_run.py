"""One model by one route: exported, completed, quantized, verified."""

from __future__ import annotations

import dataclasses
import shutil
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bridge.artifact.lengths import add_lengths
from bridge.artifact.runtimes import open_runtime
from bridge.conversion.artifact_record import Artifact
from bridge.conversion.evidence import Evidence
from bridge.conversion.quantized import quantize_file
from bridge.errors import ConversionError
from bridge.quantization.schemes import FLOAT, SCHEMES, Scheme
from bridge.routes import RAW_ONNX, Route
from bridge.verification.clips import with_scores
from bridge.verification.compare import diagnose
from bridge.verification.verdict import FAILED, NOT_VERIFIED, Verdict
from bridge.verification.weights import judge_weights
from bridge.weights.source import Source
from signbart.artifacts.compaction import compact
from signbart.artifacts.contents import foreign_operators, multiply_accumulates, operators
from signbart.artifacts.lengths import config_at, signature_at
from signbart.artifacts.metadata import build_metadata, embed_metadata, tensors_of
from signbart.console import redirect_output
from signbart.errors import SignBartError
from signbart.files import temporary_folder
from signbart.models import io_spec
from signbart.models.io_spec import RAW_SIGNATURE, SIGNATURE, IOSpec
from signbart.models.raw_spec import RawSignature
from signbart.waiting import stage


@dataclass(frozen=True)
class RouteRun:
    """One route to take for one model. It can be pickled, for a process of its own.

    Attributes:
        source: The model.
        route: The route.
        endings: Of the files that it is to export.
        schemes: What to make of its .tflite.
        evidence: What the files are judged by.
        name: (route, scheme, ending) -> file name.
        folder: Receives the files.
        verbose: Show the converters' output, and keep no log of it.
        verify: Compare with PyTorch; otherwise names, shapes and operators alone are checked.
    """

    source: Source
    route: Route
    endings: tuple[str, ...]
    schemes: tuple[Scheme, ...]
    evidence: Evidence
    name: Callable[[str, str, str], str]
    folder: Path
    verbose: bool = False
    verify: bool = True

    def path(self, scheme: str, ending: str) -> Path:
        """Where a file is made."""
        if self.evidence.has_integer_edges(scheme):
            scheme = f"{scheme}_io"
        return self.folder / self.name(self.route.name, scheme, ending)

    @property
    def _made(self) -> tuple[str, ...]:
        """Endings of all files that the route exports."""
        raw_onnx = self.evidence.raw and ".onnx" in self.endings
        return (*self.endings, RAW_ONNX) if raw_onnx else self.endings

    @property
    def log(self) -> Path:
        """Receives the converters' output."""
        return self.folder / f"convert_{self.source.config.kind}_{self.route.name}.log"

    @property
    def plain(self) -> Path:
        """What is quantized: the float .tflite before it gets its metadata."""
        return self.folder / f"plain_{self.source.config.kind}_{self.route.name}.tflite"

    def __call__(self) -> list[Artifact]:
        """Exports, quantizes the .tflite, and judges all that came of it."""
        with stage(f"{self.source.config.name} by route {self.route.name}"):
            return self._make()

    def _make(self) -> list[Artifact]:
        started = time.perf_counter()
        _, problem = self._attempt("exporting", self._export)
        seconds = time.perf_counter() - started
        made: list[Artifact] = []
        usable = Verdict(self.plain.name, FAILED, "the route makes no .tflite")
        for ending in self._made:
            path = self.path(FLOAT, ending)
            if problem:
                path.unlink(missing_ok=True)  # a converter may have stopped in the middle of it
            artifact = self._finish(path, SCHEMES[FLOAT], seconds, problem)
            if ending == ".tflite":
                usable = artifact.parity
                if usable.passed and SCHEMES[FLOAT] not in self.schemes:
                    path.unlink()  # nobody asked for it
                    continue
            made.append(artifact)
        for scheme in self.schemes:
            if scheme.name == FLOAT:
                continue
            started = time.perf_counter()
            path, record = self.path(scheme.name, ".tflite"), None
            problem = f"its float32 form is not usable: {usable.verdict}: {usable.reason}"
            if usable.passed:
                quantize = partial(self._quantize, scheme, path)
                record, problem = self._attempt(f"quantizing to {scheme.name}", quantize)
            artifact = self._finish(path, scheme, 0.0, problem, record)
            seconds = time.perf_counter() - started
            made.append(dataclasses.replace(artifact, seconds=seconds))
        self.plain.unlink(missing_ok=True)
        return made

    def crashed(self) -> list[Artifact]:
        """What a call gives where the converter did not even let it return."""
        expected = [(FLOAT, ending) for ending in self._made]
        expected += [(s.name, ".tflite") for s in self.schemes if s.name != FLOAT]
        reason = "the converter ended its process; the log of the output folder has its last words"
        paths = [(scheme, self.path(scheme, ending)) for scheme, ending in expected]
        for path in (self.plain, *(path for _, path in paths)):
            path.unlink(missing_ok=True)  # nobody judged it
        return [self._failed(path, scheme, reason) for scheme, path in paths]

    def _failed(self, path: Path, scheme: str, reason: str) -> Artifact:
        return Artifact(self.route.name, scheme, path, Verdict(path.name, FAILED, reason, scheme))

    def _export(self) -> None:
        paths = {ending: self.path(FLOAT, ending) for ending in self._made}
        self.route.export(self.source.model, self._spec(), paths, self.evidence.raw)
        if ".tflite" in paths:
            compact(paths[".tflite"])
            self._add_lengths(paths[".tflite"])
            shutil.copyfile(paths[".tflite"], self.plain)

    def _add_lengths(self, path: Path) -> None:
        """Converts the model again for each shorter length; see `artifact.lengths`."""
        with temporary_folder() as folder:
            parts = {n: folder / f"{n}.tflite" for n in self.evidence.shorter}
            for frames, part in parts.items():
                spec, raw = self._spec(frames), self.evidence.shorter[frames].raw
                with stage(f"for {frames} frames"):
                    self.route.export(self.source.model, spec, {".tflite": part}, raw)
                compact(part)
            add_lengths(path, parts)

    def _spec(self, frames: int | None = None) -> IOSpec:
        """Inputs and outputs for `frames`, of one clip; None: for as many as the model is of."""
        return io_spec(config_at(self.source.config, frames))

    def _quantize(self, scheme: Scheme, path: Path) -> dict[str, Any]:
        return quantize_file(
            self.plain,
            scheme,
            path,
            self.evidence.calibrations,
            operators=self.source.kind.quantized_operators,
            int8_io=self.evidence.has_integer_edges(scheme.name),
        )

    def _finish(
        self,
        path: Path,
        scheme: Scheme,
        seconds: float,
        problem: str,
        record: dict[str, Any] | None = None,
    ) -> Artifact:
        """Completes a file and judges it: the very file that is shipped."""
        if not problem and not path.is_file():
            problem = "the route wrote no such file"
        if not problem:
            judge = partial(self._judge, path, scheme, record)
            artifact, problem = self._attempt(f"comparing {path.name}", judge)
        if problem:
            artifact = self._failed(path, scheme.name, problem)
        return dataclasses.replace(artifact, seconds=seconds)

    def _judge(self, path: Path, scheme: Scheme, record: dict[str, Any] | None) -> Artifact:
        counted = dict(operators(path).most_common())
        foreign = foreign_operators(path)
        if foreign:
            raise ConversionError(
                f"a plain runtime lacks {', '.join(foreign)}, which route '{self.route.name}' left "
                "in the artifact; choose another --route"
            )
        raw, takes_raw = self.evidence.raw, path == self.path(FLOAT, RAW_ONNX)
        promised = self._spec()
        if takes_raw:
            promised = raw.spec
        elif path.suffix == ".onnx":  # of any batch and, if the model allows, any length
            open_frames = None if self.source.kind.open_length else -1
            promised = io_spec(self.source.config, batch=None, frames=open_frames)
        else:
            promised = self.evidence.promised(promised, scheme.name)
        found = open_runtime(path).spec
        if not found.keeps(promised):
            raise ConversionError(
                f"the artifact takes and gives {found.describe()}; it had to be "
                f"{promised.describe()}"
            )
        if is_tflite := path.suffix == ".tflite":
            self._check_other_signatures(path, scheme)
        products = multiply_accumulates(path) if is_tflite else {}
        # Scales and zero points are the file's own.
        tensors = tensors_of(promised if scheme.name == FLOAT else found)
        carried = raw if is_tflite or takes_raw else None
        lengths = self.evidence.shorter if is_tflite else ()
        metadata = describe(self.source, self.route, scheme.name, carried, lengths) | tensors
        metadata["signature"] = promised.signature
        embed_metadata(path, metadata | ({"quantization": record} if record else {}))
        artifact = Artifact(
            route=self.route.name,
            scheme=scheme.name,
            path=path,
            parity=Verdict(path.name, NOT_VERIFIED, scheme=scheme.name),
            operators=counted,
            multiply_accumulates=products,
        )
        if not self.verify:
            return artifact
        if takes_raw:
            verdict, tried = self.evidence.judge_raw(path, scheme.name), self.evidence.raw_samples
            return dataclasses.replace(artifact, parity=verdict, tried=tried)
        verdict, tried = self.evidence.judge(path, scheme.name)
        model, rms = self.source.model, self.evidence.limits[scheme.name].layer_rms
        verdict = diagnose(model, path, verdict, tried, rms)
        verdict = judge_weights(verdict, path, model=model, parent=self.plain)
        clips = self.evidence.clips
        if verdict.passed and clips and scheme.name == FLOAT and path.suffix == ".tflite":
            verdict = with_scores(verdict, path, clips)  # what quantized forms are seen beside
        artifact = dataclasses.replace(artifact, parity=verdict, tried=tried)
        return artifact.with_others(self.evidence) if is_tflite else artifact

    def _check_other_signatures(self, path: Path, scheme: Scheme) -> None:
        """Refuses a .tflite whose signatures, but the first, are none or not the promised ones."""
        for evidence in (self.evidence, *self.evidence.shorter.values()):
            promised = {}
            if evidence.frames:
                promised[SIGNATURE] = evidence.promised(self._spec(evidence.frames), scheme.name)
            if evidence.raw:
                promised[RAW_SIGNATURE] = evidence.raw.spec
            for name, spec in promised.items():
                signature = signature_at(name, evidence.frames)
                found = open_runtime(path, signature).spec
                if not found.keeps(spec):
                    raise ConversionError(
                        f"signature {signature} takes and gives {found.describe()}; it had to be "
                        f"{spec.describe()}"
                    )

    def _attempt(self, what: str, step: Callable[[], Any]) -> tuple[Any, str]:
        """Runs a step with its output in the log: its result, and why it failed, if it did."""
        with stage(what), redirect_output(self.log, self.verbose):
            try:
                return step(), ""
            except SignBartError as error:
                return None, str(error)
            # Converters, and what reads their files, fail with every kind of exception.
            except Exception as error:
                traceback.print_exc()
                return None, f"{type(error).__name__}: {error}"


def describe(
    source: Source,
    route: Route,
    scheme: str,
    raw: RawSignature | None = None,
    lengths: Collection[int] = (),
) -> dict[str, Any]:
    """What an artifact of fixed sizes says of itself; see `artifact.metadata`."""
    metadata = build_metadata(
        source.config,
        source.class_names,
        io_spec(source.config),
        checkpoint_sha256=source.sha256,
        route=route.name,
        scheme=scheme,
        temperature=source.temperature,
        threshold=source.threshold,
        raw=raw,
        lengths=lengths,
    )
    if not source.preprocessing_known:
        config = source.config.to_dict()
        metadata |= {"preprocessing": None, "config": {"model": config["model"]}}
    return metadata

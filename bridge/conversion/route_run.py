"""What all routes of one conversion share, and what is made and judged with it by each route."""

from __future__ import annotations

import dataclasses
import shutil
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.artifact.compaction import compact
from bridge.artifact.contents import foreign_operators, multiply_accumulates, operators
from bridge.artifact.metadata import build_metadata, embed_metadata, tensors_of
from bridge.artifact.runtimes import Runtime, open_runtime
from bridge.conversion.converter_log import chatter_to
from bridge.conversion.evidence import QuantizationJob
from bridge.errors import BridgeError, ConversionError
from bridge.quantization.schemes import FLOAT, Scheme
from bridge.routes import Route
from bridge.verification.clips import with_scores
from bridge.verification.compare import FAILED, Parity, compare_artifact, diagnose
from bridge.verification.limits import Tolerance
from bridge.verification.samples import Sample
from signbart.configuration.schema import RunConfig
from signbart.models.io_spec import IOSpec

if TYPE_CHECKING:
    from signbart_torch.models.signbart.model import SignBart

PACKAGES = (
    *("torch", "litert-torch", "ai-edge-litert", "onnx", "onnx2tf", "onnxruntime"),
    *("tensorflow", "keras", "numpy", "ai-edge-quantizer"),
)


@dataclass(frozen=True)
class Judged:
    """A fresh artifact, before it goes to where its verdict belongs.

    Attributes:
        parity: The comparison with PyTorch.
        operators: Operator -> count; empty where there is none.
        multiply_accumulates: Number format -> count, of a .tflite.
        tried: The inputs of the comparison.
    """

    parity: Parity
    operators: Mapping[str, int] = field(default_factory=dict)
    multiply_accumulates: Mapping[str, int] = field(default_factory=dict)
    tried: Sequence[Sample] = ()


@dataclass(frozen=True)
class Made:
    """One artifact of a route, still in the workshop.

    Attributes:
        route: What made it.
        scheme: Name of its quantization scheme.
        path: Where it is, if it could be made.
        artifact: Its verdict.
        seconds: Duration of the route's export, which may have made several artifacts, or of the
            quantization.
    """

    route: Route
    scheme: str
    path: Path
    artifact: Judged
    seconds: float


@dataclass(frozen=True)
class ConversionJob:
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
            packages=PACKAGES,
        )

    def verify(self, path: Path, route: Route, problem: str) -> Judged:
        """Completes a fresh float artifact and compares it with PyTorch: the very file shipped.

        Args:
            path: The artifact.
            route: What made it.
            problem: Why there is none; empty where there is one.
        """
        if problem or not path.is_file():
            return Judged(Parity(path.name, FAILED, problem or "the route wrote no such file"))
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
            return Judged(parity, counted, products, tried)
        except BridgeError as error:
            return Judged(Parity(path.name, FAILED, str(error)))
        # Reading what a converter wrote can fail in any way; that too is a verdict on one artifact.
        except Exception as error:
            traceback.print_exc()
            return Judged(Parity(path.name, FAILED, f"{type(error).__name__}: {error}"))

    def quantize(
        self, plain: Path, scheme: Scheme, path: Path, route: Route, float_parity: Parity
    ) -> Judged:
        """Makes a quantized artifact from a float one and judges it on clips."""
        failed = Parity(path.name, FAILED, scheme=scheme.name)
        if not float_parity.passed:
            reason = f"its float32 form is not usable: {float_parity.verdict}"
            return Judged(dataclasses.replace(failed, reason=reason))
        try:
            record = self.quantization.make(plain, scheme, path)
            spec = open_runtime(path).spec
            _require(spec, self.quantization.promised(self.spec, scheme))
            metadata = self.metadata(route, scheme.name, spec)
            embed_metadata(path, metadata | {"quantization": record})
            return Judged(
                self.quantization.judge(path, scheme),
                dict(operators(path).most_common()),
                record["multiply_accumulates"],
                self.quantization.clips.samples(),
            )
        except BridgeError as error:
            return Judged(dataclasses.replace(failed, reason=str(error)))
        except Exception as error:
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}"
            return Judged(dataclasses.replace(failed, reason=reason))


def make_by(
    route: Route,
    schemes: Sequence[Scheme],
    job: ConversionJob,
    folder: Path,
    log: Path,
    verbose: bool,
) -> list[Made]:
    """Exports by one route, quantizes its .tflite, and judges all that came of it.

    Its arguments and results can be pickled: routes run in processes of their own.

    Args:
        route: The route.
        schemes: What to make of its .tflite.
        job: What all routes share.
        folder: The workshop.
        log: Receives the converters' output.
        verbose: Show it instead.
    """
    started = time.perf_counter()
    paths = {ending: folder / job.file_name(route, FLOAT, ending) for ending in route.produces}
    plain = folder / f"plain_{route.name}.tflite"  # what is quantized: it has no metadata yet
    problem = ""
    with chatter_to(log, verbose):
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
    made = []
    float_parity = None
    for ending, path in paths.items():
        with chatter_to(log, verbose):
            artifact = job.verify(path, route, problem)
        if ending == ".tflite":
            float_parity = artifact.parity
            if artifact.parity.passed and all(scheme.name != FLOAT for scheme in schemes):
                path.unlink()  # nobody asked for it
                continue
        made.append(Made(route, FLOAT, path, artifact, seconds))
    for scheme in schemes:
        if scheme.name == FLOAT:
            continue
        started = time.perf_counter()
        path = folder / job.file_name(route, scheme.name, ".tflite")
        with chatter_to(log, verbose):
            artifact = job.quantize(plain, scheme, path, route, float_parity)
        seconds = time.perf_counter() - started
        made.append(Made(route, scheme.name, path, artifact, seconds))
    plain.unlink(missing_ok=True)
    return made


def fallen(
    route: Route,
    schemes: Sequence[Scheme],
    job: ConversionJob,
    folder: Path,
    log: Path,
    verbose: bool,
) -> list[Made]:
    """What `make_by` gives where the converter did not even let it return; same arguments."""
    expected = [(FLOAT, ending) for ending in route.produces]
    expected += [(scheme.name, ".tflite") for scheme in schemes if scheme.name != FLOAT]
    reason = "the converter ended its process; the last of its output is in convert.log"
    made = []
    for scheme, ending in expected:
        name = job.file_name(route, scheme, ending)
        (folder / name).unlink(missing_ok=True)  # nobody judged it
        parity = Parity(name, FAILED, reason, scheme=scheme)
        made.append(Made(route, scheme, folder / name, Judged(parity), 0.0))
    (folder / f"plain_{route.name}.tflite").unlink(missing_ok=True)
    return made


def _require(found: IOSpec, promised: IOSpec) -> None:
    if not found.keeps(promised):
        raise ConversionError(
            f"the artifact takes and gives {found.describe()}; it had to be {promised.describe()}"
        )

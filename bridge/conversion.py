"""From a checkpoint to verified artifacts: `convert`, what the command of that name does."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.arguments import MIN_SAMPLES, published_options
from bridge.describe import foreign_operators, operators
from bridge.errors import BridgeError, ConversionError
from bridge.metadata import build_metadata, embed_metadata, read_metadata, tensors_of
from bridge.model_card import model_card
from bridge.parity import FAILED, WRONG, Parity, compare_artifact, diagnose, save_repro
from bridge.parity_report import write_reports
from bridge.routes import Route, select_routes
from bridge.runtimes import Runtime, TorchRuntime, open_runtime
from bridge.samples import Sample, describe_samples, make_samples, read_recordings
from bridge.spec import IOSpec, io_spec
from bridge.tolerances import Tolerance, load_tolerance
from signbart.config import RunConfig, load_config
from signbart.files import make_folder

if TYPE_CHECKING:
    from signbart_torch.model import SignBart

SCHEME = "fp32"
_WORKSHOP = ".converting-"
_PACKAGES = (
    *("torch", "litert-torch", "ai-edge-litert", "onnx", "onnx2tf", "onnxruntime"),
    *("tensorflow", "keras", "numpy"),
)


@dataclass(frozen=True)
class Conversion:
    """One artifact of one route.

    Attributes:
        route: The route's name.
        path: The artifact; None where there is none. What does not agree with PyTorch goes into
            ``rejected/``, so that it cannot be shipped by accident.
        parity: The comparison with PyTorch.
        seconds: Duration of the route's export, which may have made several artifacts.
        operators: Operator -> count; empty where the export failed.
        preprocessing: What the artifact says of it.
        inputs: How many inputs it was compared on, and where they came from.
        repro: A command that repeats the comparison on the worst input; empty on a pass.
    """

    route: str
    path: Path | None
    parity: Parity
    seconds: float
    operators: dict[str, int]
    preprocessing: dict[str, Any]
    inputs: str
    repro: str = ""


def convert(
    checkpoint: str | Path,
    output: str | Path,
    *,
    routes: Sequence[str] = ("litert",),
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
        checkpoint: .safetensors of `signbart_torch.train`, or a published .pth.
        output: Folder that receives the artifacts, manifest, parity report, model card and log.
        routes: Names or aliases of `ROUTES`; ``all`` for every one.
        config: Configuration of a published .pth.
        overrides: ``section.key=value`` texts on top of it.
        labels: label2id.json of a published .pth.
        data: Recordings to compare on.
        samples: Inputs a length; see `samples.make_samples`.
        seed: Of the comparison's inputs.
        verbose: Show the converters' own output.

    Raises:
        SignBartError: The input cannot be used. A failing route is no exception but a verdict.
    """
    chosen = select_routes(routes)
    output = Path(output)
    make_folder(output)
    for left_over in output.glob(f"{_WORKSHOP}*"):  # of a conversion that was killed
        shutil.rmtree(left_over, ignore_errors=True)

    from signbart_torch.checkpoint import file_sha256, load_model

    model, run_config, class_names = load_model(
        checkpoint, load_config(config, overrides) if config else None, read_labels(labels)
    )
    made = make_samples(run_config, clips=read_recordings(data), samples=samples, seed=seed)
    reference = TorchRuntime(model, run_config)
    sha256 = file_sha256(checkpoint)
    spec = io_spec(run_config)
    inputs = describe_samples(made, data)
    published = published_options(config, overrides)
    job = _Job(
        model=model,
        spec=spec,
        reference=reference,
        samples=made,
        tolerance=load_tolerance(SCHEME),
        metadata={
            route.name: build_metadata(
                run_config,
                class_names,
                spec,
                checkpoint_sha256=sha256,
                route=route.name,
                scheme=SCHEME,
                packages=_PACKAGES,
            )
            for route in chosen
        },
    )
    conversions = []
    with tempfile.TemporaryDirectory(dir=output, prefix=_WORKSHOP) as folder:
        log = Path(folder) / "convert.log"
        for route in chosen:
            started = time.perf_counter()
            paths = {ending: Path(folder) / _file_name(run_config, route, ending)
                     for ending in route.produces}  # fmt: skip
            try:
                with _chatter_to(log, verbose):
                    route.export(model, job.spec, paths)
                problem = ""
            except BridgeError as error:
                problem = str(error)
            seconds = time.perf_counter() - started
            for path in paths.values():
                with _chatter_to(log, verbose):
                    parity, counted = job.verify(path, route, problem)
                settled = _settle(path, output, parity)
                repro = ""
                if settled is not None and parity.verdict == WRONG:
                    repro = save_repro(
                        checkpoint, settled, parity, job.tried, settled.parent, published
                    )
                conversions.append(
                    Conversion(
                        route.name,
                        settled,
                        parity,
                        seconds,
                        counted,
                        job.metadata[route.name]["preprocessing"],
                        inputs,
                        repro,
                    )
                )
        _set_others_aside(
            output, {conversion.parity.artifact for conversion in conversions}, sha256
        )
        comparison = {
            "reference": Path(checkpoint).name,
            "atol": job.tolerance.atol,
            "rtol": job.tolerance.rtol,
            "inputs": len(made),
            "seed": seed,
            "inputs from": inputs,
        }
        _write_reports(output, Path(folder), conversions, job, comparison)
    return conversions


def _file_name(config: RunConfig, route: Route, ending: str) -> str:
    """An .onnx is the model's own, whatever is made from it."""
    if ending == ".onnx":
        return f"{config.name}.onnx"
    return f"{config.name}_{route.name}_{SCHEME}{ending}"


class _Job:
    """What all routes of one conversion share."""

    def __init__(
        self,
        *,
        model: SignBart,
        spec: IOSpec,
        reference: Runtime,
        samples: Sequence[Sample],
        tolerance: Tolerance,
        metadata: dict[str, dict[str, Any]],
    ):
        self.model, self.spec, self.reference = model, spec, reference
        self.samples, self.tolerance = samples, tolerance
        self.metadata = metadata
        self.tried: Sequence[Sample] = samples

    def verify(self, path: Path, route: Route, problem: str) -> tuple[Parity, dict[str, int]]:
        """Completes a fresh artifact and compares it with PyTorch: the very file that is shipped.

        Args:
            path: The artifact.
            route: What made it.
            problem: Why there is none; empty where there is one.
        """
        if problem or not path.is_file():
            return Parity(path.name, FAILED, problem or "the route wrote no such file"), {}
        try:
            counted = dict(operators(path).most_common())
            foreign = foreign_operators(path)
            if foreign:
                raise ConversionError(f"a plain runtime lacks the artifact's {', '.join(foreign)}")
            metadata = self.metadata[route.name]
            if path.suffix == ".onnx":
                metadata = metadata | tensors_of(self.reference.spec)  # any batch, any length
            embed_metadata(path, metadata)
            promised = self.reference.spec if path.suffix == ".onnx" else self.spec
            found = open_runtime(path).spec
            if not found.keeps(promised):
                raise ConversionError(
                    f"the artifact takes and gives {found.describe()}; it had to be "
                    f"{promised.describe()}"
                )
            parity, self.tried = compare_artifact(
                self.reference,
                path,
                self.samples,
                atol=self.tolerance.atol,
                rtol=self.tolerance.rtol,
            )
            return diagnose(self.model, path, parity, self.tried), counted
        except BridgeError as error:
            return Parity(path.name, FAILED, str(error)), {}
        # Reading what a converter wrote can fail in any way; that too is a verdict on one artifact.
        except Exception as error:
            traceback.print_exc()
            return Parity(path.name, FAILED, f"{type(error).__name__}: {error}"), {}


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
    if parity.passed:
        bad.with_name(f"repro_{bad.name}.npz").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty: another route's artifact was rejected
        (output / "rejected").rmdir()
    return target


def _set_others_aside(output: Path, listed: set[str], sha256: str) -> None:
    """Moves another checkpoint's artifacts to ``rejected/``: the new papers are not theirs."""
    for path in [*output.glob("*.tflite"), *output.glob("*.onnx")]:
        if path.name in listed:
            continue
        try:
            same = read_metadata(path)["checkpoint_sha256"] == sha256
        except (BridgeError, KeyError):
            continue  # not this command's
        if not same:
            (output / "rejected").mkdir(exist_ok=True)
            os.replace(path, output / "rejected" / path.name)
    for picture in output.glob("parity_*.png"):
        picture.unlink()


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


def read_labels(path: str | Path | None) -> tuple[str, ...]:
    """Class names in the order of their ids, from a label2id.json; none without a path.

    Raises:
        BridgeError: The file cannot be read, or its ids are not 0, 1, 2, …
    """
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
    job: _Job,
    comparison: dict[str, Any],
) -> None:
    """Manifest, parity report, model card and log; each whole or not at all."""
    metadata = next(iter(job.metadata.values()))
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
                **({"repro": conversion.repro} if conversion.repro else {}),
            }
            for conversion in conversions
        ],
    }
    reports = {
        "manifest.json": json.dumps(manifest, indent=2, ensure_ascii=False) + "\n",
        "MODEL_CARD.md": model_card(metadata, parities),
    }
    for name, text in reports.items():
        (folder / name).write_text(text, encoding="utf-8")
    write_reports(parities, comparison, folder, job.tolerance.atol)
    for file in folder.iterdir():
        os.replace(file, output / file.name)


def _file_facts(path: Path, output: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {
        "file": str(path.relative_to(output)),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }

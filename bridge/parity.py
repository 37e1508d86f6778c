"""Do two runtimes agree? Names, then shapes, dtypes, NaN and infinity, and only then values.

Legend: C classes, T frames, K keypoints.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bridge.arguments import add_comparison_arguments
from bridge.errors import ArtifactError, RuntimeInputError
from bridge.samples import Sample, make_samples, read_recordings
from bridge.spec import LOGITS
from signbart.console import markdown_table, print_table, run_command

if TYPE_CHECKING:
    from bridge.runtimes import Runtime

# Float32 on another backend: the published operators reorder sums, which costs some 1e-6 here.
FLOAT32_ATOL, FLOAT32_RTOL = 1e-5, 1e-5

PASS, WRONG, FAILED = "pass", "exported but wrong", "failed"


@dataclass(frozen=True)
class Parity:
    """How far a candidate is from the reference.

    Differences are in logits; None where the comparison did not get that far.

    Attributes:
        artifact: Name of the candidate.
        verdict: `PASS`, `WRONG` (runs, but disagrees) or `FAILED` (does not run or does not fit).
        reason: One sentence; empty on a pass.
        samples: Number of inputs compared.
        max_abs: Largest absolute difference.
        mean_abs: Mean absolute difference.
        rmse: Root of the mean squared difference.
        max_scaled: `max_abs` over the root mean square of the reference's logits.
        cosine: Smallest cosine similarity of a sample's logits.
        argmax_agreement: Share of samples with the same highest class.
        worst_sample: Description of the sample with the largest excess over the tolerance.
        disagreements: For each sample whose highest class differs: its description, both classes,
            and the reference's margin between them.
    """

    artifact: str
    verdict: str
    reason: str = ""
    samples: int = 0
    max_abs: float | None = None
    mean_abs: float | None = None
    rmse: float | None = None
    max_scaled: float | None = None
    cosine: float | None = None
    argmax_agreement: float | None = None
    worst_sample: str = ""
    disagreements: tuple[Mapping[str, Any], ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the candidate may be shipped."""
        return self.verdict == PASS


def compare(
    reference: Runtime,
    candidate: Runtime,
    samples: Sequence[Sample],
    *,
    atol: float = FLOAT32_ATOL,
    rtol: float = FLOAT32_RTOL,
) -> Parity:
    """Runs both on every sample and judges the candidate.

    It passes if no logit differs by more than ``atol + rtol * |reference|``.
    """
    problem = _first_mismatch_of_names(reference, candidate)
    if problem:
        return Parity(candidate.name, FAILED, problem)
    expected, found = [], []
    for sample in samples:
        wanted = reference(sample.inputs)[LOGITS]
        try:
            got = candidate(sample.inputs)[LOGITS]
        except RuntimeInputError as error:
            return Parity(candidate.name, FAILED, str(error))
        for problem in (
            got.shape != wanted.shape and f"shape {got.shape}, expected {wanted.shape}",
            got.dtype != wanted.dtype and f"dtype {got.dtype}, expected {wanted.dtype}",
        ):
            if problem:
                return Parity(candidate.name, FAILED, f"{LOGITS}: {problem} ({sample.description})")
        expected.append(wanted[0])
        found.append(got[0])
    return judge(
        candidate.name,
        np.array(expected),
        np.array(found),
        [sample.description for sample in samples],
        atol=atol,
        rtol=rtol,
    )


def judge(
    artifact: str,
    expected: np.ndarray,
    found: np.ndarray,
    descriptions: Sequence[str],
    *,
    atol: float,
    rtol: float,
) -> Parity:
    """Compares logits (samples, C); `expected` is the reference and must be finite."""
    if not np.isfinite(expected).all():
        at = int(np.flatnonzero(~np.isfinite(expected).all(axis=1))[0])
        reason = f"the reference itself is not finite on: {descriptions[at]}"
        return Parity(artifact, FAILED, reason, samples=len(expected))
    broken = ~np.isfinite(found)
    if broken.any():
        at, column = (int(index) for index in np.argwhere(broken)[0])
        return Parity(
            artifact,
            WRONG,
            f"{int(broken.any(axis=1).sum())} of {len(found)} samples give NaN or infinity, first "
            f"{found[at, column]} in {LOGITS}[{column}] on: {descriptions[at]}",
            samples=len(expected),
            worst_sample=descriptions[at],
        )
    difference = np.abs(found.astype(np.float64) - expected)
    excess = difference - (atol + rtol * np.abs(expected))
    worst, column = (int(i) for i in np.unravel_index(excess.argmax(), excess.shape))
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    tiny = np.finfo(np.float32).tiny  # a reference of zeros must not become NaN in a report
    cosines = (expected * found).sum(axis=1) / np.maximum(norms, tiny)
    scale = max(float(np.sqrt((expected.astype(np.float64) ** 2).mean())), float(tiny))
    top, other = expected.argmax(axis=1), found.argmax(axis=1)
    disagreements = tuple(
        {
            "sample": descriptions[i],
            "reference_class": int(top[i]),
            "artifact_class": int(other[i]),
            "reference_margin": float(expected[i, top[i]] - expected[i, other[i]]),
        }
        for i in np.flatnonzero(top != other)
    )
    result = Parity(
        artifact=artifact,
        verdict=PASS,
        samples=len(expected),
        max_abs=float(difference.max()),
        mean_abs=float(difference.mean()),
        rmse=float(np.sqrt((difference**2).mean())),
        max_scaled=float(difference.max()) / scale,
        cosine=float(cosines.min()),
        argmax_agreement=float((top == other).mean()),
        worst_sample=descriptions[worst],
        disagreements=disagreements,
    )
    if excess.max() <= 0:
        return result
    limit = atol + rtol * abs(float(expected[worst, column]))
    reason = (
        f"{int((excess > 0).any(axis=1).sum())} of {len(expected)} samples are out of tolerance; "
        f"worst {LOGITS}[{column}] is {found[worst, column]:.6g}, expected "
        f"{expected[worst, column]:.6g}: off by {difference[worst, column]:.3g}, limit {limit:.3g}"
        f", on: {descriptions[worst]}"
    )
    return dataclasses.replace(result, verdict=WRONG, reason=reason)


def _first_mismatch_of_names(reference: Runtime, candidate: Runtime) -> str:
    """What keeps the two from being called alike; empty where nothing does."""
    for kind in ("inputs", "outputs"):
        wanted = {tensor.name: tensor for tensor in getattr(reference.spec, kind)}
        got = {tensor.name: tensor for tensor in getattr(candidate.spec, kind)}
        if set(wanted) != set(got):
            return (
                f"{kind} are called {', '.join(sorted(got))}; expected {', '.join(sorted(wanted))}"
            )
        for name, tensor in got.items():
            if not wanted[name].accepts_shape(tensor.shape) or tensor.dtype != wanted[name].dtype:
                return f"{kind}: {tensor.describe()}; expected {wanted[name].describe()}"
    return ""


COLUMNS = (
    "artifact",
    "verdict",
    "samples",
    "max Δ",
    "rmse",
    "max Δ / rms",
    "cosine",
    "arg-max",
)


def table_row(parity: Parity) -> list[str]:
    """Cells of `COLUMNS`; what was not measured says so."""

    def cell(value: float | None, form: str) -> str:
        return "not run" if value is None else format(value, form)

    return [
        parity.artifact,
        parity.verdict,
        str(parity.samples),
        cell(parity.max_abs, ".2e"),
        cell(parity.rmse, ".2e"),
        cell(parity.max_scaled, ".2e"),
        cell(parity.cosine, ".7f"),
        cell(parity.argmax_agreement, ".1%"),
    ]


def print_parity(results: Sequence[Parity], title: str = "Parity with PyTorch") -> None:
    """Prints the table, and a sentence for each artifact that did not pass."""
    print_table(title, COLUMNS, [table_row(parity) for parity in results])
    for parity in results:
        if not parity.passed:
            print(f"{parity.artifact}: {parity.verdict}: {parity.reason}")


def parity_json(results: Sequence[Parity], settings: Mapping[str, Any]) -> str:
    """The content of ``parity.json``."""
    tree = {"settings": dict(settings), "results": [dataclasses.asdict(r) for r in results]}
    return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def parity_markdown(results: Sequence[Parity], settings: Mapping[str, Any]) -> str:
    """The content of ``parity.md``."""
    lines = [
        "# Parity with PyTorch\n",
        markdown_table(COLUMNS, [table_row(parity) for parity in results]),
        *(f"- **{r.artifact}**: {r.verdict}: {r.reason}" for r in results if not r.passed),
        "\nSettings: " + ", ".join(f"{key} {value}" for key, value in settings.items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0 if every artifact passes, 1 if not."""
    parser = argparse.ArgumentParser(
        prog="python -m bridge.parity",
        description="Compare artifacts with the PyTorch checkpoint that they were made from.",
    )
    parser.add_argument("--reference", required=True, metavar="CKPT", help="the checkpoint")
    parser.add_argument("artifacts", nargs="+", metavar="ARTIFACT", help=".tflite files")
    add_comparison_arguments(parser)
    parser.add_argument("--atol", type=float, default=FLOAT32_ATOL, help="default: %(default)s")
    parser.add_argument("--rtol", type=float, default=FLOAT32_RTOL, help="default: %(default)s")
    parser.add_argument("--config", metavar="YAML", help="configuration of a published .pth")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)

    from bridge.runtimes import TFLiteRuntime, TorchRuntime
    from signbart.config import load_config
    from signbart_torch.checkpoint import load_model

    given = load_config(options.config) if options.config else None
    model, config, _ = load_model(options.reference, given)
    samples = make_samples(
        config, clips=read_recordings(options.data), samples=options.samples, seed=options.seed
    )
    reference = TorchRuntime(model, config)
    results = []
    for path in options.artifacts:
        try:
            candidate = TFLiteRuntime(path)
        except ArtifactError as error:
            results.append(Parity(Path(path).name, FAILED, str(error)))
            continue
        results.append(compare(reference, candidate, samples, atol=options.atol, rtol=options.rtol))
    settings = {key: getattr(options, key) for key in ("atol", "rtol", "samples", "seed", "data")}
    if options.json:
        print(parity_json(results, settings), end="")
    else:
        print_parity(results)
    return 0 if all(parity.passed for parity in results) else 1


def command() -> None:
    """The console script."""
    run_command(main)


if __name__ == "__main__":
    command()

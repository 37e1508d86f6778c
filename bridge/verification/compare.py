"""Do two runtimes agree? Names, then shapes, dtypes, NaN and infinity, and only then values.

Legend: C classes, T frames, K keypoints.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from signbart.errors import SignBartError
from signbart.models import kind_of
from signbart.models.io_spec import LOGITS

if TYPE_CHECKING:
    from torch import nn

    from bridge.artifact.runtimes import Runtime
    from bridge.verification.samples import Sample


PASS, WRONG, FAILED = "pass", "exported but wrong", "failed"


NOT_VERIFIED = "not verified"  # where the user asked for no comparison


@dataclass(frozen=True)
class Parity:
    """How far a candidate is from the reference.

    Differences are in logits; None where the comparison did not get that far. Of a model with
    several outputs each number is the worst of them.

    Attributes:
        artifact: Name of the candidate.
        verdict: `PASS`, `WRONG` (runs, but disagrees), `FAILED` (does not run or does not fit) or
            `NOT_VERIFIED`.
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
        errors: (samples, C) absolute differences, for pictures; all outputs side by side.
        outputs: For a model with several: name -> its own `max_abs`, `rmse`, `cosine`,
            `argmax_agreement` and whether it `passed`.
        scheme: The artifact's quantization scheme; all but fp32 are judged on clips.
        scaled_rmse: `rmse` over the root mean square of the reference's logits.
        accuracy: Percent of labelled clips recognised; None without labels.
        top5: Percent whose label is among the five highest.
        reference_accuracy: The reference's accuracy on the same clips.
        reference_top5: The reference's top-5 on the same clips.
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
    errors: np.ndarray | None = dataclasses.field(default=None, repr=False, compare=False)
    outputs: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    scheme: str = "fp32"
    scaled_rmse: float | None = None
    accuracy: float | None = None
    top5: float | None = None
    reference_accuracy: float | None = None
    reference_top5: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the candidate may be shipped."""
        return self.verdict in (PASS, NOT_VERIFIED)


def compare(
    reference: Runtime,
    candidate: Runtime,
    samples: Sequence[Sample],
    *,
    atol: float,
    rtol: float,
) -> Parity:
    """Runs both on every sample and judges the candidate.

    It passes if no logit differs by more than ``atol + rtol * |reference|``.
    """
    problem = _first_mismatch_of_names(reference, candidate)
    if problem:
        return Parity(candidate.name, FAILED, problem)
    names = [tensor.name for tensor in reference.spec.outputs]
    expected: dict[str, list[np.ndarray]] = {name: [] for name in names}
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    descriptions: list[str] = []
    for sample in samples:
        wanted = reference(sample.inputs)
        try:
            got = candidate(sample.inputs)
        # Inputs that do not fit, or a runtime that breaks off: each raises classes of its own, ONNX
        # Runtime's deriving from Exception alone.
        except Exception as error:
            return Parity(candidate.name, FAILED, f"{error} ({sample.description})")
        for name in names:
            right, other = wanted[name], got[name]
            for problem in (
                other.shape != right.shape and f"shape {other.shape}, expected {right.shape}",
                other.dtype != right.dtype and f"dtype {other.dtype}, expected {right.dtype}",
            ):
                if problem:
                    reason = f"{name}: {problem} ({sample.description})"
                    return Parity(candidate.name, FAILED, reason)
            expected[name].append(right)
            found[name].append(other)
        descriptions += [sample.description] * len(wanted[names[0]])
    return worst_of(
        {
            name: judge(
                candidate.name,
                np.concatenate(expected[name]),
                np.concatenate(found[name]),
                descriptions,
                atol=atol,
                rtol=rtol,
                output=name,
            )
            for name in names
        }
    )


def worst_of(parities: Mapping[str, Parity]) -> Parity:
    """One comparison from those of a model's outputs: every one has to pass.

    The verdict and its reason are those of the worst output, the numbers the worst of each kind.
    """
    if len(parities) == 1:
        return next(iter(parities.values()))
    by_badness = sorted(
        parities.values(),
        # What is not finite, or was not even compared, has no distance.
        key=lambda p: (p.passed, p.max_scaled is not None, -(p.max_scaled or 0.0)),
    )
    outputs = {
        name: {
            "passed": parity.passed,
            **{key: getattr(parity, key) for key in ("max_abs", "rmse", "cosine")},
            "argmax_agreement": parity.argmax_agreement,
        }
        for name, parity in parities.items()
    }
    worst = dataclasses.replace(
        by_badness[0],
        reason="; ".join(parity.reason for parity in by_badness if not parity.passed),
        outputs=outputs,
    )
    if any(parity.max_abs is None for parity in parities.values()):
        return worst
    highest = ("max_abs", "mean_abs", "rmse", "max_scaled", "scaled_rmse")
    return dataclasses.replace(
        worst,
        **{key: max(getattr(p, key) for p in parities.values()) for key in highest},
        **{
            key: min(getattr(p, key) for p in parities.values())
            for key in ("cosine", "argmax_agreement")
        },
        disagreements=tuple(
            {"output": name, **entry} for name, p in parities.items() for entry in p.disagreements
        ),
        errors=np.concatenate([parity.errors for parity in parities.values()], axis=1),
    )


def judge(
    artifact: str,
    expected: np.ndarray,
    found: np.ndarray,
    descriptions: Sequence[str],
    *,
    atol: float,
    rtol: float,
    output: str = LOGITS,
) -> Parity:
    """Compares one output (samples, C); `expected` is the reference and must be finite."""
    if not np.isfinite(expected).all():
        at = int(np.flatnonzero(~np.isfinite(expected).all(axis=1))[0])
        reason = f"{output}: the reference itself is not finite on: {descriptions[at]}"
        return Parity(artifact, FAILED, reason, samples=len(expected))
    broken = ~np.isfinite(found)
    if broken.any():
        at, column = (int(index) for index in np.argwhere(broken)[0])
        return Parity(
            artifact,
            WRONG,
            f"{int(broken.any(axis=1).sum())} of {len(found)} samples give NaN or infinity, first "
            f"{found[at, column]} in {output}[{column}] on: {descriptions[at]}",
            samples=len(expected),
            worst_sample=descriptions[at],
        )
    difference = np.abs(found.astype(np.float64) - expected)
    excess = difference - (atol + rtol * np.abs(expected))
    worst, column = (int(i) for i in np.unravel_index(excess.argmax(), excess.shape))
    # In float64: neither the metric's own rounding nor an overflow belongs into a report.
    wide, other_wide = expected.astype(np.float64), found.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1) * np.linalg.norm(other_wide, axis=1)
    tiny = np.finfo(np.float32).tiny  # a reference of zeros must not become NaN in a report
    cosines = (wide * other_wide).sum(axis=1) / np.maximum(norms, tiny)
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
        scaled_rmse=float(np.sqrt((difference**2).mean())) / scale,
        cosine=float(cosines.min()),
        argmax_agreement=float((top == other).mean()),
        worst_sample=descriptions[worst],
        disagreements=disagreements,
        errors=difference,
    )
    if excess.max() <= 0:
        return result
    limit = atol + rtol * abs(float(expected[worst, column]))
    reason = (
        f"{int((excess > 0).any(axis=1).sum())} of {len(expected)} samples are out of tolerance; "
        f"worst {output}[{column}] is {found[worst, column]:.6g}, expected "
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


def diagnose(
    model: nn.Module, path: str | Path, result: Parity, samples: Sequence[Sample]
) -> Parity:
    """Adds the first diverging layer to the reason of an artifact that runs but disagrees.

    Args:
        model: The reference.
        path: The artifact: .tflite, .onnx or .keras.
        result: What `compare` said of it.
        samples: What it was compared on; the worst one is looked at.
    """
    if result.verdict != WRONG:
        return result
    from bridge.verification.divergence import artifact_tensors, first_divergence, reference_layers

    spec = kind_of(model.config).io_spec(model.config, None, None)
    worst = next(sample for sample in samples if sample.description == result.worst_sample)
    try:
        divergence = first_divergence(
            reference_layers(model, worst.inputs),
            artifact_tensors(path, worst.inputs),
            [tensor.name for tensor in spec.outputs],
        )
    # The verdict stands, whatever keeps a broken artifact from being looked into.
    except Exception as error:
        where = f"its layers could not be compared ({type(error).__name__}: {error})"
    else:
        where = divergence.describe() if divergence else "run step by step, no layer differs"
    return dataclasses.replace(result, reason=f"{result.reason}; {where}")


def compare_artifact(
    reference: Runtime, path: Path, samples: Sequence[Sample], *, atol: float, rtol: float
) -> tuple[Parity, Sequence[Sample]]:
    """Opens an artifact and compares it, on more inputs where its sizes are open.

    Returns:
        The comparison, `FAILED` where the artifact cannot be opened, and the inputs it was made on.
    """
    from bridge.artifact.runtimes import open_runtime
    from bridge.verification.samples import open_samples

    try:
        candidate = open_runtime(path)
    except SignBartError as error:
        return Parity(path.name, FAILED, str(error)), samples
    if len(samples) > 1 and None in candidate.spec.inputs[0].shape:
        samples = [*samples, *open_samples(samples, reference.spec.longest)]
    return compare(reference, candidate, samples, atol=atol, rtol=rtol), samples

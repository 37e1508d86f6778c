"""The one judge: what is measured is a `Measurement`, of which `Limits` make a `Verdict`.

Legend: N samples or clips, C classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bridge.quantization.schemes import FLOAT
from bridge.verification.limits import Limits
from signbart.models.io_spec import LOGITS
from signbart.training.metrics import score

PASS, WRONG, FAILED = "pass", "exported but wrong", "failed"
NOT_VERIFIED = "not verified"  # where the user asked for no comparison

_TINY = np.finfo(np.float32).tiny  # a reference of zeros must not become NaN in a report


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """How far a candidate is from the reference.

    Differences are in logits; None where the comparison did not get that far. Of a model with
    several outputs each number is the worst of them.

    Attributes:
        samples: Number of inputs compared.
        max_abs: Largest absolute difference.
        mean_abs: Mean absolute difference.
        rmse: Root of the mean squared difference.
        max_scaled: `max_abs` over the root mean square of the reference's logits.
        scaled_rmse: `rmse` over the root mean square of the reference's logits.
        cosine: Smallest cosine similarity of a sample's logits.
        argmax_agreement: Share of samples with the same highest class.
        worst_sample: Description of the sample with the largest excess over the tolerance.
        disagreements: For each sample whose highest class differs: its description, both classes,
            and the reference's margin between them.
        errors: (N, C) absolute differences, for pictures; all outputs side by side.
        accuracy: Percent of labelled clips recognised; None without labels.
        top5: Percent whose label is among the five highest.
        reference_accuracy: The reference's accuracy on the same clips.
        reference_top5: The reference's top-5 on the same clips.
    """

    samples: int = 0
    max_abs: float | None = None
    mean_abs: float | None = None
    rmse: float | None = None
    max_scaled: float | None = None
    scaled_rmse: float | None = None
    cosine: float | None = None
    argmax_agreement: float | None = None
    worst_sample: str = ""
    disagreements: tuple[Mapping[str, Any], ...] = ()
    errors: np.ndarray | None = dataclasses.field(default=None, repr=False, compare=False)
    accuracy: float | None = None
    top5: float | None = None
    reference_accuracy: float | None = None
    reference_top5: float | None = None

    @property
    def accuracy_change(self) -> float | None:
        """Percentage points that `accuracy` is above the reference's; None without labels."""
        return None if self.accuracy is None else self.accuracy - self.reference_accuracy

    def numbers(self) -> dict[str, float]:
        """What was measured, as far as it is one number each."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, int | float)}


@dataclass(frozen=True)
class Verdict(Measurement):
    """What a comparison says of one artifact, with what was measured.

    Attributes:
        artifact: Name of the candidate.
        verdict: `PASS`, `WRONG` (runs, but disagrees), `FAILED` (does not run or does not fit) or
            `NOT_VERIFIED`.
        reason: One sentence; empty on a pass.
        scheme: The artifact's quantization scheme.
        outputs: For a model with several: name -> its own `max_abs`, `rmse`, `cosine`,
            `argmax_agreement` and whether it `passed`.
    """

    artifact: str
    verdict: str
    reason: str = ""
    scheme: str = FLOAT
    outputs: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the candidate may be shipped."""
        return self.verdict in (PASS, NOT_VERIFIED)


def judge(
    artifact: str,
    expected: np.ndarray,
    found: np.ndarray,
    descriptions: Sequence[str],
    limits: Limits,
    *,
    output: str = LOGITS,
    scheme: str = FLOAT,
    labels: np.ndarray | None = None,
) -> Verdict:
    """Compares one output; every limit that is set is applied.

    One clip may break the limits on accuracy and agreement, however few clips there are.

    Args:
        artifact: Name of the candidate.
        expected: (N, C), the reference's; must be finite.
        found: (N, C), the candidate's.
        descriptions: N.
        limits: What it may differ by.
        output: The output's name.
        scheme: The artifact's quantization scheme.
        labels: (N,) int64, where the classes of the samples are known.
    """
    if not np.isfinite(expected).all():
        at = int(np.flatnonzero(~np.isfinite(expected).all(axis=1))[0])
        reason = f"{output}: the reference itself is not finite on: {descriptions[at]}"
        return Verdict(artifact, FAILED, reason, scheme, samples=len(expected))
    broken = ~np.isfinite(found)
    if broken.any():
        at, column = (int(index) for index in np.argwhere(broken)[0])
        reason = (
            f"{int(broken.any(axis=1).sum())} of {len(found)} samples give NaN or infinity, first "
            f"{found[at, column]} in {output}[{column}] on: {descriptions[at]}"
        )
        return Verdict(
            artifact, WRONG, reason, scheme, samples=len(found), worst_sample=descriptions[at]
        )
    allowed = (limits.atol or 0.0) + (limits.rtol or 0.0) * np.abs(expected.astype(np.float64))
    measured = measure(expected, found, descriptions, allowed, labels)
    problems = [
        *_values_beyond(measured, expected, found, allowed, limits, output),
        *_clips_lost(measured, limits, output),
    ]
    verdict = WRONG if problems else PASS
    return Verdict(artifact, verdict, "; ".join(problems), scheme, **vars(measured))


def measure(
    expected: np.ndarray,
    found: np.ndarray,
    descriptions: Sequence[str],
    allowed: np.ndarray | float = 0.0,
    labels: np.ndarray | None = None,
) -> Measurement:
    """The distances of one finite output; arguments as for `judge`, `allowed` (N, C)."""
    # In float64: neither the metric's own rounding nor an overflow belongs into a report.
    wide, other_wide = expected.astype(np.float64), found.astype(np.float64)
    difference = np.abs(other_wide - wide)
    worst = int((difference - allowed).max(axis=1).argmax())
    norms = np.linalg.norm(wide, axis=1) * np.linalg.norm(other_wide, axis=1)
    cosines = (wide * other_wide).sum(axis=1) / np.maximum(norms, _TINY)
    scale = max(float(np.sqrt((wide**2).mean())), float(_TINY))
    rmse = float(np.sqrt((difference**2).mean()))
    top, other = expected.argmax(axis=1), found.argmax(axis=1)
    return Measurement(
        samples=len(expected),
        max_abs=float(difference.max()),
        mean_abs=float(difference.mean()),
        rmse=rmse,
        max_scaled=float(difference.max()) / scale,
        scaled_rmse=rmse / scale,
        cosine=float(cosines.min()),
        argmax_agreement=float((top == other).mean()),
        worst_sample=descriptions[worst],
        disagreements=tuple(
            {
                "sample": descriptions[i],
                "reference_class": int(top[i]),
                "artifact_class": int(other[i]),
                "reference_margin": float(expected[i, top[i]] - expected[i, other[i]]),
            }
            for i in np.flatnonzero(top != other)
        ),
        errors=difference,
        **scores(expected, found, labels),
    )


def scores(expected: np.ndarray, found: np.ndarray, labels: np.ndarray | None) -> dict[str, float]:
    """The fields of `Measurement` that need labels, in percent; none without them."""
    if labels is None:
        return {}
    ours, theirs = score(found, labels), score(expected, labels)
    return {
        "accuracy": 100 * ours.accuracy,
        "top5": 100 * ours.top5,
        "reference_accuracy": 100 * theirs.accuracy,
        "reference_top5": 100 * theirs.top5,
    }


def _values_beyond(
    measured: Measurement,
    expected: np.ndarray,
    found: np.ndarray,
    allowed: np.ndarray,
    limits: Limits,
    output: str,
) -> list[str]:
    """What is wrong with single numbers, and with the direction of a sample's outputs."""
    problems = []
    if limits.cosine is not None and measured.cosine <= limits.cosine:
        problems.append(
            f"{output}: cosine similarity {measured.cosine:.7f}, limit {limits.cosine:g}"
        )
    excess = measured.errors - allowed
    if limits.by_value and excess.max() > 0:
        at, column = (int(i) for i in np.unravel_index(excess.argmax(), excess.shape))
        problems.append(
            f"{int((excess > 0).any(axis=1).sum())} of {len(expected)} samples are out of "
            f"tolerance; worst {output}[{column}] is {found[at, column]:.6g}, expected "
            f"{expected[at, column]:.6g}: off by {measured.errors[at, column]:.3g}, limit "
            f"{allowed[at, column]:.3g}, on: {measured.worst_sample}"
        )
    return problems


def _clips_lost(measured: Measurement, limits: Limits, output: str) -> list[str]:
    """What is wrong with the clips' classes, and with the error of the outputs as a whole."""
    problems = []
    if limits.accuracy_drop is not None and measured.accuracy is not None:
        lost = -measured.accuracy_change
        if lost > _at_least_one_clip(limits.accuracy_drop, measured.samples):
            problems.append(
                f"accuracy {measured.accuracy:.2f} %, {lost:.2f} points below float32's "
                f"{measured.reference_accuracy:.2f} % (limit {limits.accuracy_drop:g})"
            )
    if limits.agreement is not None:
        missing = 100 * (1 - measured.argmax_agreement)
        if missing > _at_least_one_clip(100 - limits.agreement, measured.samples):
            problems.append(
                f"{len(measured.disagreements)} of {measured.samples} clips get another class than "
                f"in float32 (limit {100 - limits.agreement:g} %)"
            )
    if limits.scaled_rmse is not None and measured.scaled_rmse > limits.scaled_rmse:
        problems.append(
            f"{output} are off by {measured.scaled_rmse:.3g} of their root mean square (limit "
            f"{limits.scaled_rmse:g})"
        )
    return [*problems, f"worst on: {measured.worst_sample}"] if problems else []


def _at_least_one_clip(limit: float, count: int) -> float:
    """A limit in percent that one clip of `count` cannot break; rounding allowed for."""
    return max(limit, 100 / count) + 1e-9

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
from signbart.models.io_spec import LOGITS, SIGNATURE
from signbart.training.metrics import Measurement, measure

PASS, WRONG, FAILED = "pass", "exported but wrong", "failed"
NOT_VERIFIED = "not verified"  # where the user asked for no comparison


@dataclass(frozen=True)
class Verdict(Measurement):
    """What a comparison says of one artifact, with what was measured.

    Attributes:
        artifact: Name of the candidate.
        verdict: `PASS`, `WRONG` (runs, but disagrees), `FAILED` (does not run or does not fit) or
            `NOT_VERIFIED`.
        reason: One sentence; empty on a pass.
        scheme: The artifact's quantization scheme.
        signature: Which of the artifact's signatures was compared.
        outputs: For a model with several: name -> its own `max_abs`, `rmse`, `cosine`,
            `argmax_agreement` and whether it `passed`.
    """

    artifact: str
    verdict: str
    reason: str = ""
    scheme: str = FLOAT
    signature: str = SIGNATURE
    outputs: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the candidate may be shipped."""
        return self.verdict in (PASS, NOT_VERIFIED)

    def spoilt_by(self, second: Verdict) -> Verdict:
        """This verdict on an artifact whose other signature did not pass, with its worst input."""
        return dataclasses.replace(
            self,
            verdict=second.verdict,
            reason=f"signature {second.signature}: {second.reason}",
            worst_sample=second.worst_sample,
        )


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

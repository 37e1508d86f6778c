"""Scores of a classifier from its logits, and how far they are from another's.

Legend: N clips or samples, C classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_TINY = np.finfo(np.float32).tiny  # a reference of zeros must not become NaN in a report


@dataclass(frozen=True)
class Scores:
    """Accuracies as shares in [0, 1].

    Attributes:
        count: N.
        accuracy: Share of clips whose highest logit is the label.
        top5: Share whose label is among the five highest (all, where C ≤ 5).
        mean_class_accuracy: Mean of the recalls of the classes that occur.
        per_class: (C,) recall of each class, NaN where it does not occur.
    """

    count: int
    accuracy: float
    top5: float
    mean_class_accuracy: float
    per_class: np.ndarray


def score(logits: np.ndarray, labels: np.ndarray) -> Scores:
    """Scores (N, C) `logits` against (N,) integer `labels`; N at least 1."""
    from sklearn.metrics import recall_score

    classes = np.arange(logits.shape[1])
    predicted = logits.argmax(axis=1)
    recalls = recall_score(labels, predicted, labels=classes, average=None, zero_division=np.nan)
    # Ties go to the lower class, as argmax has it; scikit-learn's top_k_accuracy_score prefers the
    # higher one, so that a label could be first and yet not among five.
    highest = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    return Scores(
        count=len(labels),
        accuracy=float((predicted == labels).mean()),
        top5=float((highest == labels[:, None]).any(axis=1).mean()),
        mean_class_accuracy=float(np.nanmean(recalls)),
        per_class=recalls,
    )


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log softmax of each of (N, C) `logits` at its label, in natural units."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    chosen = np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
    return float((np.log(np.exp(shifted).sum(axis=1)) - chosen).mean())


def confusion(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(C, C) counts: row the label, column the prediction."""
    from sklearn.metrics import confusion_matrix

    classes = np.arange(logits.shape[1])
    return confusion_matrix(labels, logits.argmax(axis=1), labels=classes)


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


def measure(
    expected: np.ndarray,
    found: np.ndarray,
    descriptions: Sequence[str],
    allowed: np.ndarray | float = 0.0,
    labels: np.ndarray | None = None,
) -> Measurement:
    """How far `found` is from `expected`, both (N, C) and finite.

    Args:
        expected: The reference's logits.
        found: The other's.
        descriptions: N.
        allowed: (N, C) differences that are within the tolerance.
        labels: (N,) int64, where the classes of the samples are known.
    """
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
        **compare_scores(expected, found, labels),
    )


def compare_scores(
    expected: np.ndarray, found: np.ndarray, labels: np.ndarray | None
) -> dict[str, float]:
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

"""Scores of a classifier from its logits. Legend: N clips, C classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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

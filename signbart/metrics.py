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
    from sklearn.metrics import recall_score, top_k_accuracy_score

    classes = np.arange(logits.shape[1])
    predicted = logits.argmax(axis=1)
    recalls = recall_score(labels, predicted, labels=classes, average=None, zero_division=np.nan)
    k = min(5, len(classes))
    if k == len(classes):  # scikit-learn warns that this is always 1
        top5 = 1.0
    else:
        top5 = float(top_k_accuracy_score(labels, logits, k=k, labels=classes))
    return Scores(
        count=len(labels),
        accuracy=float((predicted == labels).mean()),
        top5=top5,
        mean_class_accuracy=float(np.nanmean(recalls)),
        per_class=recalls,
    )


def confusion(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(C, C) counts: row the label, column the prediction."""
    from sklearn.metrics import confusion_matrix

    classes = np.arange(logits.shape[1])
    return confusion_matrix(labels, logits.argmax(axis=1), labels=classes)

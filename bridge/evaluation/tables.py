"""Tables by class."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bridge.evaluation.predictions import Evaluation


_LISTED = 3  # classes that a class is most often taken for


def per_class_rows(evaluation: Evaluation) -> list[list[str]]:
    """A row a class that occurs: name, clips, percent recognised, what it is taken for."""
    rows = []
    names = evaluation.class_names
    for at, counts in enumerate(evaluation.confusion):
        total = int(counts.sum())
        if not total:
            continue
        others = counts.copy()
        others[at] = 0
        wrong = [one for one in np.argsort(-others, kind="stable")[:_LISTED] if others[one]]
        taken = ", ".join(f"{names[one]} ({others[one]})" for one in wrong)
        rows.append([names[at], str(total), f"{100 * counts[at] / total:.2f}", taken or "-"])
    return rows


def per_class_csv(evaluations: Mapping[str, Evaluation | None]) -> str:
    """A row a class: clips, and each model's recall in percent.

    Where no clip is of the class, or the model was not evaluated, the cell says so.
    """
    from signbart.console import NOT_RUN

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", "clips", *evaluations])
    classes: dict[str, dict[str, tuple[int, float]]] = {}
    for model, evaluation in evaluations.items():
        if evaluation is None:
            continue
        recalls = evaluation.scores.per_class
        totals = evaluation.confusion.sum(axis=1)
        for name, recall, total in zip(evaluation.class_names, recalls, totals, strict=True):
            classes.setdefault(name, {})[model] = (int(total), 100 * float(recall))
    for name, found in classes.items():
        clips = max(total for total, _ in found.values())
        cells = [
            f"{found[m][1]:.2f}" if m in found and found[m][0] else NOT_RUN for m in evaluations
        ]
        writer.writerow([name, clips, *cells])
    return text.getvalue()

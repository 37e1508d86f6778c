"""What a model said of labelled clips: kept in a folder, read back, pooled, and by class.

Legend: N clips, C classes.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from signbart.archives import UNREADABLE, open_npz
from signbart.console import NOT_RUN
from signbart.errors import SignBartError
from signbart.files import atomic_write, file_sha256, make_folder, write_text
from signbart.json_text import read_json_file
from signbart.recordings.clip import ClipSet
from signbart.training.confidence import expected_calibration_error, softmax, temperature_of
from signbart.training.metrics import Scores, confusion, score

INDEX = "evaluation.json"
_PREDICTIONS = "predictions"


@dataclass(frozen=True)
class Predictions:
    """One model's predictions.

    Attributes:
        model: Name of the file.
        class_names: C labels.
        clips: N sources of the clips.
        signers: N.
        labels: (N,) int64.
        logits: (N, C) float32.
        temperature: What the model carries to divide them by; see `confidence`.
    """

    model: str
    class_names: tuple[str, ...]
    clips: tuple[str, ...]
    signers: tuple[str, ...]
    labels: np.ndarray
    logits: np.ndarray
    temperature: float = 1.0

    @classmethod
    def of(cls, model: str, clips: ClipSet, logits: np.ndarray, temperature: float) -> Predictions:
        """What a model of that name said of clips whose labels count its own classes."""
        return cls(
            model,
            clips.class_names,
            tuple(clip.source for clip in clips.clips),
            clips.signers,
            clips.labels,
            logits,
            temperature,
        )

    @cached_property
    def scores(self) -> Scores:
        """Accuracies of all clips, as shares."""
        return score(self.logits, self.labels)

    @cached_property
    def confusion(self) -> np.ndarray:
        """(C, C) counts: row the label, column the prediction."""
        return confusion(self.logits, self.labels)

    @cached_property
    def calibration_error(self) -> float:
        """Expected calibration error at the model's own temperature, as a share."""
        return expected_calibration_error(self.logits, self.labels, self.temperature)

    def named(self, model: str) -> Predictions:
        """The same under another name."""
        return dataclasses.replace(self, model=model)


def write_predictions(folder: Path, evaluation: Predictions, made_from: Mapping[str, Any]) -> None:
    """Writes ``predictions/<model>.csv`` and .npz, which `read_predictions` reads back.

    Args:
        folder: Receives them; what other models' evaluations left there stays.
        evaluation: The predictions.
        made_from: What they depend on, in JSON values; see `identify`.
    """
    predictions = folder / _PREDICTIONS
    make_folder(predictions)
    with atomic_write(predictions / f"{evaluation.model}.npz") as path:
        np.savez_compressed(path, labels=evaluation.labels, logits=evaluation.logits)
    write_text(predictions / f"{evaluation.model}.csv", _predictions_csv(evaluation))
    index = _read_index(folder)
    index[evaluation.model] = {
        **made_from,
        "class_names": list(evaluation.class_names),
        "clips": list(evaluation.clips),
        "signers": list(evaluation.signers),
        "temperature": evaluation.temperature,
    }
    write_text(folder / INDEX, json.dumps(index, indent=1, ensure_ascii=False) + "\n")


def identify(path: Path, clips: ClipSet) -> dict[str, str]:
    """What an evaluation depends on: the model's bytes and the clips."""
    return {"sha256": file_sha256(path), "recordings": clips.fingerprint()}


def require_nothing_else(folder: Path, wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses a folder with evaluations that `wanted` would not write again just the same.

    Args:
        folder: Where evaluations go; it need not exist.
        wanted: Model -> what `identify` says of it.

    Raises:
        SignBartError: Names one that would be lost.
    """
    for model, about in _read_index(folder).items():
        if model not in wanted or not _is_of(about, wanted[model]):
            raise SignBartError(
                f"{folder} holds the results of another {model}, or on other recordings; choose "
                "another --output, or remove that folder"
            )


def is_evaluated(folder: Path, model: str, made_from: Mapping[str, Any]) -> bool:
    """Whether that model's predictions on the same clips are there."""
    return _is_of(_read_index(folder).get(model, {}), made_from)


def _is_of(about: Mapping[str, Any], made_from: Mapping[str, Any]) -> bool:
    return {key: about.get(key) for key in made_from} == dict(made_from)


def read_predictions(folder: Path, model: str, sha256: str | None = None) -> Predictions | None:
    """What `write_predictions` wrote of one model; None where there is nothing.

    Args:
        folder: Where it was written to.
        model: Name of the file.
        sha256: Of the file now; predictions of another one do not count.
    """
    about = _read_index(folder).get(model)
    if about is None or sha256 not in (None, about["sha256"]):
        return None
    path = folder / _PREDICTIONS / f"{model}.npz"
    try:
        with open_npz(path, SignBartError) as arrays:
            labels, logits = arrays["labels"], arrays["logits"]
    except UNREADABLE:
        raise SignBartError(
            f"{path} is missing or damaged; remove {folder} and evaluate again"
        ) from None
    return Predictions(
        model, tuple(about["class_names"]), tuple(about["clips"]), tuple(about["signers"]),
        labels, logits, temperature_of(about, folder / INDEX),
    )  # fmt: skip


def pool(evaluations: Sequence[Predictions], model: str) -> Predictions:
    """Several evaluations of the same classes, on clips of their own, as one.

    Logits are divided by the temperature of the model that gave them.

    Args:
        evaluations: At least one.
        model: What to call it.

    Raises:
        SignBartError: They have different classes.
    """
    names = evaluations[0].class_names
    if any(evaluation.class_names != names for evaluation in evaluations):
        raise SignBartError(f"{model}: the folds' models have different classes")
    return Predictions(
        model,
        names,
        tuple(clip for e in evaluations for clip in e.clips),
        tuple(signer for e in evaluations for signer in e.signers),
        np.concatenate([e.labels for e in evaluations]),
        np.concatenate([e.logits / np.float32(e.temperature) for e in evaluations]),
    )


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        return read_json_file(folder / INDEX)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        raise SignBartError(
            f"{folder / INDEX} is damaged; remove {folder} and evaluate again"
        ) from None


def _predictions_csv(evaluation: Predictions) -> str:
    """A row a clip: what it is, what the model says, and how sure it is."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["clip", "signer", "label", "predicted", "correct", "score", "top5"])
    scores = softmax(evaluation.logits, evaluation.temperature)
    highest = np.argsort(-evaluation.logits, axis=1, kind="stable")[:, :5]
    names = evaluation.class_names
    for at, label in enumerate(evaluation.labels):
        best = highest[at, 0]
        writer.writerow(
            [
                evaluation.clips[at],
                evaluation.signers[at],
                names[label],
                names[best],
                int(best == label),
                f"{scores[at, best]:.4f}",
                "; ".join(names[one] for one in highest[at]),
            ]
        )
    return text.getvalue()


SCORE_COLUMNS = ("model", "clips", "accuracy", "top-5", "mean class accuracy", "calibration error")


def score_row(evaluation: Predictions) -> list[str]:
    """Cells of `SCORE_COLUMNS`, in percent."""
    scores = evaluation.scores
    shares = (scores.accuracy, scores.top5, scores.mean_class_accuracy)
    shares += (evaluation.calibration_error,)
    return [evaluation.model, str(scores.count), *(f"{100 * share:.2f}" for share in shares)]


def draw_evaluation(evaluation: Predictions, name: str, path: Path) -> None:
    """Draws the confusion matrix, titled `name` and the accuracy, as a PNG."""
    from signbart.pictures import draw_confusion

    scores = evaluation.scores
    title = f"{name}: {100 * scores.accuracy:.2f} % of {scores.count} clips"
    with atomic_write(path) as picture:
        draw_confusion(evaluation.confusion, evaluation.class_names, title, picture)


_LISTED = 3  # classes that a class is most often taken for


def per_class_rows(evaluation: Predictions) -> list[list[str]]:
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


def per_class_csv(evaluations: Mapping[str, Predictions | None]) -> str:
    """A row a class: clips, and each model's recall in percent.

    Where no clip is of the class, or the model was not evaluated, the cell says so.
    """
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

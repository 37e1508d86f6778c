"""How sure the models of a leave-one-signer-out run are of signers that they never saw.

Each signer's temperature comes from what the other folds' models said of their own held-out
signers, so nothing is chosen on whom it is judged by.

Legend: N clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signbart.errors import SignBartError
from signbart.files import file_sha256
from signbart.training.confidence import (
    cross_fit,
    expected_calibration_error,
    fit_temperature,
    softmax,
)
from signbart.training.folds import ALL, folds_in
from signbart.training.frameworks import framework_of
from signbart.training.metrics import cross_entropy
from signbart.training.predictions import Predictions, pool, read_predictions
from signbart.training.run_folder import EVALUATION


@dataclass(frozen=True)
class FoldConfidence:
    """One signer's clips, by the model that never saw them.

    Attributes:
        signer: Who was left out.
        clips: N.
        accuracy: A share.
        temperature: From the other folds' held-out clips.
        error_before: Expected calibration error at temperature 1, a share.
        error_carried: At the temperature that the model carries, from its own validation clips.
        error_after: At `temperature`.
        loss_before: Negative log-likelihood at temperature 1.
        loss_after: At `temperature`.
    """

    signer: str
    clips: int
    accuracy: float
    temperature: float
    error_before: float
    error_carried: float
    error_after: float
    loss_before: float
    loss_after: float


def read_held_out(folder: Path) -> dict[str, Predictions]:
    """Signer -> what the best model of the fold without that signer says of them.

    Args:
        folder: Output of a leave-one-signer-out run, in either framework.

    Raises:
        SignBartError: It holds no folds, or one whose model's predictions are not there.
    """
    found = {}
    for signer in folds_in(folder):
        framework = framework_of(folder / signer)
        if framework is None:
            raise SignBartError(f"{folder / signer} holds no run that can be gone on with")
        best = folder / signer / framework.best
        kept = None
        if best.is_file():
            kept = read_predictions(folder / signer / EVALUATION, best.name, file_sha256(best))
        if kept is None:
            raise SignBartError(
                f"{folder / signer} lacks what its {best.name} says of the signer left out: let "
                f"training end, or run signbart evaluate {best} --data "
                f"RECORDINGS --signers {signer} --output {folder / signer / EVALUATION}"
            )
        found[signer] = kept
    if len(found) < 2 or ALL in found:
        raise SignBartError(
            f"{folder} holds {len(found)} fold(s) that leave a signer out; give the output folder "
            "of a leave-one-signer-out run, with two at least"
        )
    return found


def judge_confidence(held_out: Mapping[str, Predictions]) -> list[FoldConfidence]:
    """A row a signer; see `read_held_out`."""
    temperatures = cross_fit([(found.logits, found.labels) for found in held_out.values()])
    rows = []
    for (signer, found), temperature in zip(held_out.items(), temperatures, strict=True):
        logits, labels = found.logits, found.labels
        rows.append(
            FoldConfidence(
                signer=signer,
                clips=len(labels),
                accuracy=found.scores.accuracy,
                temperature=temperature,
                error_before=expected_calibration_error(logits, labels),
                error_carried=found.calibration_error,
                error_after=expected_calibration_error(logits, labels, temperature),
                loss_before=cross_entropy(logits, labels),
                loss_after=cross_entropy(logits / np.float32(temperature), labels),
            )
        )
    return rows


def pooled_temperature(held_out: Mapping[str, Predictions]) -> float:
    """The temperature over all held-out clips, for a model that is trained on all signers."""
    found = list(held_out.values())
    pool(found, "the folds")  # of the same classes
    return fit_temperature(
        np.concatenate([one.logits for one in found]), np.concatenate([one.labels for one in found])
    )


@dataclass(frozen=True)
class Answers:
    """What held-out clips were answered with a sign, and how surely.

    Attributes:
        right: How sure the model was of each sign that it recognised.
        wrong: How sure it was of each clip that it took for a sign which it is not.
        signs: How many clips show a sign.
    """

    right: np.ndarray
    wrong: np.ndarray
    signs: int


def answers_of(
    held_out: Mapping[str, Predictions], temperatures: Sequence[float], idle: str
) -> Answers:
    """Held-out clips at one temperature a fold; `idle` names the class that is no sign."""
    right, wrong, signs = [], [], 0
    for found, temperature in zip(held_out.values(), temperatures, strict=True):
        names = np.array(found.class_names)
        sure = softmax(found.logits, temperature).max(axis=1)
        said = found.logits.argmax(axis=1)
        answered = names[said] != idle
        hit = said == found.labels
        right.append(sure[answered & hit])
        wrong.append(sure[answered & ~hit])
        signs += int((names[found.labels] != idle).sum())
    return Answers(np.concatenate(right), np.concatenate(wrong), signs)

"""How sure a model is, and how sure it should be: temperature, calibration error, thresholds.

A temperature divides the logits before the softmax, so that the likeliest class gets the share of
clips in which it is right (temperature scaling: Guo, Pleiss, Sun & Weinberger, "On Calibration of
Modern Neural Networks", ICML 2017, sections 2 and 4.2). It changes no class. Calibrating quantizers
is another matter: `signbart.training.calibration`.

Legend: N clips, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from signbart.errors import SignBartError

BINS = 15  # Guo et al., table 1
# Where a temperature is looked for; what wants to leave it has logits that say nothing.
_LOWEST, _HIGHEST = 0.05, 20.0


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Shares of the classes, (…, C) float64, from (…, C) logits over a temperature."""
    scaled = logits.astype(np.float64) / temperature
    shares = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the least negative log-likelihood, of clips that were not trained on.

    Targets are Platt's: (N + 1) / (N + 2) for the label and the rest for the other classes alike,
    so that clips that are all recognised do not ask for certainty (Platt, "Probabilistic outputs
    for support vector machines", 1999, section 2.2). Over many clips that is the label alone.

    Args:
        logits: (N, C) finite.
        labels: (N,) integers.

    Raises:
        SignBartError: There are no clips.
    """
    if not len(labels):
        raise SignBartError("no clips to fit a temperature on")
    wide = logits.astype(np.float64)
    count, classes = wide.shape
    targets = np.full_like(wide, 1 / (count + 2) / max(classes - 1, 1))
    targets[np.arange(count), labels] = (count + 1) / (count + 2)
    wanted = (targets * wide).sum(axis=1).mean()

    def too_sure(temperature: float) -> bool:
        # The derivative in 1 / temperature, in which the likelihood is convex: it has one root.
        return (softmax(wide, temperature) * wide).sum(axis=1).mean() > wanted

    low, high = math.log(_LOWEST), math.log(_HIGHEST)
    for _ in range(40):  # to 1e-11 of its value
        middle = (low + high) / 2
        low, high = (middle, high) if too_sure(math.exp(middle)) else (low, middle)
    return math.exp(middle)


def expected_calibration_error(
    logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0, bins: int = BINS
) -> float:
    """Mean distance of how often the likeliest class is right and how likely it was said to be.

    Clips are parted by that likelihood into equal widths, ((b - 1) / bins, b / bins]; each counts
    by its clips (Guo et al., equation 3).

    Args:
        logits: (N, C), N at least 1.
        labels: (N,) integers.
        temperature: Of the softmax.
        bins: How many.

    Returns:
        A share in [0, 1].
    """
    shares = softmax(logits, temperature)
    sure, right = shares.max(axis=1), logits.argmax(axis=1) == labels
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    distance = np.bincount(place, weights=right - sure, minlength=bins)
    return float(np.abs(distance).sum() / len(labels))


def cross_fit(folds: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """A temperature for each fold, from the held-out clips of the others alone.

    Args:
        folds: (logits, labels) of the clips that each fold's model never saw; at least two.

    Raises:
        SignBartError: There are fewer.
    """
    if len(folds) < 2:
        raise SignBartError("one fold has no others to take a temperature from; it takes two")
    return [
        fit_temperature(
            np.concatenate([logits for other, (logits, _) in enumerate(folds) if other != at]),
            np.concatenate([labels for other, (_, labels) in enumerate(folds) if other != at]),
        )
        for at in range(len(folds))
    ]


def threshold_of_coverage(sure: np.ndarray, coverage: float) -> float:
    """The largest share that this many of the clips still reach.

    Args:
        sure: (N,) what the likeliest class of each was given; N at least 1.
        coverage: In (0, 1].
    """
    ordered = np.sort(sure)[::-1]
    return float(ordered[max(math.ceil(coverage * len(ordered) - 1e-9), 1) - 1])


def threshold_of_false_alarms(sure: np.ndarray, allowed: float) -> float:
    """The least share that no more than this many of the clips exceed.

    Args:
        sure: (N,) what the likeliest class of each was given; the answers are wrong ones.
        allowed: In [0, 1).
    """
    ordered = np.sort(sure)[::-1]
    passing = math.floor(allowed * len(ordered) + 1e-9)
    # What is as sure as the threshold passes it.
    return float(np.nextafter(ordered[passing], 2.0)) if passing < len(ordered) else 0.0


def shortened(threshold: float, *, up: bool) -> float:
    """A threshold with few decimals, three where they suffice, that still says what it did.

    Args:
        threshold: In (0, 1).
        up: Round up, so that no more reach it; otherwise down, so that no fewer do.
    """
    for digits in range(3, 16):
        scale = 10**digits
        value = (math.ceil if up else math.floor)(threshold * scale) / scale
        if 0 < value < 1 and (value >= threshold if up else value <= threshold):
            return value
    return threshold


def temperature_of(record: Mapping[str, Any], source: object) -> float:
    """What a checkpoint's progress or an artifact's metadata say; 1 where they do not.

    Raises:
        SignBartError: It is no positive number; names `source`.
    """
    value = record.get("temperature", 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SignBartError(f"{source}: its temperature is {value!r}, and no number")
    return checked_temperature(value, str(source))


def checked_temperature(value: float, source: str) -> float:
    """`value`, where it can divide logits.

    Raises:
        SignBartError: It is not above 0 and finite; names `source`.
    """
    if not (math.isfinite(value) and value > 0):
        raise SignBartError(f"{source}: a temperature of {value}; it must be above 0 and finite")
    return float(value)


def threshold_of(record: Mapping[str, Any], source: object) -> float | None:
    """The probability from which on an artifact's metadata let an answer count; None without one.

    Raises:
        SignBartError: It is no number above 0 and up to 1; names `source`.
    """
    value = record.get("threshold")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SignBartError(f"{source}: its threshold is {value!r}, and no number")
    return checked_threshold(value, str(source))


def checked_threshold(value: float, source: str) -> float:
    """`value`, where a probability can reach it.

    Raises:
        SignBartError: It is not above 0 and up to 1; names `source`.
    """
    if not 0 < value <= 1:
        raise SignBartError(f"{source}: a threshold of {value}; it must be above 0 and up to 1")
    return float(value)

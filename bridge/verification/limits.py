"""The limits that artifacts are judged by, one set a scheme, from ``limits.yaml`` beside it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml

from bridge.errors import BridgeError

DEFAULT_FILE = Path(__file__).resolve().with_name("limits.yaml")


@dataclass(frozen=True)
class Tolerance:
    """A logit passes if it differs by at most ``atol + rtol * |reference|``."""

    atol: float
    rtol: float


@dataclass(frozen=True)
class DataTolerance:
    """What a quantized artifact may lose on labelled clips.

    Attributes:
        accuracy_drop: Percentage points below the reference's accuracy.
        agreement: Percent of clips with the reference's highest class, at least.
        scaled_rmse: Root mean square of the differences over that of the reference's logits.
    """

    accuracy_drop: float
    agreement: float
    scaled_rmse: float


@dataclass(frozen=True)
class SequenceTolerance:
    """How far an artifact of `bridge.conversion.models_export` may be, in every one of its outputs.

    Attributes:
        cosine: Cosine similarity with PyTorch's, more than this on every sequence.
        max_abs: Largest difference of a logit.
    """

    cosine: float
    max_abs: float


_Kind = TypeVar("_Kind", Tolerance, DataTolerance, SequenceTolerance)


def load_tolerance(scheme: str, path: str | Path = DEFAULT_FILE) -> Tolerance:
    """The limits of a scheme that is compared logit by logit.

    Raises:
        BridgeError: The file cannot be read, or has no valid entry for the scheme.
    """
    return _load(Tolerance, scheme, path)


def load_data_tolerance(scheme: str, path: str | Path = DEFAULT_FILE) -> DataTolerance:
    """The limits of a scheme that is judged on clips.

    Raises:
        BridgeError: The file cannot be read, or has no valid entry for the scheme.
    """
    return _load(DataTolerance, scheme, path)


def load_sequence_tolerance(scheme: str, path: str | Path = DEFAULT_FILE) -> SequenceTolerance:
    """The limits of a scheme that `bridge.conversion.models_export` offers.

    Raises:
        BridgeError: The file cannot be read, or has no valid entry for the scheme.
    """
    return _load(SequenceTolerance, f"sequences_{scheme}", path)


def _load(kind: type[_Kind], scheme: str, path: str | Path) -> _Kind:
    names = [field.name for field in dataclasses.fields(kind)]
    try:
        entry = yaml.safe_load(Path(path).read_text(encoding="utf-8"))[scheme]
        limits = kind(**{name: float(entry[name]) for name in names})
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())  # YAML's own takes several lines
        raise BridgeError(
            f"{path}: no limits for scheme '{scheme}' ({type(error).__name__}: {reason}); it needs "
            f"numbers {', '.join(names[:-1])} and {names[-1]}"
        ) from None
    for name in names:
        if not 0 <= getattr(limits, name) < float("inf"):
            raise BridgeError(f"{path}: {scheme}: {name} must be finite and not negative")
    return limits

"""The limits that artifacts are judged by, one set a scheme, from ``limits.yaml`` beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from bridge.errors import BridgeError
from bridge.quantization.schemes import FLOAT
from signbart.yaml_files import parse_yaml

DEFAULT_FILE = Path(__file__).resolve().with_name("limits.yaml")

# What an entry of the file has to set: for artifacts compared number by number, and on clips.
BY_VALUE = ("atol", "rtol")
ON_CLIPS = ("accuracy_drop", "agreement", "scaled_rmse")


@dataclass(frozen=True)
class Limits:
    """How far an artifact may be from PyTorch, in every one of its outputs; what is set applies.

    Attributes:
        atol: A number passes if it differs by at most ``atol + rtol * |reference|``.
        rtol: See `atol`.
        cosine: Cosine similarity of a sample's outputs, more than this on every sample.
        accuracy_drop: Percentage points below the reference's accuracy, at most.
        agreement: Percent of clips with the reference's highest class, at least.
        scaled_rmse: Root mean square of the differences over that of the reference, at most.
        layer_rms: The same of the output of each layer; names the first that is wrong.
    """

    atol: float | None = None
    rtol: float | None = None
    cosine: float | None = None
    accuracy_drop: float | None = None
    agreement: float | None = None
    scaled_rmse: float | None = None
    layer_rms: float | None = None

    @property
    def by_value(self) -> bool:
        """Whether single numbers have a limit; otherwise artifacts are judged on clips."""
        return self.atol is not None

    def to_dict(self) -> dict[str, float]:
        """Those that are set."""
        return {name: value for name, value in vars(self).items() if value is not None}


def load_limits(
    entry: str, needs: Sequence[str] | None = None, path: str | Path = DEFAULT_FILE
) -> Limits:
    """The limits under one name of the file.

    Args:
        entry: A scheme, or ``sequences_<scheme>``.
        needs: What it has to set; by default `BY_VALUE` for float32 and `ON_CLIPS` for the others.
        path: The file.

    Raises:
        BridgeError: The file cannot be read, or has no valid entry of that name.
    """
    needs = needs or (BY_VALUE if entry == FLOAT else ON_CLIPS)
    known = [field.name for field in dataclasses.fields(Limits)]
    try:
        values = parse_yaml(Path(path).read_text(encoding="utf-8"))[entry]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"unknown limit '{unknown[0]}'; known: {', '.join(known)}")
        limits = Limits(
            **{name: float(values[name]) for name in known if name in {*needs, *values}}
        )
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())  # YAML's own takes several lines
        raise BridgeError(
            f"{path}: no limits for scheme '{entry}' ({type(error).__name__}: {reason}); it needs "
            f"numbers {', '.join(needs[:-1])} and {needs[-1]}"
        ) from None
    for name, value in limits.to_dict().items():
        if not 0 <= value < float("inf"):
            raise BridgeError(f"{path}: {entry}: {name} must be finite and not negative")
    return limits

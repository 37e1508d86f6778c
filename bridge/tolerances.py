"""The limits that artifacts are judged by, one a scheme, from ``configs/parity.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from bridge.errors import BridgeError

DEFAULT_FILE = Path(__file__).resolve().parent.parent / "configs" / "parity.yaml"


@dataclass(frozen=True)
class Tolerance:
    """A logit passes if it differs by at most ``atol + rtol * |reference|``."""

    atol: float
    rtol: float


def load_tolerance(scheme: str, path: str | Path = DEFAULT_FILE) -> Tolerance:
    """The limits of one scheme.

    Raises:
        BridgeError: The file cannot be read, or has no valid entry for the scheme.
    """
    try:
        entry = yaml.safe_load(Path(path).read_text(encoding="utf-8"))[scheme]
        tolerance = Tolerance(float(entry["atol"]), float(entry["rtol"]))
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())  # YAML's own takes several lines
        raise BridgeError(
            f"{path}: no limits for scheme '{scheme}' ({type(error).__name__}: {reason}); it needs "
            "numbers atol and rtol"
        ) from None
    if not (0 <= tolerance.atol < float("inf") and 0 <= tolerance.rtol < float("inf")):
        raise BridgeError(f"{path}: {scheme}: atol and rtol must be finite and not negative")
    return tolerance

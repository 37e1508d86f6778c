"""A picture of the errors of one artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Exact agreement has no logarithm; it is drawn here, below float32's resolution of any logit.
_ZERO = 1e-9


def draw_errors(errors: np.ndarray, limit: float, title: str, path: Path) -> None:
    """Draws how the absolute differences of logits are distributed, with the limit.

    Args:
        errors: Absolute differences, any shape.
        limit: Drawn as a line: the absolute part of the tolerance.
        title: What was compared.
        path: PNG to write.
    """
    figure = _figure(5, 2.6)
    values = np.maximum(errors.reshape(-1), _ZERO)
    bins = np.logspace(np.log10(_ZERO), max(np.log10(values.max()), np.log10(limit)) + 0.5, 40)
    axes = figure.subplots()
    axes.hist(values, bins=bins, color="#30638e")
    axes.axvline(limit, color="#d1495b", linestyle="--", label=f"limit {limit:g}")
    axes.set_xscale("log")
    axes.set_xlabel("absolute difference of a logit (exact ones at the left edge)")
    axes.set_ylabel("logits")
    axes.set_title(title, fontsize="medium")
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(path, dpi=120)


def _figure(width: float, height: float) -> Figure:
    """An empty picture of that many inches, which needs no display and no closing."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")

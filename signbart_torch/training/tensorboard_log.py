"""TensorBoard without TensorFlow."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from pathlib import Path


class EventWriter:
    """TensorBoard's event files.

    TensorBoard imports TensorFlow for its file access wherever it is installed: seconds of start-up
    and hundreds of megabytes. The module ``tensorboard.compat.notf`` is its own switch for its
    built-in replacement; only this package's processes see it.

    Args:
        folder: Where they go.
        purge_step: Events of earlier, interrupted runs from this step on are hidden.
    """

    def __init__(self, folder: Path, purge_step: int):
        sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=purge_step)

    def write(self, row: Mapping[str, float]) -> None:
        """One epoch's numbers, a scalar each."""
        for key, value in row.items():
            if key != "epoch":
                self._writer.add_scalar(key, value, row["epoch"])

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()

"""TensorBoard without TensorFlow."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def summary_writer(folder: Path, purge_step: int) -> SummaryWriter:
    """A writer of event files.

    TensorBoard imports TensorFlow for its file access wherever it is installed: seconds of start-up
    and hundreds of megabytes. The module ``tensorboard.compat.notf`` is its own switch for its
    built-in replacement; only this package's processes see it.

    Args:
        folder: Where the event files go.
        purge_step: Events of earlier, interrupted runs from this step on are hidden.
    """
    sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=purge_step)

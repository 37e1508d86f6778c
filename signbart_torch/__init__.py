"""The reference implementation of SignBART, in PyTorch: `signbart_torch.models.signbart`.

The functions here import PyTorch when they are called, in whichever process trains. The twin's
package has them too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from signbart_torch.training.checkpoint import Checkpoint


def is_main_process() -> bool:
    """Whether this process is the one that prints, by torchrun's environment."""
    return os.environ.get("RANK", "0") == "0"


def train_model(*args: Any, **options: Any) -> dict[str, Any]:
    """`training.learner.train`."""
    from signbart_torch.training import learner

    return learner.train(*args, **options)


def train_quantized(*args: Any, **options: Any) -> dict[str, Any]:
    """`compression.qat.train_quantized`."""
    from signbart_torch.compression import qat

    return qat.train_quantized(*args, **options)


def train_distilled(*args: Any, **options: Any) -> dict[str, Any]:
    """`compression.distillation.train_distilled`."""
    from signbart_torch.compression import distillation

    return distillation.train_distilled(*args, **options)


def train_pruned(*args: Any, **options: Any) -> dict[str, Any]:
    """`compression.pruning.train_pruned`."""
    from signbart_torch.compression import pruning

    return pruning.train_pruned(*args, **options)


def load_checkpoint(path: str | Path, *, checksum: bool = True) -> Checkpoint:
    """`training.checkpoint.load_checkpoint`."""
    from signbart_torch.training import checkpoint

    return checkpoint.load_checkpoint(path, checksum=checksum)

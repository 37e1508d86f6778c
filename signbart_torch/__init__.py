"""The reference implementation of SignBART, in PyTorch: `signbart_torch.models.signbart`.

The functions here import PyTorch when they are called, in whichever process trains. The twin's
package has them too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from signbart_torch.training.checkpoint import Checkpoint


def train_model(*args: Any, **options: Any) -> dict[str, Any]:
    """`training.trainer.train`."""
    from signbart_torch.training import trainer

    return trainer.train(*args, **options)


def train_quantized(*args: Any, **options: Any) -> dict[str, Any]:
    """`compression.qat.train_quantized`."""
    from signbart_torch.compression import qat

    return qat.train_quantized(*args, **options)


def load_checkpoint(path: Path) -> Checkpoint:
    """`training.checkpoint.load_checkpoint`."""
    from signbart_torch.training import checkpoint

    return checkpoint.load_checkpoint(path)

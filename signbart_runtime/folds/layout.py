"""What stands where in `signbart_runtime.loso`'s output: ``OUTPUT/<signer>/…``, a fold each."""

from __future__ import annotations

from pathlib import Path

PLAIN = "float32"  # training that knew nothing of quantization
# Run folder inside a fold -> the scheme whose arithmetic it is trained for.
QAT = {"qat_dynamic": "dynamic_int8", "qat_static": "int8"}
# In the run folder of each training.
EXPORTS, LATENCY = "exports", "latency.json"
COMMAND = "command.txt"  # beside the folds: what made them


def training_folder(fold: Path, training: str) -> Path:
    """The run folder of a training, `PLAIN` or a key of `QAT`, inside its fold."""
    return fold if training == PLAIN else fold / training

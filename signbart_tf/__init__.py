"""The Keras 3 twin of `signbart_torch`: same files, classes and attribute names.

The functions here import TensorFlow when they are called, in whichever process trains.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signbart_tf.models.framework import import_tensorflow

if TYPE_CHECKING:
    from signbart_tf.training.checkpoint import Checkpoint

# Keras reads it when it is first imported. The twin is written for TensorFlow alone, whatever the
# user's other projects are set to.
os.environ["KERAS_BACKEND"] = "tensorflow"


def train_model(*args: Any, **options: Any) -> dict[str, Any]:
    """`training.learner.train`."""
    import_tensorflow()
    from signbart_tf.training import learner

    return learner.train(*args, **options)


def train_quantized(*args: Any, **options: Any) -> dict[str, Any]:
    """`compression.qat.train_quantized`."""
    import_tensorflow()
    from signbart_tf.compression import qat

    return qat.train_quantized(*args, **options)


def load_checkpoint(path: str | Path, *, checksum: bool = True) -> Checkpoint:
    """`training.checkpoint.load_checkpoint`."""
    import_tensorflow()
    from signbart_tf.training import checkpoint

    return checkpoint.load_checkpoint(path, checksum=checksum)

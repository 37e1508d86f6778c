"""Starting TensorFlow: quietly, and behind what has to come before it."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from signbart.console import redirect_output
from signbart.waiting import stage


def import_triton() -> None:
    """Loads Triton, where there is one, while TensorFlow is not loaded yet.

    PyTorch's builds for CUDA bring it and load it late; behind TensorFlow its import ends the
    process with a segmentation fault (TensorFlow 2.21, Triton 3.7).
    """
    with suppress(ImportError):
        import_module("triton")


def import_tensorflow() -> None:
    """Starts TensorFlow without its messages, which come before any setting of its own."""
    import_triton()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # and later without what is no error
    with stage("loading TensorFlow"), redirect_output(Path(os.devnull), descriptors=(2,)):
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            # Else the first process would take all of its memory, and folds side by side fail.
            tf.config.experimental.set_memory_growth(gpu, True)

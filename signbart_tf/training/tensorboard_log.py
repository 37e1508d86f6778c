"""TensorBoard's event files, as `signbart_torch` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf


class EventWriter:
    """TensorBoard's event files.

    Args:
        folder: Where they go.
        purge_step: Events of earlier, interrupted runs from this step on are hidden.
    """

    def __init__(self, folder: Path, purge_step: int):
        with tf.Graph().as_default():  # this writer, the one that can purge, is not for eager mode
            self._writer = tf.compat.v1.summary.FileWriter(str(folder))
        self._writer.add_session_log(
            tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START), purge_step
        )

    def write(self, row: Mapping[str, float]) -> None:
        """One epoch's numbers, a scalar each."""
        values = [
            tf.compat.v1.Summary.Value(tag=key, simple_value=value)
            for key, value in row.items()
            if key != "epoch"
        ]
        self._writer.add_summary(tf.compat.v1.Summary(value=values), row["epoch"])

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()

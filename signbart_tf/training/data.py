"""The batches of `signbart.batches` as `tf.data` pipelines.

Random numbers are drawn in order, by one thread; batches are then normalised and padded by several,
and made ahead while the model computes. Masks come from lengths, never from coordinates.

Legend: B batch, T frames, K keypoints.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import tensorflow as tf

from signbart.batches import (
    Batch,
    PreparedClips,
    Rows,
    evaluation_rows,
    make_batch,
    training_rows,
)
from signbart.configuration.schema import RunConfig
from signbart.models import io_spec

_WHOLE = tf.TensorSpec((None,), tf.int64)
_THREADS = 2  # that make batches; a batch takes a fraction of the time of its step


def input_signature(config: RunConfig) -> dict[str, tf.TensorSpec]:
    """The model's inputs. Batch and frames are left open: one trace serves every batch."""
    return {
        tensor.name: tf.TensorSpec(tensor.shape, tensor.dtype)
        for tensor in io_spec(config, batch=None, frames=None).inputs
    }


def answers_signature(config: RunConfig) -> tf.TensorSpec:
    """What training's batches have to be answered with: labels, or of mixed clips targets."""
    if config.train.mixes:
        return tf.TensorSpec((None, config.model.num_labels), tf.float32)
    return _WHOLE


def training_dataset(prepared: PreparedClips, config: RunConfig, epoch: int) -> tf.data.Dataset:
    """One epoch of shuffled, augmented, length-bucketed batches: the model's inputs, labels (B,).

    They are the batches that `batches.training_batches` makes of the same arguments. Where clips
    are mixed, targets (B, C) stand in the labels' place.
    """
    rows = partial(training_rows, prepared, config, epoch)
    return _dataset(rows, len(prepared), config, answers_signature(config)).map(
        lambda inputs, answers, indices: (inputs, answers)
    )


def evaluation_dataset(prepared: PreparedClips, config: RunConfig) -> tf.data.Dataset:
    """Every clip once, unchanged, the shortest first: the model's inputs, which clips (B,)."""
    rows = partial(evaluation_rows, prepared, config)
    return _dataset(rows, len(prepared), config, _WHOLE).map(
        lambda inputs, labels, indices: (inputs, indices)
    )


def _dataset(
    rows: Callable[[], Iterator[Rows]], count: int, config: RunConfig, answers: tf.TensorSpec
) -> tf.data.Dataset:
    mixed = answers.shape.rank == 2

    def elements():
        for batch in _make_ahead(rows(), config):
            arrays = {"keypoints": batch.keypoints, "attention_mask": batch.attention_mask}
            answer = batch.targets(config.model.num_labels) if mixed else batch.labels
            yield arrays, answer, batch.indices

    dataset = tf.data.Dataset.from_generator(
        elements, output_signature=(input_signature(config), answers, _WHOLE)
    )
    steps = math.ceil(count / config.train.batch_size)
    return dataset.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(tf.data.AUTOTUNE)


def _make_ahead(rows: Iterator[Rows], config: RunConfig) -> Iterator[Batch]:
    """The rows' batches, in order and ahead of their use: drawn by one thread, made by several.

    Not by a parallel `map` of tf.data's: where TensorFlow is to be deterministic it makes those
    sequential that call Python, and drops what was to be fetched ahead.
    """
    with ThreadPoolExecutor(1) as drawing, ThreadPoolExecutor(_THREADS) as making:

        def draw() -> Future[Batch] | None:
            drawn = next(rows, None)
            return None if drawn is None else making.submit(make_batch, drawn, config)

        ahead = deque(drawing.submit(draw) for _ in range(2 * _THREADS))
        while (batch := ahead.popleft().result()) is not None:
            ahead.append(drawing.submit(draw))
            yield batch.result()

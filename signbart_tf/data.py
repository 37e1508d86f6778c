"""The batches of `signbart.batches` as `tf.data` pipelines.

Random numbers are drawn in order, by one thread; batches are then normalised and padded by several,
and made ahead while the model computes. Masks come from lengths, never from coordinates.

Legend: B batch, T frames, K keypoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import tensorflow as tf

from signbart.batches import (
    PreparedClips,
    Rows,
    evaluation_rows,
    make_batch,
    training_rows,
)
from signbart.config import RunConfig


def input_signature(config: RunConfig) -> dict[str, tf.TensorSpec]:
    """The model's inputs. Batch and frames are left open: one trace serves every batch."""
    return {
        "keypoints": tf.TensorSpec((None, None, config.model.num_keypoints, 2), tf.float32),
        "attention_mask": tf.TensorSpec((None, None), tf.int32),
    }


def training_dataset(prepared: PreparedClips, config: RunConfig, epoch: int) -> tf.data.Dataset:
    """One epoch of shuffled, augmented, length-bucketed batches: the model's inputs, labels (B,).

    They are the batches that `batches.training_batches` makes of the same arguments.
    """
    return _dataset(lambda: training_rows(prepared, config, epoch), len(prepared), config).map(
        lambda inputs, labels, indices: (inputs, labels)
    )


def evaluation_dataset(prepared: PreparedClips, config: RunConfig) -> tf.data.Dataset:
    """Every clip once, unchanged, the shortest first: the model's inputs, which clips (B,)."""
    return _dataset(lambda: evaluation_rows(prepared, config), len(prepared), config).map(
        lambda inputs, labels, indices: (inputs, indices)
    )


def _dataset(rows: Callable[[], Iterator[Rows]], count: int, config: RunConfig) -> tf.data.Dataset:
    keypoints = input_signature(config)["keypoints"]
    whole = tf.TensorSpec((None,), tf.int64)

    def drawn():
        for batch in rows():
            yield batch.points, batch.lengths, batch.labels, batch.indices

    def made(points, lengths, labels, indices):
        batch = make_batch(Rows(points, lengths, labels, indices), config)
        return batch.keypoints, batch.attention_mask

    def shaped(points, lengths, labels, indices):
        # Not stateful, or TensorFlow's determinism would have the batches made one after another.
        arrays = tf.numpy_function(
            made, (points, lengths, labels, indices), (tf.float32, tf.int32), stateful=False
        )
        inputs = {
            name: tf.ensure_shape(array, spec.shape)
            for array, (name, spec) in zip(arrays, input_signature(config).items(), strict=True)
        }
        return inputs, labels, indices

    dataset = tf.data.Dataset.from_generator(
        drawn, output_signature=(keypoints, whole, whole, whole)
    )
    dataset = dataset.map(shaped, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    steps = math.ceil(count / config.train.batch_size)
    return dataset.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(tf.data.AUTOTUNE)

"""The pipelines give the batches of the shared core, bit by bit, whatever the machine is doing."""

import dataclasses

import numpy as np
import pytest

from signbart.batches import evaluation_batches, prepare_clips, training_batches
from signbart.landmarks.layouts import get_layout
from signbart.recordings.clip import Clip, ClipSet
from signbart_tf.training.data import evaluation_dataset, training_dataset


@pytest.fixture(scope="module")
def config(tiny_config):
    """Boxes to normalise, augmentation of every kind."""
    data = dataclasses.replace(tiny_config.data, layout="kp63", normalization="bbox_ignore_missing")
    model = dataclasses.replace(tiny_config.model, joint_idx=tuple(range(0, 60, 7)), num_labels=3)
    augment = dataclasses.replace(tiny_config.augment, probability=0.7, flip=0.5)
    return dataclasses.replace(tiny_config, data=data, model=model, augment=augment)


@pytest.fixture(scope="module")
def prepared(config):
    """101 clips of 1 to 20 frames, some of them without a single landmark."""
    rng = np.random.default_rng(1)
    clips = []
    for index in range(101):
        landmarks = rng.random((rng.integers(1, 21), 63, 2), np.float32)
        landmarks[rng.random(len(landmarks)) < 0.2] = 0
        clips.append(Clip(landmarks, index % 3, "a", 0, f"[{index}]"))
    assert get_layout("kp63").num_keypoints == 63
    return prepare_clips(ClipSet(tuple(clips), ("one", "two", "three")), config)


def assert_same(inputs, others, batch, name):
    assert inputs.keys() == {"keypoints", "attention_mask"}
    for key, value in (*inputs.items(), (name, others)):
        wanted = getattr(batch, name if key == name else key)
        assert value.numpy().dtype == wanted.dtype
        np.testing.assert_array_equal(value.numpy(), wanted)


@pytest.mark.parametrize("epoch", [0, 3])
def test_training_batches_are_those_that_pytorch_is_given(prepared, config, epoch):
    dataset = training_dataset(prepared, config, epoch)
    wanted = list(training_batches(prepared, config, epoch))
    assert len(dataset) == len(wanted) == 13
    assert len({batch.keypoints.shape for batch in wanted}) > 3
    for (inputs, labels), batch in zip(dataset, wanted, strict=True):
        assert_same(inputs, labels, batch, "labels")
    again = training_batches(prepared, config, epoch + 1)
    assert not all(
        np.array_equal(one.indices, other.indices) for one, other in zip(wanted, again, strict=True)
    )


def test_evaluation_batches_are_those_that_pytorch_is_given(prepared, config):
    wanted = list(evaluation_batches(prepared, config))
    for (inputs, indices), batch in zip(evaluation_dataset(prepared, config), wanted, strict=True):
        assert_same(inputs, indices, batch, "indices")
        # A frame without any landmark is a frame.
        frames = inputs["attention_mask"].numpy().sum(axis=1)
        np.testing.assert_array_equal(frames, prepared.lengths[indices.numpy()])
    assert (prepared.points == 0).all(axis=(2, 3))[:, 0].any()


def test_no_clips_give_no_batches(prepared, config):
    nothing = prepare_clips(ClipSet((), ("one", "two", "three")), config)
    assert list(training_dataset(nothing, config, 0)) == []
    assert list(evaluation_dataset(nothing, config)) == []

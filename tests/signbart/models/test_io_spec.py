"""The contract of inputs: what does not fit is refused, in words that say expected and found."""

import dataclasses

import numpy as np
import pytest

from signbart.errors import RuntimeInputError
from signbart.models import io_spec
from signbart.models.io_spec import (
    ATTENTION_MASK,
    KEYPOINTS,
    LOGITS,
    SIGNATURE,
    TensorSpec,
    with_integers,
)


def good(frames=12, batch=1) -> dict[str, np.ndarray]:
    return {
        KEYPOINTS: np.zeros((batch, frames, 41, 2), np.float32),
        ATTENTION_MASK: np.ones((batch, frames), np.int32),
    }


def test_the_contract(config):
    spec = io_spec(config)
    assert spec.signature == SIGNATURE == "serving_default"
    assert [tensor.describe() for tensor in (*spec.inputs, *spec.outputs)] == [
        "keypoints float32 (1, 12, 41, 2)",
        "attention_mask int32 (1, 12)",
        "logits float32 (1, 5)",
    ]
    free = io_spec(config, batch=None, frames=None)
    assert free.inputs[0].describe() == "keypoints float32 (any, any, 41, 2)"
    assert free.outputs[0].name == LOGITS and free.outputs[0].shape == (None, 5)
    assert io_spec(config, frames=7).inputs[1].shape == (1, 7)


def test_what_fits_is_taken(config):
    io_spec(config).check_inputs(good(), "x")
    io_spec(config, batch=None, frames=None).check_inputs(good(frames=3, batch=4), "x")
    holes = good()
    holes[ATTENTION_MASK][0, ::2] = 0
    holes[KEYPOINTS][0, ::2] = np.nan
    io_spec(config).check_inputs(holes, "x")


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        ({KEYPOINTS: None}, ["keypoints float32 (1, 12, 41, 2)", "it was given attention_mask"]),
        ({KEYPOINTS: None, ATTENTION_MASK: None}, ["it was given nothing"]),
        ({"args_0": np.zeros(1)}, ["it was given args_0, attention_mask, keypoints"]),
        (
            {KEYPOINTS: np.zeros((1, 12, 42, 2), np.float32)},
            ["takes keypoints float32 (1, 12, 41, 2)", "given keypoints float32 (1, 12, 42, 2)"],
        ),
        ({KEYPOINTS: np.zeros((12, 41, 2), np.float32)}, ["float32 (12, 41, 2)"]),
        ({KEYPOINTS: np.zeros((1, 11, 41, 2), np.float32)}, ["float32 (1, 11, 41, 2)"]),
        ({KEYPOINTS: np.zeros((1, 12, 41, 2))}, ["takes keypoints float32", "keypoints float64"]),
        ({ATTENTION_MASK: np.ones((1, 12), np.int64)}, ["takes attention_mask int32", "int64"]),
        ({ATTENTION_MASK: np.ones((1, 12), bool)}, ["takes attention_mask int32", "bool"]),
        ({ATTENTION_MASK: np.full((1, 12), 2, np.int32)}, ["attention_mask must hold 0 and 1"]),
        ({ATTENTION_MASK: np.full((1, 12), -1, np.int32)}, ["attention_mask must hold 0 and 1"]),
        ({ATTENTION_MASK: np.zeros((1, 12), np.int32)}, ["row 0 of attention_mask has no frame"]),
    ],
)
def test_what_does_not_fit_is_refused(config, change, texts):
    arrays = {name: array for name, array in (good() | change).items() if array is not None}
    with pytest.raises(RuntimeInputError) as error:
        io_spec(config).check_inputs(arrays, "model.tflite")
    for text in ["model.tflite", *texts]:
        assert text in str(error.value)


def test_the_empty_row_is_the_one_named(config):
    arrays = good(batch=3)
    arrays[ATTENTION_MASK][2] = 0
    with pytest.raises(RuntimeInputError, match="row 2 of attention_mask"):
        io_spec(config, batch=None).check_inputs(arrays, "torch")


def test_a_promise_is_kept_to_the_last_size(config):
    promised = io_spec(config)
    turned = dataclasses.replace(promised, inputs=promised.inputs[::-1])
    assert turned.keeps(promised)
    assert not io_spec(config, frames=11).keeps(promised)
    assert not promised.keeps(io_spec(config, batch=None, frames=None))


def test_more_frames_than_positions_are_refused(config):
    spec = io_spec(config, batch=None, frames=None)
    frames = config.model.max_position_embeddings
    for length, fits in ((frames, True), (frames + 1, False)):
        arrays = {
            "keypoints": np.zeros((1, length, config.model.num_keypoints, 2), np.float32),
            "attention_mask": np.ones((1, length), np.int32),
        }
        if fits:
            spec.check_inputs(arrays, "torch")
        else:
            with pytest.raises(RuntimeInputError, match="positions for 16 frames; it was given 17"):
                spec.check_inputs(arrays, "torch")


# Integers that stand for real numbers


def integer_spec(rng, dtype: str) -> TensorSpec:
    limits = np.iinfo(dtype)
    zero = int(rng.integers(limits.min, limits.max + 1)) if dtype == "int8" else 0
    return TensorSpec("x", (None,), dtype, float(10 ** rng.uniform(-5, 2)), zero)


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("seed", range(20))
def test_integers_come_back_and_numbers_within_half_a_step(dtype, seed):
    rng = np.random.default_rng(seed)
    spec, limits = integer_spec(rng, dtype), np.iinfo(dtype)
    every = np.arange(limits.min, limits.max + 1).astype(dtype)
    real = spec.dequantize(every)
    assert real.dtype == np.float32 and (np.diff(real) > 0).all()
    np.testing.assert_array_equal(spec.quantize(real), every)
    within = rng.uniform(real[0], real[-1], 1000).astype(np.float32)
    found = spec.dequantize(spec.quantize(within))
    assert spec.quantize(within).dtype == dtype
    assert np.abs(found - within).max() <= spec.scale * (0.5 + 1e-2)
    # Larger numbers never become smaller integers.
    assert (np.diff(spec.quantize(np.sort(within)).astype(int)) >= 0).all()


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_what_is_beyond_is_cut_off_and_nan_is_zero(dtype):
    spec, limits = TensorSpec("x", (None,), dtype, 0.01, 5), np.iinfo(dtype)
    for beyond in (1e9, 3e38, np.inf):
        given = np.float32([beyond, -beyond, np.nan, 0])
        with np.errstate(all="raise"):  # cut off on purpose, not by overflow
            found = spec.quantize(given)
        assert found.tolist() == [limits.max, limits.min, 5, 5]


def test_a_promise_of_integers_leaves_the_mask_alone(config):
    spec = with_integers(io_spec(config), "int8")
    assert [t.describe() for t in (*spec.inputs, *spec.outputs)] == [
        "keypoints int8 (1, 12, 41, 2)", "attention_mask int32 (1, 12)", "logits int8 (1, 5)",
    ]  # fmt: skip
    scaled = TensorSpec("logits", (1, 5), "int8", 0.25, -3)
    assert scaled.describe() == "logits int8 (1, 5), real = (integer - -3) * 0.25"
    # Scales are the artifact's own, and break no promise.
    assert dataclasses.replace(spec, outputs=(scaled,)).keeps(spec)
    assert not io_spec(config).keeps(spec)

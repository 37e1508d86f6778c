"""Preprocessing in both frameworks' graphs, held to `signbart.preprocessing`."""

import dataclasses
import importlib

import numpy as np
import pytest
import torch

from signbart.configuration.reading import from_dict
from signbart.configuration.schema import RunConfig
from signbart.landmarks.layouts import LAYOUTS
from signbart.models.io_spec import (
    ATTENTION_MASK,
    FRAMES_USED,
    KEYPOINTS,
    LANDMARKS,
    LOGITS,
    NUM_FRAMES,
    PROBABILITIES,
)
from signbart.preprocessing import BODY_FRAME, as_model_input, pad, preprocess

LONGEST, RAW = 12, 31  # T and S
LENGTHS = (1, 2, LONGEST - 1, LONGEST, LONGEST + 1, 25, RAW)


class WithDepth(RunConfig):
    """Of a kind that takes x, y and z."""

    coordinates = 3


def make_config(layout: str, normalization: str, joints=None, **data) -> RunConfig:
    data = {"layout": layout, "normalization": normalization, "max_frames": LONGEST, **data}
    return from_dict({"model": {"joint_idx": joints, "num_labels": 3}, "data": data}, source="test")


def with_depth(config: RunConfig) -> RunConfig:
    return WithDepth(**{f.name: getattr(config, f.name) for f in dataclasses.fields(config)})


def features(normalization: str) -> RunConfig:
    data = {"layout": "kp89", "normalization": normalization, "max_frames": LONGEST}
    return from_dict({"model": "sign_transformer", "data": data}, source="test")


IMAGE = [name for name, layout in LAYOUTS.items() if layout.unit == "image"]
IN_IMAGES = ("bbox", "bbox_ignore_missing", "gaps_filled")
MIXED = [40, 2, 50, 20, 0, 30, 3, 60]
OWN = {"elbow": "arm", "thumb": "hand", "nose": "face", "wrist": "arm", "index": "hand"}
OWN_BODY = {name: "body" for name in (*reversed(BODY_FRAME), "Knee")}
LINEAR = {"resample": "linear"}
CONFIGS = {
    **{f"{name} {how}": make_config(name, how) for name in IMAGE for how in IN_IMAGES},
    # Out of order, groups in each other's midst.
    **{f"joints {how}": make_config("kp63", how, MIXED) for how in IN_IMAGES},
    **{f"own {how}": make_config("mine", how, landmarks=OWN) for how in IN_IMAGES},
    **{f"features {how}": features(how) for how in IN_IMAGES},
    **{f"linear {how}": make_config("kp75", how, **LINEAR) for how in IN_IMAGES},
    "linear metres": make_config("kinect20", "body_centred", **LINEAR),
    "one frame linear": make_config("kp65", "bbox", max_frames=1, **LINEAR),
    "one frame": make_config("kp65", "bbox", max_frames=1),
    "kinect20": make_config("kinect20", "body_centred"),
    "kinect20 joints": make_config("kinect20", "body_centred", [8, 1, 5]),
    "kinect20 depth": with_depth(make_config("kinect20", "body_centred", [8, 1, 5])),
    "own metres": make_config("mine", "body_centred", landmarks=OWN_BODY),
    "own depth": with_depth(make_config("mine", "body_centred", landmarks=OWN_BODY)),
}  # fmt: skip


def recording(config: RunConfig, frames: int, seed: int = 0) -> np.ndarray:
    """(frames, N, 2 or 3): moving points with gaps of every length; some beyond the edges."""
    rng = np.random.default_rng(seed)
    layout = config.data.landmark_layout
    shape = (frames, layout.num_keypoints)
    if layout.unit == "metres":
        steps = rng.normal(scale=0.05, size=(*shape, 3)).cumsum(axis=0)
        start = rng.normal(size=(shape[1], 3)) + np.array([0, 0, 2])
        return (start + steps).astype(np.float32)
    points = 0.5 + 0.2 * rng.normal(size=(1, shape[1], 2))
    points = points + 0.05 * rng.normal(size=(*shape, 2)).cumsum(axis=0)
    for landmark in range(shape[1]):
        at = 0
        while at < frames:
            length = int(rng.integers(1, 9))
            if rng.random() < 0.3:
                points[at : at + length, landmark] = 0
            at += length
    for members in layout.groups.values():  # a group that is lost, and one that is one point
        points[np.ix_(rng.random(frames) < 0.1, list(members))] = 0
        for frame in np.flatnonzero(rng.random(frames) < 0.1):
            points[frame, list(members)] = rng.random(2)
    return points.astype(np.float32)


def as_given(landmarks: np.ndarray, behind: float, nan: bool) -> np.ndarray:
    """(1, S, N, D): padded with what must not be read; missing points are NaN or zero."""
    padded = np.full((1, RAW, *landmarks.shape[1:]), behind, np.float32)
    padded[0, : len(landmarks)] = landmarks
    if nan and landmarks.shape[2] == 2:
        missing = (landmarks == 0).all(axis=-1)
        padded[0, : len(landmarks)][missing] = np.nan
    return padded


def expected(landmarks: np.ndarray, config: RunConfig) -> tuple[np.ndarray, np.ndarray]:
    keypoints, mask = pad([preprocess(landmarks, config)], config.data.max_frames)
    return as_model_input(keypoints, config), mask


def in_torch(config: RunConfig):
    from signbart_torch.models.preprocessing import Preprocessing

    module = Preprocessing(config, RAW)

    def run(landmarks, num_frames):
        with torch.inference_mode():
            given = torch.from_numpy(landmarks), torch.tensor([num_frames], dtype=torch.int32)
            return [output.numpy() for output in module(*given)]

    return run


def in_keras(config: RunConfig):
    from signbart_tf.models.framework import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    from signbart_tf.models.preprocessing import Preprocessing

    layer = tf.function(Preprocessing(config, RAW))

    def run(landmarks, num_frames):
        return [o.numpy() for o in layer(tf.constant(landmarks), tf.constant([num_frames]))]

    return run


FRAMEWORKS = {"torch": in_torch, "keras": in_keras}
every_framework = pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS)
# In metres NumPy computes in float64, of numbers that are a few torso lengths (seen: 7.2e-7); boxes
# are the same arithmetic.
LIMITS = {"metres": 1e-6, "image": 0.0}
# TensorFlow may join a product and a sum, which rounds once less: 6e-8 of a point between two
# frames, over the side of its box, which is a sixteenth of the picture or more. Seen: 3.7e-7.
LINEAR_LIMIT = 1e-6


@every_framework
@pytest.mark.parametrize("name", CONFIGS)
def test_the_graph_prepares_as_numpy_does(framework, name):
    config = CONFIGS[name]
    run, limit = framework(config), LIMITS[config.data.landmark_layout.unit]
    if LINEAR and "linear" in name:
        limit = max(limit, LINEAR_LIMIT)
    for length in LENGTHS:
        landmarks = recording(config, length, seed=length)
        wanted, mask = expected(landmarks, config)
        for behind, nan in ((0.0, False), (np.nan, True), (1e30, True)):
            keypoints, found, used = run(as_given(landmarks, behind, nan), length)
            assert (keypoints.shape, keypoints.dtype) == (wanted.shape, np.float32)
            np.testing.assert_array_equal(found, mask)
            assert found.dtype == used.dtype == np.int32 and used.tolist() == [length]
            assert np.isfinite(keypoints).all(), "what is behind the recording was read"
            there = mask[0] > 0
            np.testing.assert_allclose(
                keypoints[0, there], wanted[0, there], rtol=0, atol=limit, err_msg=f"{length}"
            )


@every_framework
def test_where_somebody_stands_is_not_in_the_numbers(framework):
    """Narrow shoulders and a short torso magnify what is rounded four metres away."""
    config = CONFIGS["kinect20"]
    run, rng = framework(config), np.random.default_rng(0)
    neck, base, left, right = (config.data.landmark_layout.index(name) for name in BODY_FRAME)
    for length in (RAW, RAW - 3):
        body = rng.uniform(-1, 1, (20, 3))
        body[[neck, base, left, right]] = (0, 0, 0), (0, -0.3, 0), (-0.01, 0, 0.01), (0.01, 0, 0)
        way = rng.normal(scale=0.05, size=(length, 1, 3)).cumsum(axis=0)
        landmarks = (body + way + np.array([0.7, 0.2, 4.0])).astype(np.float32)
        wanted, mask = expected(landmarks, config)
        keypoints, _, _ = run(as_given(landmarks, np.nan, False), length)
        there = mask[0] > 0
        np.testing.assert_allclose(keypoints[0, there], wanted[0, there], rtol=0, atol=2e-6)


@every_framework
@pytest.mark.parametrize(("given", "used"), [(0, 1), (-5, 1), (RAW + 1, RAW), (2**31 - 1, RAW)])
@pytest.mark.parametrize("name", ["kp63 bbox", "kp63 gaps_filled", "kinect20"])
def test_a_number_of_frames_that_cannot_be_is_cut_and_said(framework, name, given, used):
    config = CONFIGS[name]
    landmarks = recording(config, RAW, seed=3)
    keypoints, mask, said = framework(config)(landmarks[None], given)
    wanted, wanted_mask = expected(landmarks[:used], config)
    np.testing.assert_array_equal(mask, wanted_mask)
    there = mask[0] > 0
    np.testing.assert_allclose(keypoints[0, there], wanted[0, there], rtol=0, atol=2e-6)
    assert said.tolist() == [used]


ALTERED = {
    "margin": ("kp63 bbox", "BOX_MARGIN", lambda margin: 0.9 * margin),
    "gap": ("kp63 gaps_filled", "LONGEST_GAP", lambda frames: frames - 1),
    "missing": ("kp63 bbox_ignore_missing", "_without_nan", lambda _: lambda points: points),
    "joint": ("kinect20", "BODY_FRAME", lambda names: (*names[:2], *names[:1:-1])),
    "centre": ("kinect20", "BODY_FRAME", lambda names: ("Head", *names[1:])),
}


@every_framework
@pytest.mark.parametrize("what", ALTERED)
def test_a_step_that_differs_is_found(framework, what, monkeypatch):
    name, attribute, alter = ALTERED[what]
    module = {
        in_torch: "signbart_torch.models.preprocessing",
        in_keras: "signbart_tf.models.preprocessing",
    }[framework]
    module = importlib.import_module(module)
    monkeypatch.setattr(module, attribute, alter(getattr(module, attribute)))
    assert is_off(framework, CONFIGS[name], CONFIGS[name])


def is_off(framework, config, other, frames=RAW) -> bool:
    """Whether a graph for one configuration does something else than NumPy for another."""
    landmarks = recording(config, RAW, seed=RAW)
    wanted, _ = expected(landmarks, other)
    keypoints, _, _ = framework(config)(as_given(landmarks, 0.0, True), frames)
    # NaN is a difference, too.
    return not (np.abs(keypoints - wanted) <= 1e-4).all()


@every_framework
def test_another_contract_is_found(framework):
    config = CONFIGS["kp63 bbox_ignore_missing"]
    assert not is_off(framework, config, config)
    assert is_off(framework, config, config, frames=RAW - 1)
    for how in ("bbox", "gaps_filled"):
        assert is_off(framework, config, CONFIGS[f"kp63 {how}"])


def test_probabilities_are_the_softmax_over_the_temperature():
    from signbart_torch.models.raw_graph import Around

    config = CONFIGS["kp63 bbox"]
    scores = np.array([[2.0, -1.0, 0.5]], np.float32)
    given = {
        LANDMARKS: torch.from_numpy(recording(config, RAW)[None]),
        NUM_FRAMES: torch.tensor([5], dtype=torch.int32),
        LOGITS: torch.from_numpy(scores),
    }
    found = Around(config, RAW, temperature=2.0)(**given)
    shares = np.exp(scores / 2) / np.exp(scores / 2).sum()
    np.testing.assert_allclose(found[PROBABILITIES].numpy(), shares, rtol=1e-6)
    assert found[FRAMES_USED].tolist() == [5]


@pytest.mark.slow
@pytest.mark.parametrize("route", ["litert", "keras"])
def test_what_fills_gaps_is_converted(route, tmp_path):
    """Boxes and metres are in artifacts of tests/bridge; by route onnx Keras's goes, too."""
    from bridge.artifact.runtimes import open_runtime
    from bridge.routes import via_keras, via_litert
    from signbart.models.raw_spec import RawSignature

    config = CONFIGS["joints gaps_filled"]
    path = tmp_path / "around.tflite"
    {"litert": via_litert, "keras": via_keras}[route].export_around(RawSignature(config, RAW), path)
    run, scores = open_runtime(path), np.zeros((1, config.model.num_labels), np.float32)
    for length in LENGTHS:
        landmarks = recording(config, length, seed=length)
        wanted, mask = expected(landmarks, config)
        given = {
            LANDMARKS: as_given(landmarks, np.nan, True),
            NUM_FRAMES: np.array([length], np.int32),
            LOGITS: scores,
        }
        found, there = run(given), mask[0] > 0
        np.testing.assert_array_equal(found[ATTENTION_MASK], mask)
        np.testing.assert_allclose(
            found[KEYPOINTS][0, there], wanted[0, there], rtol=0, atol=LINEAR_LIMIT
        )

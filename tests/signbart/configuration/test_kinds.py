"""Runs of other models than SignBART: their configuration, their input, their categories."""

import dataclasses
import json

import numpy as np
import pytest
import yaml

from signbart.batches import evaluation_batches, prepare_clips
from signbart.configuration.reading import from_dict, load_config
from signbart.errors import ConfigError
from signbart.models.mediapipe_gru import MediapipeGruConfig
from signbart.models.sign_transformer import SignTransformerConfig
from signbart.preprocessing import describe_steps, preprocess
from signbart.recordings.clip import Clip, ClipSet
from signbart.training.calibration import calibration_inputs
from signbart.training.frameworks import KERAS, TORCH
from signbart.training.requirements import require_trainable, with_labels
from signbart.training.run_folder import find_run

DATA = {"layout": "kp89", "max_frames": 40, "normalization": "bbox_ignore_missing"}
CATEGORIES = {"hello": "greeting", "sad": "feeling", "happy": "feeling"}


def run(model="sign_transformer", **data):
    return from_dict({"model": model, "data": {**DATA, **data}}, source="a.yaml")


def clips(frames=(30, 12), names=tuple(CATEGORIES)) -> ClipSet:
    rng = np.random.default_rng(3)
    made = [
        Clip(rng.random((count, 89, 2)).astype(np.float32), at % len(names), "a", at, f"[{at}]")
        for at, count in enumerate(frames)
    ]
    return ClipSet(tuple(made), names)


def test_a_name_alone_is_the_model_in_its_published_size():
    config = run()
    assert config.kind == "sign_transformer" and config.takes_features
    # As many classes as the data has, and not as the published checkpoints have.
    assert config.model == SignTransformerConfig(num_labels=None)
    assert run({"kind": "mediapipe_gru", "hidden1": 64}).model == MediapipeGruConfig(
        num_labels=None, hidden1=64
    )
    assert run("signbart").kind == "signbart" and not run("signbart").takes_features
    assert len(config.joint_idx) == config.num_keypoints == 89


def test_an_override_may_change_the_kind(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump({"model": "sign_transformer", "data": DATA}))
    config = load_config(path, ["model.kind=mediapipe_gru", "model.hidden2=32"])
    assert config.kind == "mediapipe_gru" and config.model.hidden2 == 32


def test_the_header_of_a_checkpoint_brings_it_back():
    config = run({"kind": "sign_transformer", "num_categories": 2}, categories=CATEGORIES)
    tree = json.loads(json.dumps(config.to_dict()))
    assert tree["model"]["kind"] == "sign_transformer"
    assert from_dict(tree, source="header") == config
    assert "kind" not in run("signbart").to_dict()["model"]


@pytest.mark.parametrize(
    ("model", "data", "texts"),
    [
        ("bert", {}, ["model.kind is 'bert'", "signbart, sign_transformer, mediapipe_gru"]),
        ({"kind": "mediapipe_gru", "d_model": 3}, {}, ["unknown key 'model.d_model'"]),
        ({"kind": "sign_transformer", "pooling": "sum"}, {}, ["model.pooling is 'sum'", "mean"]),
        ("sign_transformer", {"layout": "kp90"}, ["num_features is 178", "180", "fit: kp89"]),
        ("sign_transformer", {"max_frames": 301}, ["data.max_frames (301)", "positions for (300)"]),
        (
            {"kind": "sign_transformer", "pooling": "cls"},
            {"max_frames": 300},
            ["data.max_frames (300)", "(299)"],
        ),
        ("sign_transformer", {"categories": CATEGORIES}, ["names 2 categories", "set that to 2"]),
        ("sign_transformer", {"categories": ["a"]}, ["data.categories must hold keys and values"]),
        ("sign_transformer", {"categories": {"no": False}}, ["found False", "quotes"]),
        ("signbart", {"categories": CATEGORIES}, ["SignBART tells classes only"]),
    ],
)
def test_what_does_not_fit_is_refused(model, data, texts):
    with pytest.raises(ConfigError) as raised:
        run(model, **data)
    assert all(text in str(raised.value) for text in ["a.yaml", *texts]), raised.value


def test_the_gru_takes_any_length():
    assert run("mediapipe_gru", max_frames=500).data.max_frames == 500


def test_every_class_has_a_category_or_none_has():
    config = run({"kind": "sign_transformer", "num_categories": 2}, categories=CATEGORIES)
    assert with_labels(config, clips()).model.num_labels == 3
    assert config.data.category_names == ("feeling", "greeting")
    with pytest.raises(ConfigError, match="no category for bye; give every class"):
        with_labels(config, clips(names=(*CATEGORIES, "bye")))


def test_a_frame_is_one_vector_of_x_and_y_by_turns():
    config, recordings = run(), clips()
    batch = next(evaluation_batches(prepare_clips(recordings, config), config))
    assert batch.keypoints.shape == (2, 30, 178) and batch.keypoints.dtype == np.float32
    assert batch.attention_mask.sum(axis=1).tolist() == [12, 30]
    points = preprocess(recordings.clips[1].landmarks, config)
    assert not batch.keypoints[0, 12:].any()
    np.testing.assert_array_equal(batch.keypoints[0, :12, 0::2], points[:, :, 0])
    np.testing.assert_array_equal(batch.keypoints[0, :12, 1::2], points[:, :, 1])
    assert "x and y of the first landmark" in describe_steps(config)[-1]
    assert "x and y of the first landmark" not in " ".join(describe_steps(run("signbart")))


def test_short_clips_are_not_resampled():
    # All 30 frames stay below max_frames; a negative control has fewer.
    assert len(preprocess(clips().clips[0].landmarks, run())) == 30
    assert len(preprocess(clips().clips[0].landmarks, run(max_frames=20))) == 20


def test_calibration_shows_what_the_model_takes():
    keypoints, mask = calibration_inputs(clips([5] * 100), run())
    assert keypoints.shape == (100, 40, 178) and mask.shape == (100, 40)


def test_a_run_of_another_model_is_not_gone_on_with(tmp_path):
    (tmp_path / "last.safetensors").touch()

    @dataclasses.dataclass
    class State:
        config: object
        class_names: tuple = ()
        progress: dict = dataclasses.field(default_factory=dict)

    with pytest.raises(ConfigError, match=r"model\.kind is 'sign_transformer' there and 'media"):
        find_run(
            tmp_path, run("mediapipe_gru"), (), {}, True,
            framework=TORCH, load=lambda path: State(run()),
        )  # fmt: skip


def test_what_keras_does_not_train_says_so():
    with pytest.raises(
        ConfigError, match=r"training in Keras is for SignBART, ConvSignBART only.*'mediapipe_gru'"
    ):
        require_trainable(run("mediapipe_gru"), KERAS)
    require_trainable(run("signbart"), KERAS)
    require_trainable(run("mediapipe_gru"), TORCH)

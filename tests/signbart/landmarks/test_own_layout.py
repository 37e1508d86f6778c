"""A layout of a user's own: from its YAML file into the configuration, and on from there."""

import numpy as np
import pytest

from signbart.configuration.reading import from_dict, load_config
from signbart.errors import ConfigError
from signbart.landmarks.layouts import LAYOUTS
from signbart.landmarks.own_layout import describe_layout, own_layout
from signbart.landmarks.source import as_source
from signbart.landmarks.source_file import read_source_layout
from signbart.preprocessing import joint_flip, joint_groups, preprocess
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips

YAML = """
landmarks: {thumb_l: 3, thumb_r: 1, brow_left: 5, brow_right: 4, chin: 0}
count: 7
channels: [x, y, confidence]
min_confidence: 0.2
groups: {hands: [thumb_l, thumb_r]}
flip_pairs: [[thumb_l, thumb_r]]
"""
ORDER = "chin thumb_r thumb_l brow_right brow_left".split()  # as they stand in the source
RUN = """
model: {d_model: 16, encoder_layers: 1, decoder_layers: 1, encoder_attention_heads: 2,
  decoder_attention_heads: 2, encoder_ffn_dim: 16, decoder_ffn_dim: 16}
data: {layout: LAYOUT, max_frames: 6, normalization: bbox_ignore_missing}
train: {epochs: 2, batch_size: 4, val_signers: 0}
augment: {probability: 1.0, flip: 0.5}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(YAML)
    return path


def run(tmp_path, layout, *overrides):
    path = tmp_path / "run.yaml"
    path.write_text(RUN.replace("LAYOUT", str(layout)))
    return load_config(path, overrides)


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_a_source_does_not_say_follows_from_its_names(name):
    layout = LAYOUTS[name]
    groups, pairs = describe_layout(as_source(layout))
    found = own_layout(name, groups, pairs, layout.unit)
    assert found.groups == layout.groups and found.names == layout.names
    # The face mesh is numbered: nothing in its names tells left from right.
    for at, landmark in enumerate(layout.names):
        assert found.flip[at] == (at if landmark.startswith("face_") else layout.flip[at])


def test_the_file_becomes_part_of_the_configuration(tmp_path, file):
    config = run(tmp_path, file)
    layout = config.data.landmark_layout
    assert (layout.name, layout.unit, list(layout.names)) == ("mine", "image", ORDER)
    assert layout.groups == {"body": (0, 3, 4), "hands": (1, 2)}
    assert layout.flip == (0, 2, 1, 4, 3)
    assert config.num_keypoints == 5 and joint_flip(config).tolist() == [0, 2, 1, 4, 3]
    assert joint_groups(config) == {"body": (0, 3, 4), "hands": (1, 2)}
    tree = config.to_dict()
    file.unlink()
    assert from_dict(tree, source="header") == config
    plain = run(tmp_path, "kp75")
    assert not {"landmarks", "flip_pairs"} & set(plain.to_dict()["data"])
    file.write_text(YAML)
    assert run(tmp_path, "kp75", f"data.layout={file}") == config


def test_a_flat_file_takes_it_too(tmp_path, file):
    (tmp_path / "flat.yaml").write_text("name: mine\nd_model: 16\nencoder_layers: 1\n")
    config = load_config(tmp_path / "flat.yaml", [f"data.layout={file}", "train.epochs=3"])
    assert (config.name, config.model.d_model, config.train.epochs) == ("mine", 16, 3)
    assert (config.model.decoder_layers, list(config.data.landmark_layout.names)) == (1, ORDER)


def test_a_header_names_no_file(tmp_path, file):
    tree = run(tmp_path, "kp75").to_dict()
    tree["data"]["layout"] = str(file)
    with pytest.raises(ConfigError, match="unknown landmark layout"):
        from_dict(tree, source="header")


BAD = {
    "a built-in name": ({"layout": "kp75"}, "data.layout must name it"),
    "a path": ({"layout": "../x"}, "data.layout must name it"),
    "a pair of strangers": ({"flip_pairs": {"chin": "nose"}}, "chin and nose: both must be"),
    "two pairs": ({"flip_pairs": {"chin": "thumb_l", "brow_left": "chin"}}, "in no other pair"),
    "too many": ({"landmarks": {str(at): "body" for at in range(10_001)}}, "1 to 10000"),
    "no texts": ({"landmarks": {"chin": 1}}, "must pair texts"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_a_header_may_not_say(tmp_path, file, what):
    change, message = BAD[what]
    tree = run(tmp_path, file).to_dict()
    tree["data"] |= change
    with pytest.raises(ConfigError, match=message):
        from_dict(tree, source="header")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("groups: [a]", "groups must be group"),
        ("groups: {a: [nose]}", "groups: 'nose' is not among the landmarks"),
        ("groups: {a: [chin], b: [chin]}", "groups names 'chin' twice"),
        ("flip_pairs: [[chin]]", "flip_pairs must be"),
        ("flip_pairs: [[chin, thumb_l], [thumb_l, thumb_r]]", "flip_pairs names 'thumb_l' twice"),
    ],
)
def test_what_a_file_may_not_say(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text("landmarks: [chin, thumb_l, thumb_r]\n" + text)
    with pytest.raises(ConfigError, match=rf"bad\.yaml: {message}"):
        read_source_layout(path)


def recordings(tmp_path):
    """Clips of 7 landmarks with a confidence, of which the file names 5."""
    rng = np.random.default_rng(0)
    for sign in ("hello", "bye"):
        (tmp_path / "set" / sign).mkdir(parents=True)
        for at in range(4):
            points = rng.uniform(0.25, 0.9, (6 + at, 7, 3)).astype(np.float32)
            points[0, 3, 2] = 0.1  # a confidence too low
            np.save(tmp_path / "set" / sign / f"user{at}_R1.npy", points)
    return tmp_path / "set"


def test_its_landmarks_reach_the_model(tmp_path, file):
    data, config = recordings(tmp_path), run(tmp_path, file)
    clips = read_clips(data, source_layout=str(file))
    write_packed(clips, tmp_path / "x.npz")
    raw = np.load(data / "bye" / "user0_R1.npy")
    for read in (clips, read_clips(tmp_path / "x.npz")):
        landmarks = read.to_layout(config.data.landmark_layout).clips[0].landmarks
        assert landmarks.shape == (6, 5, 2) and not landmarks[0, 2].any()
        np.testing.assert_allclose(landmarks[1:, 2], raw[1:, 3, :2], atol=6e-5)
        np.testing.assert_allclose(landmarks[:, 0], raw[:, 0, :2], atol=6e-5)
        assert np.isfinite(preprocess(landmarks, config)).all()


@pytest.mark.slow
def test_a_model_of_it_is_trained_and_carries_it(tmp_path, file):
    from signbart_runtime.evaluation.opened import open_model
    from signbart_torch import train_model

    clips = read_clips(recordings(tmp_path), source_layout=str(file))
    config = run(tmp_path, file)
    train_model(clips, config, tmp_path / "run")
    file.unlink()
    model = open_model(tmp_path / "run" / "best.safetensors")
    assert model.config.data == config.data
    scores = dict(model.classify(clips.select([0])))
    assert set(scores) == {"hello", "bye"} and np.isclose(sum(scores.values()), 1)

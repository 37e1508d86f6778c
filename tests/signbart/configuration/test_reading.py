"""Configuration files: users' files load, whatever is wrong is named with file and key."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from signbart.configuration.reading import from_dict, load_config
from signbart.configuration.schema import SECTIONS, RunConfig
from signbart.errors import ConfigError
from signbart.landmarks.layouts import LAYOUTS

CONFIGS = sorted(
    path
    for path in (Path(__file__).resolve().parents[3] / "configs").glob("*.yaml")
    if path.stem != "parity"  # the bridge's tolerances
)

# As published: flat, a layer drop and a position embedding that nothing reads.
PUBLISHED_90 = f"""\
d_model: 144
encoder_layers: 2
decoder_layers: 2
encoder_attention_heads: 8
decoder_attention_heads: 8
encoder_ffn_dim: 144
decoder_ffn_dim: 144
encoder_layerdrop: 0.1
decoder_layerdrop: 0.1
dropout: 0.3
activation_dropout: 0.3
attention_dropout: 0.0
classifier_dropout: 0.7
joint_idx: {list(range(90))}
max_position_embeddings: 256
pe: learn
num_labels: 10
"""
LSA64_JOINTS = (*range(11, 17), *range(33, 75))


def write(tmp_path: Path, text: str, name: str = "mine.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def published(**changes: object) -> str:
    """The published file with some values changed."""
    return yaml.safe_dump({**yaml.safe_load(PUBLISHED_90), **changes})


def refusal(path: Path, *overrides: str) -> str:
    """The message with which a file is refused; it always names the file."""
    with pytest.raises(ConfigError) as raised:
        load_config(path, overrides)
    assert str(path) in str(raised.value)
    return str(raised.value)


def test_the_published_file_loads_unchanged(tmp_path):
    config = load_config(write(tmp_path, PUBLISHED_90, "arabic_90.yaml"))
    wanted = yaml.safe_load(PUBLISHED_90)
    for ignored in ("encoder_layerdrop", "decoder_layerdrop"):
        del wanted[ignored]
    assert config.name == "arabic_90"
    assert config.data.layout == "kp90"
    assert config.to_dict()["model"] == wanted
    came_later = {"coordinates", "motion"}
    fields = {f.name for f in dataclasses.fields(config.model)}
    assert set(wanted) == fields - came_later, "a key is not covered"
    # Not the defaults, which would load from any file.
    assert (config.model.dropout, config.model.classifier_dropout) == (0.3, 0.7)


@pytest.mark.parametrize(
    ("joints", "layout"),
    [
        (LSA64_JOINTS, "kp75"),
        (range(63), "kp63"),
        (range(65), "kp65"),
        (range(75), "kp75"),
        (range(76), "kp90"),
        (range(100), "kp100"),
        ([542], "holistic543"),
        ([*range(74), 74], "kp75"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_flat_file_has_the_smallest_layout_that_holds_its_joints(
    tmp_path, joints, layout, nested
):
    joints = list(joints)
    listed = [joints[:3], joints[3:]] if nested and len(joints) > 3 else joints
    config = load_config(write(tmp_path, published(joint_idx=listed)))
    assert config.data.layout == layout
    assert config.model.joint_idx == tuple(joints)
    assert config.model.num_keypoints == len(joints)


def test_without_joints_the_model_sees_the_whole_layout(tmp_path):
    config = load_config(write(tmp_path, "data: {layout: kp65}"))
    assert config.model.joint_idx == tuple(range(65))
    assert load_config(write(tmp_path, "")).model.joint_idx == tuple(range(90))
    with pytest.raises(ConfigError, match=r"load_config"):
        _ = RunConfig().model.num_keypoints


WRONG = {
    "misspelt key": ("train: {epoch: 3}", "train.epoch", "did you mean 'epochs'?"),
    "misspelt section": ("trian: {epochs: 3}", "'trian'", "did you mean 'train'?"),
    "unlike any section": ("zzzz: 1", "'zzzz'", "known: model, data, augment, train"),
    "misspelt flat key": ("d_model: 144\ndroput: 0.1", "droput", "did you mean 'dropout'?"),
    "flat beside sections": (
        "d_model: 144\ntrain: {epochs: 3}",
        "'d_model' stands beside sections",
        "'model:'",
    ),
    "section not a mapping": ("train: 3", "'train'", "found 3"),
    "section a list": ("model: [1, 2]", "'model'", "found [1, 2]"),
    "not a mapping": ("- 1\n- 2", "found list"),
    "scalar": ("hello", "found str"),
    "no YAML": ("train: {epochs: 3", "not valid YAML"),
    "an impossible date": ("name: 2020-13-45", "not valid YAML"),
    "key twice": ("train:\n  epochs: 3\n  epochs: 4", "key 'epochs' stands", "line 3"),
    "section twice": ("train: {epochs: 3}\ntrain: {lr: 1}", "key 'train' stands", "line 2"),
    "text for int": ("train: {epochs: many}", "train.epochs", "must be int", "'many'"),
    "float for int": ("train: {epochs: 3.0}", "train.epochs", "must be int", "3.0"),
    "bool for int": ("train: {epochs: true}", "train.epochs", "must be int", "True (bool)"),
    "bool for float": ("train: {lr: true}", "train.lr", "must be float", "True (bool)"),
    "list for float": ("train: {lr: [1]}", "train.lr", "must be float"),
    "null for float": ("train: {lr: null}", "train.lr", "must be float", "None"),
    "int for text": ("data: {layout: 90}", "data.layout", "must be str", "90"),
    "negative rate": ("train: {lr: -1}", "train.lr", "-1.0", "at least 0 and finite"),
    "NaN rate": ("train: {lr: .nan}", "train.lr", "nan"),
    "infinite rate": ("train: {lr: .inf}", "train.lr", "inf"),
    "rate beyond float": ("train: {lr: 1.0e+999}", "train.lr", "inf"),
    "NaN probability": ("augment: {flip: .nan}", "augment.flip", "nan"),
    "probability above 1": ("augment: {flip: 1.5}", "augment.flip", "1.5", "in [0, 1]"),
    "dropout of 1": ("model: {dropout: 1.0}", "model.dropout", "1.0", "in [0, 1)"),
    "no epochs": ("train: {epochs: 0}", "train.epochs", "0", "at least 1"),
    "no layers": ("model: {encoder_layers: 0}", "model.encoder_layers", "at least 1"),
    "no classes": ("model: {num_labels: 0}", "model.num_labels", "at least 1"),
    "negative seed": ("train: {seed: -1}", "train.seed", "-1"),
    "unknown choice": ("train: {scheduler: cosin}", "train.scheduler", "'cosin'", "plateau"),
    "no parts": ("train: {accumulate: 0}", "train.accumulate", "at least 1"),
    "more parts than clips": (
        "train: {accumulate: 9, batch_size: 8}",
        "train.accumulate (9)",
        "train.batch_size (8)",
    ),
    "unknown precision": ("train: {precision: fp8}", "train.precision", "bf16"),
    "other positions": ("model: {pe: sin}", "model.pe", "'sin'", "learn"),
    "unknown layout": ("data: {layout: kp91}", "data.layout", "'kp91'", "kp90"),
    "heads": (
        "model: {d_model: 144, encoder_attention_heads: 7}",
        "model.d_model (144)",
        "model.encoder_attention_heads (7)",
    ),
    "decoder heads": ("model: {decoder_attention_heads: 5}", "model.decoder_attention_heads (5)"),
    "joint out of layout": (
        "model: {joint_idx: [0, 90]}",
        "model.joint_idx holds 90",
        "'kp90' has landmarks 0 to 89",
    ),
    "negative joint": ("model: {joint_idx: [0, -1]}", "model.joint_idx holds -1"),
    "flat joint in no layout": (published(joint_idx=[0, 543]), "model.joint_idx holds 543"),
    "joint twice": ("model: {joint_idx: [3, 4, 3]}", "model.joint_idx", "index 3 more than once"),
    "joint in two groups": ("model: {joint_idx: [[3, 4], [4]]}", "model.joint_idx", "index 4"),
    "fractional joint": ("model: {joint_idx: [0, 1.5]}", "model.joint_idx", "1.5"),
    "bool joint": ("model: {joint_idx: [0, true]}", "model.joint_idx", "True"),
    "no joints": ("model: {joint_idx: []}", "model.joint_idx", "list of landmark indices"),
    "empty groups": ("model: {joint_idx: [[], []]}", "model.joint_idx", "list of landmark indices"),
    "joints as text": ("model: {joint_idx: 0-89}", "model.joint_idx", "'0-89'"),
    "too many frames": (
        "data: {max_frames: 257}",
        "data.max_frames (257)",
        "model.max_position_embeddings (256)",
    ),
    "image scheme, metres": ("data: {layout: kinect20}", "data.normalization 'bbox'", "kinect20"),
    "metres scheme, image": (
        "data: {normalization: body_centred}",
        "data.normalization 'body_centred'",
        "kp90",
    ),
    "name with a slash": ("name: ../x", "'../x'"),
    "name of dots": ("name: ..", "'..'"),
    "empty name": ("name: ''", "name is ''"),
    "number as name": ("name: 7", "name is 7"),
    "name with a line": ('name: "a\\n"', "name is"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_with_file_and_key(tmp_path, case):
    text, *expected = WRONG[case]
    message = refusal(write(tmp_path, text))
    for part in expected:
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "text",
    [
        "data: {max_frames: 256}",
        "data: {layout: kinect20, normalization: body_centred}",
        "model: {encoder_attention_heads: 9}",
        "model: {joint_idx: [89, 0]}",
        "train: {lr: 0}",
        "augment: {probability: 1, flip: 1.0}",
        "model: {num_labels: null}\ntrain:\n",
        "name: a.B_c-9",
    ],
)
def test_the_nearest_right_value_is_taken(tmp_path, text):
    load_config(write(tmp_path, text))


def test_files_that_cannot_be_read_are_named(tmp_path):
    assert "No such file" in refusal(tmp_path / "absent.yaml")
    assert "directory" in refusal(tmp_path).lower()
    (tmp_path / "latin.yaml").write_bytes("name: é".encode("latin-1"))
    assert "not valid YAML" in refusal(tmp_path / "latin.yaml")
    # The file's name is the run's, unless the file says another.
    assert "name is 'my run'" in refusal(write(tmp_path, "", "my run.yaml"))
    assert load_config(write(tmp_path, "name: mine", "my run.yaml")).name == "mine"


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("train.epochs=3", "train", "epochs", 3),
        ("train.lr=2e-3", "train", "lr", 2e-3),  # YAML 1.1 reads this as text
        ("train.lr=2", "train", "lr", 2.0),
        ("train.scheduler=plateau", "train", "scheduler", "plateau"),
        (" train.epochs = 4", "train", "epochs", 4),
        ("model.num_labels=null", "model", "num_labels", None),
        ("model.joint_idx=[5, 3]", "model", "joint_idx", (5, 3)),
        ("model.joint_idx=null", "model", "joint_idx", tuple(range(90))),
        ("augment.flip=0.5", "augment", "flip", 0.5),
    ],
)
@pytest.mark.parametrize("text", [PUBLISHED_90, "model: {num_labels: 4}\ntrain: {epochs: 9}"])
def test_an_override_changes_its_key_alone(tmp_path, text, override, section, key, value):
    path = write(tmp_path, text)
    found = load_config(path, [override])
    assert getattr(getattr(found, section), key) == value
    assert type(getattr(getattr(found, section), key)) is type(value)
    plain = load_config(path)
    changed = dataclasses.replace(getattr(plain, section), **{key: value})
    assert found == dataclasses.replace(plain, **{section: changed})
    if (section, key) != ("model", "joint_idx") or value == (5, 3):
        assert found != plain


def test_a_run_is_renamed(tmp_path):
    path = write(tmp_path, "name: first")
    assert load_config(path).name == "first"
    assert load_config(path, ["name=x", "train.epochs=2", "name = second"]).name == "second"
    assert "mine.yaml with --set: name is 'a b'" in refusal(path, "name=a b")


def test_the_last_override_wins(tmp_path):
    path = write(tmp_path, "train: {epochs: 9}")
    assert load_config(path, ["train.epochs=3", "train.epochs=4"]).train.epochs == 4


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs", "section.key=value"),
        ("epochs=3", "section.key=value"),
        ("train.=3", "section.key=value"),
        ("trian.epochs=3", "did you mean 'train'?"),
        ("train.epochs=[1", "not valid YAML"),
        ("train.lr=2020-13-45", "not valid YAML"),
    ],
)
def test_a_malformed_override_is_quoted(tmp_path, override, expected):
    with pytest.raises(ConfigError) as raised:
        load_config(write(tmp_path, ""), [override])
    assert expected in str(raised.value) and repr(override) in str(raised.value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epoch=3", "did you mean 'epochs'?"),
        ("train.epochs=", "train.epochs must be int"),
        ("train.epochs=3.5", "train.epochs must be int"),
        ("train.lr=nan", "train.lr is nan"),
        ("train.lr=inf", "train.lr is inf"),
        ("model.decoder_attention_heads=5", "model.decoder_attention_heads (5)"),
        ("model.joint_idx=[90]", "model.joint_idx holds 90"),
        ("data.layout=kinect20", "'kinect20' is in metres"),
    ],
)
def test_an_override_is_checked_like_the_file_and_said_to_be_one(tmp_path, override, expected):
    message = refusal(write(tmp_path, ""), override)
    assert expected in message and "with --set" in message


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_load_and_survive_a_round_trip(path):
    config = load_config(path)
    assert config.name == path.stem
    assert config.num_keypoints <= LAYOUTS[config.data.layout].num_keypoints
    # Through both texts that carry it: a checkpoint's header and a run's config.yaml.
    tree = config.to_dict()
    assert from_dict(json.loads(json.dumps(tree)), source="header") == config
    assert from_dict(yaml.safe_load(yaml.safe_dump(tree)), source="config.yaml") == config


def test_some_configurations_are_shipped():
    assert {"arabic_90", "kp90"} <= {path.stem for path in CONFIGS}


def test_a_round_trip_keeps_every_value_that_is_not_a_default(tmp_path):
    text = """\
name: odd
model: {joint_idx: [7, 2, 11], num_labels: 3, d_model: 60, encoder_attention_heads: 5,
        decoder_attention_heads: 6, dropout: 0.25}
data: {layout: kp63, max_frames: 17, normalization: bbox_ignore_missing}
augment: {probability: 0.75, flip: 0.5, noise: 0}
train: {seed: 4294967295, lr: 1e-4, scheduler: plateau, patience: 0, precision: bf16}
"""
    config = load_config(write(tmp_path, text))
    assert from_dict(config.to_dict(), source="copy") == config
    assert config.train.lr == 1e-4 and type(config.augment.noise) is float
    assert config.model.joint_idx == (7, 2, 11)
    # Reading never writes into what was given.
    tree = config.to_dict()
    before = json.dumps(tree)
    from_dict(tree, source="copy", overrides=["train.epochs=1"])
    assert json.dumps(tree) == before


@pytest.mark.parametrize("section", [None, *SECTIONS])
def test_a_configuration_cannot_change_after_it_was_checked(section):
    config = RunConfig()
    frozen = getattr(config, section) if section else config
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(frozen, dataclasses.fields(frozen)[0].name, None)


def test_a_flat_file_without_the_decoder_means_it_to_be_like_the_encoder():
    flat = {
        "d_model": 48,
        "encoder_attention_heads": 16,
        "encoder_ffn_dim": 96,
        "encoder_layers": 3,
    }
    model = from_dict({**flat, "joint_idx": [0, 1]}, source="flat").model
    assert (model.decoder_attention_heads, model.decoder_ffn_dim, model.decoder_layers) == (
        16,
        96,
        3,
    )
    both = {**flat, "decoder_attention_heads": 8, "joint_idx": [0, 1]}
    assert from_dict(both, source="flat").model.decoder_attention_heads == 8


def test_keys_that_came_later_are_written_only_where_they_are_used():
    """So that checkpoints and artifacts of runs without them stay the same, bit by bit."""
    later = {
        "data": {"resample": "linear"},
        "augment": {
            "crop": 0.1, "time_curve": 0.1, "scale": 0.1, "shear": 0.1,
            "joint_offset": 0.1,
        },
        "train": {"mixup": 0.2, "cutmix": 0.5, "ema": 0.9, "warmup_share": 0.3},
    }  # fmt: skip
    before = {
        "data": "layout max_frames normalization categories",
        "augment": "probability rotation_degrees noise drop_frames time_warp flip",
        "train": "seed epochs batch_size lr body_lr_scale weight_decay warmup_epochs scheduler "
        "plateau_factor plateau_patience label_smoothing grad_clip patience val_signers "
        "val_fraction precision",
    }
    for section, keys in before.items():
        assert [*RunConfig().to_dict()[section]] == keys.split()
    used = from_dict(later, source="test")
    for section, values in later.items():
        assert values.items() <= used.to_dict()[section].items()
    assert from_dict(used.to_dict(), source="copy") == used


@pytest.mark.parametrize(
    ("layout", "override", "expected"),
    [
        ("kp65", "augment.yaw_degrees=5", "augment.yaw_degrees turns landmarks through their"),
        ("kp65", "augment.pitch_degrees=5", "'kp65' is in image coordinates and has none"),
        ("kp65", "augment.time_curve=0.4", "augment.time_curve is 0.4; it must be in [0, 0.3]"),
        ("kp65", "data.resample=cubic", "it must be one of: nearest, linear"),
        ("kp65", "train.ema=1", "train.ema is 1.0; it must be in [0, 1)"),
    ],
)
def test_changes_that_a_layout_has_nothing_for_are_refused(tmp_path, layout, override, expected):
    scheme = "body_centred" if layout == "kinect20" else "bbox"
    path = write(tmp_path, f"data: {{layout: {layout}, normalization: {scheme}}}\n")
    assert expected in refusal(path, override)

"""What an artifact carries comes back whole, and does not disturb the artifact."""

import importlib.metadata
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bridge.conversion.model_card import model_card
from bridge.verification.verdict import FAILED, Verdict
from signbart.artifacts.metadata import (
    build_metadata,
    carried_config,
    carried_raw,
    embed_metadata,
    read_metadata,
    versions,
)
from signbart.configuration.reading import from_dict
from signbart.errors import ArtifactError, SignBartError
from signbart.files import file_sha256
from signbart.landmarks.layouts import get_layout
from signbart.models import io_spec
from signbart.recordings.clip import Clip
from signbart_runtime.evaluation.opened import open_model

EXAMPLE = Path(__file__).resolve().parents[3] / "exports/example/demo_litert_dynamic_int8.tflite"
LABELS = ("hello", "thank you", "naïve", "نعم", "no")


@pytest.fixture
def metadata(config):
    return build_metadata(
        config, LABELS, io_spec(config), checkpoint_sha256="ab12", route="litert", scheme="fp32",
        packages=("numpy", "no-such-package"),
    )  # fmt: skip


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(range(256)))
    return path


def test_metadata_is_what_a_program_needs(metadata, config):
    layout = get_layout("kp63")
    assert metadata["labels"] == list(LABELS) and metadata["temperature"] == 1.0
    assert metadata["inputs"] == [
        {"name": "keypoints", "shape": [1, 12, 41, 2], "dtype": "float32"},
        {"name": "attention_mask", "shape": [1, 12], "dtype": "int32"},
    ]
    assert metadata["outputs"] == [{"name": "logits", "shape": [1, 5], "dtype": "float32"}]
    assert metadata["signature"] == "serving_default"
    steps = metadata["preprocessing"]
    assert (steps["layout"], steps["unit"], steps["max_frames"]) == ("kp63", "image", 12)
    assert steps["normalization"] == "bbox_ignore_missing" and steps["box_margin"] == 0.05
    assert steps["joint_names"] == [layout.names[joint] for joint in range(5, 46)]
    # Positions among the selected joints, not landmarks of the layout.
    assert sorted(joint for group in steps["groups"].values() for joint in group) == list(range(41))
    for name, members in steps["groups"].items():
        assert {joint + 5 for joint in members} <= set(layout.groups[name])
    assert from_dict(metadata["config"], source="metadata") == config


def test_versions_are_those_installed():
    found = versions(("numpy", "no-such-package"))
    assert found["numpy"] == importlib.metadata.version("numpy")
    assert found["no-such-package"] == "not installed"
    assert found["python"].startswith("3.") and found["signbart"]


def test_metadata_comes_back_and_the_model_stays(plain, metadata):
    before = plain.read_bytes()
    embed_metadata(plain, metadata)
    assert read_metadata(plain) == metadata
    assert plain.read_bytes().startswith(before)
    with zipfile.ZipFile(plain) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode().splitlines() == list(LABELS)


def test_the_same_metadata_gives_the_same_bytes(plain, metadata):
    before = plain.read_bytes()
    embed_metadata(plain, metadata)
    first = plain.read_bytes()
    plain.write_bytes(before)
    embed_metadata(plain, metadata)
    assert plain.read_bytes() == first


@pytest.mark.parametrize(
    ("labels", "pattern"),
    [
        (["hello", "hello", "naïve", "نعم", "no"], "classes 0 and 1 look the same"),
        (["hello", "", "naïve", "نعم", "no"], "class 1 is named ''"),
        (["hello", "two\nlines", "naïve", "نعم", "no"], "class 1 is named"),
        (["hello", 7], "must be a list of texts"),
        ("hello", "must be a list of texts"),
    ],
)
def test_labels_that_are_none_are_refused(plain, metadata, labels, pattern):
    embed_metadata(plain, metadata | {"labels": list(map(str, labels))})
    with zipfile.ZipFile(plain) as archive:
        start = min(info.header_offset for info in archive.infolist())
    plain.write_bytes(plain.read_bytes()[:start])
    with zipfile.ZipFile(plain, "a") as archive:
        archive.writestr("metadata.json", json.dumps(metadata | {"labels": labels}))
    with pytest.raises(ArtifactError, match=rf"model\.tflite: .*{pattern}"):
        read_metadata(plain)


@pytest.mark.parametrize(
    ("key", "value", "pattern"),
    [
        ("route", None, "has None for route, which must be str"),
        ("preprocessing", "absent", "has no preprocessing"),
        ("preprocessing", {"layout": "kp63"}, r"has no preprocessing\.joint_idx"),
        ("config", [], r"has \[\] for config, which must be an object"),
        ("inputs", [{"name": "x", "shape": [1.5], "dtype": "float32"}], r"inputs\[0\]\.shape\[0\]"),
        ("versions", {"torch": 2}, r"has 2 for versions\.torch"),
        ("raw", {"frames": 3}, r"has no raw\.signature"),
        ("quantization", {"calibration": {"random": False}}, r"has no quantization\.calibration"),
        ("lengths", ["serving_8"], "for lengths, which must be an object"),
    ],
)
def test_what_is_missing_or_of_another_type_is_named(plain, metadata, key, value, pattern):
    changed = {**metadata, key: value}
    if value == "absent":
        del changed[key]
    embed_metadata(plain, changed)
    with pytest.raises(ArtifactError, match=rf"model\.tflite: its metadata .*{pattern}"):
        read_metadata(plain)


@pytest.mark.parametrize("change", ["permuted", "fewer"])
def test_labels_beside_the_metadata_must_be_the_same(plain, metadata, change):
    said = LABELS[::-1] if change == "permuted" else LABELS[:-1]
    with zipfile.ZipFile(plain, "a") as archive:
        archive.writestr("metadata.json", json.dumps(metadata))
        archive.writestr("labels.txt", "\n".join(said) + "\n")
    with pytest.raises(ArtifactError, match=r"its labels\.txt names other classes"):
        read_metadata(plain)


def test_metadata_of_gigabytes_is_not_unpacked(plain):
    with zipfile.ZipFile(plain, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", bytes(70 << 20))
    with pytest.raises(ArtifactError, match=r"model\.tflite .*would unpack to 73,400,320"):
        read_metadata(plain)


@pytest.mark.parametrize("count", [1, 99])
def test_labels_must_be_as_many_as_the_graph_tells_apart(tmp_path, count):
    metadata = read_metadata(EXAMPLE)
    with zipfile.ZipFile(EXAMPLE) as archive:
        start = min(info.header_offset for info in archive.infolist())
    path = tmp_path / "other.tflite"
    path.write_bytes(EXAMPLE.read_bytes()[:start])
    embed_metadata(path, {**metadata, "labels": [f"sign {label}" for label in range(count)]})
    with pytest.raises(SignBartError, match=rf"other\.tflite: {count} labels for \d+ classes"):
        open_model(path)


def test_sizes_in_an_artifact_are_bounded(plain, metadata):
    metadata["config"]["model"]["encoder_layers"] = 10**9
    embed_metadata(plain, metadata)
    with pytest.raises(SignBartError, match=r"model\.encoder_layers is 1000000000.*at most 1,000"):
        carried_config(read_metadata(plain), plain)


@pytest.mark.parametrize("raw", [{"frames": 2**63}, {"frames": 0}, {"frames": "9"}, {"a": 1}, [1]])
def test_frames_of_raw_landmarks_are_bounded(config, metadata, raw):
    with pytest.raises(ArtifactError, match=r"raw\.frames of its metadata is .* 1 to 16,384"):
        carried_raw(metadata | {"raw": raw}, config)


def test_the_temperature_travels_with_the_artifact(tmp_path):
    """The shipped example is from before there was one."""
    old = open_model(EXAMPLE)
    assert old.temperature == 1.0
    metadata = read_metadata(EXAMPLE)
    with zipfile.ZipFile(EXAMPLE) as archive:
        start = min(info.header_offset for info in archive.infolist())
    content = EXAMPLE.read_bytes()[:start]
    warm = tmp_path / "warm.tflite"
    warm.write_bytes(content)
    embed_metadata(warm, {**metadata, "temperature": 2.5})
    model = open_model(warm)
    assert model.temperature == 2.5
    rng = np.random.default_rng(0)
    layout = model.config.data.landmark_layout
    clip = Clip(rng.random((9, layout.num_keypoints, 2), np.float32), 0, "a", 0, "here")
    scores, plain = (dict(opened.classify(clip)) for opened in (model, old))
    powers = {label: score ** (1 / 2.5) for label, score in plain.items()}
    for label, power in powers.items():
        assert scores[label] == pytest.approx(power / sum(powers.values()), rel=1e-4)
    warm.write_bytes(content)
    embed_metadata(warm, {**metadata, "temperature": -1})
    with pytest.raises(SignBartError, match=r"warm\.tflite: a temperature of -1"):
        open_model(warm)


@pytest.mark.parametrize("bad", [0, -0.1, 1.01, float("nan"), "0.5", True, [0.5]])
def test_a_threshold_travels_where_a_probability_can_reach_it(tmp_path, bad):
    with zipfile.ZipFile(EXAMPLE) as archive:
        start = min(info.header_offset for info in archive.infolist())
    path, content = tmp_path / "own.tflite", EXAMPLE.read_bytes()[:start]
    for threshold in (bad, 0.75):
        path.write_bytes(content)
        embed_metadata(path, read_metadata(EXAMPLE) | {"threshold": threshold})
        if threshold is bad:
            with pytest.raises(SignBartError, match=r"own\.tflite: (its|a) threshold"):
                open_model(path)
    assert open_model(path).threshold == 0.75 and open_model(EXAMPLE).threshold is None


def test_a_plain_artifact_says_that_it_carries_nothing(plain, tmp_path, metadata):
    with pytest.raises(ArtifactError, match=r"model\.tflite carries no SignBART metadata.*convert"):
        read_metadata(plain)
    with pytest.raises(ArtifactError, match=r"no artifact at .*absent\.tflite"):
        read_metadata(tmp_path / "absent.tflite")


def test_what_was_cut_short_is_refused(plain, metadata):
    embed_metadata(plain, metadata)
    content = plain.read_bytes()
    for length, complaint in ((0, "is not a .tflite"), (len(content) - 110, "carries no SignBART")):
        plain.write_bytes(content[:length])
        with pytest.raises(ArtifactError, match=complaint):
            read_metadata(plain)


def test_an_archive_of_another_program_is_refused(plain, metadata):
    content = plain.read_bytes()
    with zipfile.ZipFile(plain, "a") as archive:
        archive.writestr("labels.txt", "a")
    with pytest.raises(ArtifactError, match="carries no SignBART metadata"):
        read_metadata(plain)
    for other in ({**metadata, "format": "signbart-artifact-9"}, {"labels": []}):
        plain.write_bytes(content)
        embed_metadata(plain, {"labels": [], **other})
        with pytest.raises(
            ArtifactError, match=r"metadata format .*expected 'signbart-artifact-1'"
        ):
            read_metadata(plain)


def test_the_model_card_tells_a_reader_the_same(metadata):
    card = model_card(metadata, [Verdict("small.tflite", FAILED, "it broke")], {}, None)
    for text in (
        "# small", "5 classes", "serving_default", "(1, 12, 41, 2)", "int32", "kp63",
        "T > 12 frames", "bbox_ignore_missing", "small.tflite", "failed", ", ".join(LABELS),
        "ab12",
    ):  # fmt: skip
        assert text in card


@pytest.mark.slow
def test_every_artifact_carries_its_origin(artifact, checkpoint, config):
    found = read_metadata(artifact)
    assert found["checkpoint_sha256"] == file_sha256(checkpoint)
    assert found["labels"] == list(LABELS)
    route = "onnx" if artifact.suffix == ".onnx" else artifact.stem.split("_")[1]
    assert (found["name"], found["route"], found["scheme"]) == ("small", route, "fp32")
    assert from_dict(found["config"], source="artifact") == config
    assert found["versions"]["litert-torch"] == importlib.metadata.version("litert-torch")
    # What the file takes: the .onnx any batch and any length.
    open_sizes = {"batch": None, "frames": None} if artifact.suffix == ".onnx" else {}
    assert found["inputs"] == [
        {"name": t.name, "shape": list(t.shape), "dtype": t.dtype}
        for t in io_spec(config, **open_sizes).inputs
    ]

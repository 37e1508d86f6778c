"""YAML of others: nothing twice, and no more of it than is there."""

import pytest
import yaml

from signbart.configuration.reading import load_config
from signbart.errors import ConfigError
from signbart.landmarks.source_file import read_source_layout
from signbart.yaml_files import parse_yaml

# Each line is ten times the one before: 10^9 texts in less than 500 bytes.
LINES = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"] + [
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)
]
BOMB = "\n".join(LINES)


def test_aliases_are_counted_as_what_they_stand_for():
    with pytest.raises(yaml.YAMLError, match="aliases make more than 1,000,000 characters"):
        parse_yaml(BOMB)
    assert parse_yaml("\n".join(LINES[:3]))["a1"][9] == ["lol"] * 10


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}"])
def test_a_value_inside_itself_is_refused(text):
    with pytest.raises(yaml.YAMLError, match="aliases"):
        parse_yaml(text)


@pytest.mark.parametrize("reader", [load_config, read_source_layout])
def test_every_reader_names_the_file_and_answers_briefly(tmp_path, reader):
    path = tmp_path / "bomb.yaml"
    path.write_text(f"{BOMB}\nmodel: *a8\nlandmarks: *a8\n")
    with pytest.raises(ConfigError) as error:
        reader(path)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("reader", [load_config, read_source_layout])
@pytest.mark.parametrize(
    "content",
    [
        b"[" * 5000,
        b"landmarks: 2026-02-30",
        b"landmarks: " + b"9" * 5000,
        b"landmarks: \xff",
        b"? {a: b}\n: c",
        b"landmarks: !!binary x",
    ],
    ids=["deep", "date", "digits", "bytes", "key", "binary"],
)
def test_what_yamls_own_constructors_stumble_over_is_refused(tmp_path, reader, content):
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"odd\.yaml"):
        reader(path)


def test_a_hundred_brackets_within_each_other_are_the_most():
    assert parse_yaml("[" * 100 + "]" * 100)
    with pytest.raises(yaml.YAMLError, match="more than 100 brackets"):
        parse_yaml("[" * 101 + "]" * 101)


@pytest.mark.parametrize("reader", [load_config, read_source_layout])
def test_a_file_of_gigabytes_is_not_read(tmp_path, reader):
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(20 << 30)  # none of which is on the disk
    with pytest.raises(ConfigError, match=r"huge\.yaml.*21,474,836,480 bytes"):
        reader(path)


def test_a_message_quotes_only_the_beginning_of_a_long_value(tmp_path):
    path = tmp_path / "long.yaml"
    path.write_text(f"train: {{epochs: {[7] * 10_000}}}\n")
    with pytest.raises(ConfigError, match=r"train\.epochs must be int") as error:
        load_config(path)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("text", "key", "most"),
    [
        ("model: {encoder_layers: 1000000000}", "model.encoder_layers", "at most 1,000"),
        ("model: {d_model: 10000000000}", "model.d_model", "at most 16,384"),
        ("model: {num_labels: 10000000000}", "model.num_labels", "at most 1,000,000"),
        ("model: {max_position_embeddings: 9223372036854775808}", "model.max_pos", "16,384"),
        ("model: {kind: sign_transformer, max_frames: 10000000000}", "model.max_frames", "16,384"),
        ("model: {kind: mediapipe_gru, hidden1: 10000000000}", "model.hidden1", "16,384"),
        ("model: {kind: conv_signbart, expansion: 10000000000}", "model.expansion", "16,384"),
        ("data: {max_frames: 9223372036854775808}", "data.max_frames", "at most"),
        ("train: {batch_size: 9223372036854775808}", "train.batch_size", "at most 2,147,483,647"),
        ("train: {patience: 9223372036854775808}", "train.patience", "at most 2,147,483,647"),
    ],
)  # fmt: skip
def test_every_whole_number_has_an_upper_end(tmp_path, text, key, most):
    path = tmp_path / "huge.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert key in str(error.value)
    assert most in str(error.value)

"""A configuration is found by name where there is no such file, and that is said."""

from pathlib import Path

import pytest

from signbart.configuration.reading import load_config
from signbart.configuration.shipped import FOLDER
from signbart.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_those_of_the_repository_are_shipped():
    names = {path.name for path in (REPOSITORY / "configs").iterdir()}
    assert names == {path.name for path in FOLDER.iterdir()} and "kp90.yaml" in names


@pytest.mark.parametrize("name", ["lsa64", "lsa64.yaml", "configs/lsa64.yaml", "./lsa64.yaml"])
def test_a_name_finds_the_shipped_one_and_says_so(name, capsys):
    config = load_config(name, ["train.epochs=3"])
    assert (config.name, config.model.num_labels, config.train.epochs) == ("lsa64", 64, 3)
    assert capsys.readouterr().err == (
        f"configuration {Path(name)}: no such file here, taking the shipped one\n"
    )


def test_a_file_of_that_name_is_taken_itself(tmp_path, capsys):
    (tmp_path / "lsa64.yaml").write_text("train: {epochs: 7}", encoding="utf-8")
    assert load_config("lsa64.yaml").train.epochs == 7
    assert capsys.readouterr().err == ""


def test_a_folder_of_that_name_is_no_configuration(tmp_path):
    (tmp_path / "lsa64").mkdir()
    (tmp_path / "mine").mkdir()
    assert load_config("lsa64").model.num_labels == 64
    with pytest.raises(ConfigError, match="cannot read configuration mine: Is a directory"):
        load_config("mine")


@pytest.mark.parametrize(
    "name", ["lsa63", "elsewhere/lsa64.yaml", "/configs/lsa64.yaml", "lsa64.yml"]
)
def test_another_name_is_refused_with_those_that_there_are(name):
    with pytest.raises(ConfigError) as raised:
        load_config(name)
    assert f"cannot read configuration {name}: No such file" in str(raised.value)
    assert "kp90, lsa64, mediapipe_gru" in str(raised.value)

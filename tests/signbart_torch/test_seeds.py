"""Folds over several seeds: one run each, a table of all, and what the seed changes."""

import csv
import json

import numpy as np
import pytest
import yaml

from signbart.errors import ConfigError
from signbart.recordings.packed import write_packed
from signbart.training.seeds import accuracies, spread
from signbart.weights.stored import read_stored
from signbart_torch.loso import main


@pytest.fixture(scope="module")
def arguments(tmp_path_factory, tiny_clips, tiny_config):
    folder = tmp_path_factory.mktemp("recordings")
    signers = [*tiny_clips.signer_names][:3]
    chosen = [at for at, name in enumerate(tiny_clips.signers) if name in signers]
    some = tiny_clips.select(chosen).after("some clips, for this test", tiny_clips)
    write_packed(some, folder / "tiny.npz")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny_config.to_dict()))
    return [
        "--config", str(folder / "tiny.yaml"), "--data", str(folder / "tiny.npz"),
        "--device", "cpu", "--set", "train.epochs=2",
    ]  # fmt: skip


def test_every_seed_is_a_run_of_its_own_and_they_have_a_table(arguments, tmp_path, capsys):
    output = tmp_path / "run"
    assert main([*arguments, "--output", str(output), "--seeds", "0", "3"]) == 0
    found = accuracies(output)
    assert [*found] == [0, 3] and all(len(of_seed) == 3 for of_seed in found.values())
    for seed in found:
        for path in output.glob(f"seed_{seed}/*/config.yaml"):
            assert yaml.safe_load(path.read_text(encoding="utf-8"))["train"]["seed"] == seed
    with open(output / "seeds.csv", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    for row in rows:
        for seed in found:
            assert float(row[f"seed {seed}"]) == found[seed][row["signer"]]
    printed = capsys.readouterr().out
    results = json.loads((output / "seed_0" / rows[0]["signer"] / "results.json").read_text())
    checkpoint = read_stored(output / "seed_0" / rows[0]["signer"] / "best.safetensors")
    said = ["some clips, for this test"]
    assert results["made_from"] == checkpoint.progress["made_from"] == said
    # One run of tasks: the folds of all seeds share the machines of an engine.
    assert "seed_3/anna: " in printed.partition("Leave-one-signer-out")[0]
    for text in ("Accuracy in percent, 2 seeds", "best", "worst", "deviation over seeds"):
        assert text in printed
    alone = tmp_path / "alone"
    assert main([*arguments, "--output", str(alone), "--set", "train.seed=3"]) == 0
    name = rows[0]["signer"]
    one, other = (
        read_stored(folder / name / "best.safetensors").tensors
        for folder in (alone, output / "seed_3")
    )
    assert all(np.array_equal(one[key], other[key]) for key in one)


def test_seeds_and_signers_are_told_apart():
    found = {0: {"a": 50.0, "b": 90.0}, 1: {"a": 54.0, "b": 94.0, "c": 10.0}}
    facts = spread(found)
    assert facts["mean"] == 72.0
    assert facts["deviation over seeds"] == pytest.approx(np.std([70, 74], ddof=1))
    assert facts["deviation over signers"] == pytest.approx(np.std([52, 92], ddof=1))
    assert np.isnan(spread({0: {"a": 50.0}})["deviation over seeds"])
    assert spread({0: {"a": 50.0}, 1: {"b": 50.0}}) == {}


def test_seeds_that_contradict_themselves_are_refused(arguments, tmp_path):
    output = ["--output", str(tmp_path / "x")]
    with pytest.raises(ConfigError, match="names one twice: 1 1"):
        main([*arguments, *output, "--seeds", "1", "1"])
    with pytest.raises(ConfigError, match="both say the seed"):
        main([*arguments, *output, "--seeds", "1", "--set", "train.seed=2"])
    assert not (tmp_path / "x").exists()
    with pytest.raises(SystemExit):
        main([*arguments, *output, "--seeds", "1;2"])


def test_seeds_of_another_configuration_are_refused_before_anything_is_trained(arguments, tmp_path):
    output = ["--output", str(tmp_path / "run"), "--signers", "anna"]
    (tmp_path / "run" / "seed_old").mkdir(parents=True)  # somebody's own
    assert main([*arguments, *output, "--seeds", "3"]) == 0
    with pytest.raises(ConfigError, match=r"seed_3.anna was trained with another configuration"):
        main([*arguments, *output, "--resume", "--seeds", "0,3", "--set", "augment.flip=0.5"])
    assert not (tmp_path / "run" / "seed_0").exists()

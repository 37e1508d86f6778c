"""A sweep: who is tested has no say, the hopeless stop early, and nothing is trained twice."""

import csv
import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from signbart.configuration.reading import load_config
from signbart.errors import ClipError, ConfigError, DivergedError
from signbart.recordings.clip import ClipSet
from signbart.recordings.packed import write_packed
from signbart.training.sweep import choose_signers, rungs, settings_of, sweep
from signbart_torch.sweep import main


def test_values_are_parted_by_commas_but_not_in_a_list():
    settings = settings_of(["train.lr=0.1,0.2", "model.joint_idx=[0,1],[0,2]", "train.epochs=3"])
    assert settings[0].overrides == [
        "train.lr=0.1", "model.joint_idx=[0,1]", "train.epochs=3",
    ]  # fmt: skip
    assert len({setting.folder for setting in settings}) == len(settings) == 4


def test_a_setting_keeps_its_folder_when_the_grid_grows():
    few = {setting.folder for setting in settings_of(["train.lr=0.1,0.2"])}
    assert few < {setting.folder for setting in settings_of(["train.lr=0.1,0.3,0.2"])}


def test_a_draw_is_of_the_grid_and_its_seed_alone():
    axes = ["train.lr=1,2,3,4", "model.dropout=0,0.1,0.2"]
    drawn = settings_of(axes, 5, seed=3)
    assert drawn == settings_of(axes, 5, seed=3) != settings_of(axes, 5, seed=4)
    assert len(drawn) == 5 and all(setting in settings_of(axes) for setting in drawn)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["train.lr=1"], "one setting only"),
        (["train.lr=1,1"], "one setting only"),
        (["train.lr=1,2", "train.lr=3"], "train.lr is set twice"),
    ],
)
def test_no_settings(texts, message):
    with pytest.raises(ConfigError, match=message):
        settings_of(texts)


def test_rungs():
    assert rungs(18, 3) == [2, 6, 18] and rungs(2, 3) == [1, 2] and rungs(18, 1) == [18]


def test_too_few_signers(tiny_clips):
    assert choose_signers(tiny_clips, 2) == ["anna", "cleo"]
    with pytest.raises(ClipError, match="takes three signers"):
        choose_signers(tiny_clips.select(range(9)), 1)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory, tiny_clips, tiny_config):
    folder = tmp_path_factory.mktemp("sweep")
    write_packed(tiny_clips, folder / "tiny.npz")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny_config.to_dict()))
    return [
        "--config", str(folder / "tiny.yaml"), "--data", str(folder / "tiny.npz"),
        "--device", "cpu",
        "--set", "train.lr=0.000001,0.01,0.005", "--set", "train.epochs=3",
        "--signers", "1", "--test-signers", "dan", "--output", str(folder / "out"),
    ]  # fmt: skip


def test_a_sweep(arguments, capsys, monkeypatch):
    monkeypatch.setattr("signbart.waiting.SILENCE", 0.0)
    assert main(arguments) == 0
    output = Path(arguments[-1])
    printed, said = capsys.readouterr()
    assert "up to epoch 1, training 3 of 3: epoch 1 of 3" in said
    assert "after 1 epochs 1 of 3 settings go on" in printed and "--test-signers dan" in printed
    with (output / "settings.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epochs"] for row in rows] == ["3", "1", "1"]
    assert rows[0]["score"] and not rows[1]["score"]
    winner = load_config(output / "winner.yaml")
    assert winner.train.lr == float(rows[0]["train.lr"]) and winner.train.epochs == 3
    assert (output / "settings.png").read_bytes().startswith(b"\x89PNG")
    # Nobody who is tested on took part, and the score is of who was left out.
    (results,) = [json.loads(path.read_text()) for path in output.glob("*/*/results.json")]
    assert results["test_signers"] == ["anna"] and "dan" not in results["val_signers"]
    assert sum(results["clips"].values()) == 27  # of 36
    assert float(rows[0]["score"]) == results["test"]["accuracy"]
    # Again: the same table, and nothing is written anew.
    before = {path: path.stat().st_mtime_ns for path in output.glob("*/*/*.safetensors")}
    with pytest.raises(ConfigError, match="already holds a sweep; pass --resume"):
        main(arguments)
    assert main([*arguments, "--resume"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}
    with (output / "settings.csv").open() as file:
        assert list(csv.DictReader(file)) == rows
    # What was trained for others to be tested on is not judged beside what is to come.
    (output / "winner.yaml").unlink()
    others = [*arguments, "--resume", "--test-signers", "cleo"]
    with pytest.raises(ConfigError, match=r"setting_\w+.anna holds a run on other recordings"):
        main(others)
    assert not (output / "winner.yaml").exists()


def learn_at_once(clips, config, output, *, resume, test_signers, report=lambda row: None):
    """Instead of a training: as good as its learning rate, from the first epoch."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "summary.csv").write_text(f"val_accuracy\n{config.train.lr}\n")
    for epoch in range(1, config.train.epochs + 1):
        with (output / "summary.csv").open("a") as file:
            file.write(f"{config.train.lr}\n")
        report({"epoch": epoch})
    (output / "results.json").write_text(json.dumps({"test": {"accuracy": config.train.lr}}))


def test_what_stops_beside_better_ones_has_no_score_of_before(tiny_clips, with_train, tmp_path):
    def judged(rates: str) -> list[tuple[float, float | None]]:
        found = sweep(
            settings_of([f"train.lr={rates}"]),
            tiny_clips,
            tmp_path,
            config_of=lambda setting: with_train(lr=float(setting.values["train.lr"]), epochs=9),
            train=learn_at_once,
            signers=["anna"],
        )
        return [(one.validation, one.score) for one in found]

    assert judged("1,2") == [(2.0, 2.0), (1.0, None)]
    assert judged("1,2,3") == [(3.0, 3.0), (2.0, None), (1.0, None)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "train.val_signers=0", "--set", "train.val_fraction=0"], "nothing validates"),
        (["--test-signers", "zoe"], "no clip of them"),
        (["--set", "train.patience=-1"], "train.patience"),
    ],
)
def test_user_errors(arguments, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        main([*arguments, "--output", str(tmp_path / "new"), *options])
    assert not (tmp_path / "new").exists()


# Recordings that come divided


@pytest.fixture
def divided(tmp_path, tiny_clips, arguments):
    """`divided(is_tested)`: the command line of a sweep over clips, some of them marked test."""

    def made(is_tested):
        clips = tuple(
            dataclasses.replace(clip, split="test" if is_tested(clip) else "train")
            for clip in tiny_clips.clips
        )
        write_packed(ClipSet(clips, tiny_clips.class_names), tmp_path / "divided.npz")
        return [
            *arguments[:2], "--data", str(tmp_path / "divided.npz"), "--device", "cpu",
            "--set", "train.lr=0.01,0.005", "--set", "train.epochs=1", "--signers", "1",
            "--halving", "1", "--output", str(tmp_path / "out"),
        ]  # fmt: skip

    return made


def test_whose_clips_are_marked_for_testing_takes_no_part(divided, capsys):
    # One clip of theirs is enough: who is tested in the end chooses nothing.
    command = divided(lambda clip: clip.signer == "dan" and clip.repetition == 0)
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "; dan take no part: the recordings mark clips of theirs test" in printed
    assert "--test-signers" not in printed
    for path in Path(command[-1]).glob("*/*/results.json"):
        results = json.loads(path.read_text())
        assert results["test_signers"] == ["anna"] and "dan" not in results["val_signers"]
        assert sum(results["clips"].values()) == 27  # of 36
    # Signers who are named are tested on instead, as in a training.
    assert main([*command, "--output", f"{command[-1]}2", "--test-signers", "ben"]) == 0
    printed = capsys.readouterr().out
    assert "; ben take no part\n" in printed and "--test-signers ben" in printed


def test_a_division_within_signers_leaves_nobody_to_choose_by(divided):
    command = divided(lambda clip: clip.repetition == 0)
    with pytest.raises(ConfigError, match=r"mark clips of anna, ben, cleo, dan test.*0.*--test-s"):
        main(command)
    assert not Path(command[-1]).exists()


# What cannot be validated


@pytest.mark.parametrize("values", ["train.val_fraction=0", "train.val_fraction=0.2,0"])
def test_a_training_that_nothing_would_validate_is_refused_before_any_begins(
    arguments, tiny_clips, tmp_path, values
):
    """Of three signers one is left out, and the two others are too few for one to validate."""
    three = tiny_clips.select(at for at, name in enumerate(tiny_clips.signers) if name != "dan")
    write_packed(three, tmp_path / "three.npz")
    command = [
        *arguments[:2], "--data", str(tmp_path / "three.npz"), "--device", "cpu",
        "--set", values, "--set", "train.lr=0.01,0.005", "--signers", "2",
        "--output", str(tmp_path / "new"),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"anna left out, nothing validates.*train.val_fraction="):
        main(command)
    assert not (tmp_path / "new").exists()


# A loss that is no number


def diverging(rate: str, after: int):
    """Instead of a training: at that rate the loss is NaN behind so many epochs."""

    def train(clips, config, output, *, report=lambda row: None, **options):
        def until(row):
            if str(config.train.lr) == rate and row["epoch"] > after:
                raise DivergedError("the training loss is nan; lower train.lr")
            report(row)

        learn_at_once(clips, config, output, report=until, **options)

    return train


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_setting_whose_loss_is_no_number_is_the_worst(tiny_clips, with_train, tmp_path, after):
    said = []
    judged = sweep(
        settings_of(["train.lr=9.0,2.0,3.0,1.0"]),
        tiny_clips,
        tmp_path,
        config_of=lambda setting: with_train(lr=float(setting.values["train.lr"]), epochs=9),
        train=diverging("9.0", after),
        signers=["anna", "cleo"],
        eta=2,
        report=said.append,
    )
    found = [(one.setting.values["train.lr"], one.validation, one.score) for one in judged]
    if after < 3:  # epochs of the first rung
        assert found[0] == ("3.0", 3.0, 3.0) and found[-1] == ("9.0", 0.0, None)
    else:  # it goes on to the second, beside one other
        assert found[:2] == [("3.0", 3.0, 3.0), ("9.0", 0.0, None)]
    failed = [line for line in said if "the training loss is nan; lower train.lr" in line]
    assert len(failed) == 2 and all("counts as 0 %" in line for line in failed)
    assert any("/anna" in line for line in failed)


def test_a_sweep_of_settings_that_all_diverge_has_no_winner(arguments, tmp_path, capsys):
    rates = ["--set", "train.lr=1e30,1e31", "--set", "train.epochs=1", "--set", "train.grad_clip=0"]
    command = [
        *arguments[:4], "--device", "cpu", *rates, "--set", "train.warmup_epochs=0",
        "--signers", "1", "--output", str(tmp_path / "out"),
    ]  # fmt: skip
    with pytest.raises(
        ConfigError, match=r"no training kept a finite loss up to epoch 1.*train.lr"
    ):
        main(command)
    assert "/anna counts as 0 %: the training loss is " in capsys.readouterr().out
    assert not (tmp_path / "out" / "winner.yaml").exists()
    # Beside a possible rate it is the last.
    command[command.index("train.lr=1e30,1e31")] = "train.lr=1e30,0.01"
    assert main([*command, "--halving", "1", "--resume"]) == 0
    with (tmp_path / "out" / "settings.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["train.lr"] for row in rows] == ["0.01", "1e30"] and rows[1]["score"] == "0.0"

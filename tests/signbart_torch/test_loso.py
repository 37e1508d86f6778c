"""Leave-one-signer-out: a fold a signer, a right mean, and no finished fold trained twice."""

import csv
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time

import pytest
import torch
import yaml

from signbart.errors import ClipError, ConfigError
from signbart.files import file_sha256
from signbart.recordings.clip import ClipSet
from signbart.recordings.packed import write_packed
from signbart.training.folds import run_folds
from signbart.training.frameworks import TORCH
from signbart_tf.loso import main as train_in_keras
from signbart_torch.loso import main
from signbart_torch.training.checkpoint import load_checkpoint

SIGNERS = ["anna", "ben", "cleo"]
SCORES = ("accuracy", "top5", "mean_class_accuracy")


@pytest.fixture(scope="module")
def three_signers(tiny_clips) -> ClipSet:
    return tiny_clips.select(i for i, s in enumerate(tiny_clips.signers) if s in SIGNERS)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory, three_signers, tiny_config):
    """`arguments(output)`: the command line, on three signers and for as many epochs."""
    folder = tmp_path_factory.mktemp("recordings")
    write_packed(three_signers, folder / "tiny.npz")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny_config.to_dict()))

    def made(output, *options):
        return [
            "--config", str(folder / "tiny.yaml"), "--data", str(folder / "tiny.npz"),
            "--output", str(output), "--device", "cpu", "--set", "train.epochs=3", *options,
        ]  # fmt: skip

    return made


def summary(folder) -> dict[str, dict[str, str]]:
    with open(folder / "summary.csv", encoding="utf-8") as file:
        return {row["signer"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, arguments):
    folder = tmp_path_factory.mktemp("loso") / "run"
    assert main(arguments(folder)) == 0
    return folder


def test_each_signer_is_tested_by_a_model_that_never_saw_it(finished):
    for signer in SIGNERS:
        results = json.loads((finished / signer / "results.json").read_text())
        assert results["test_signers"] == [signer]
        # Two signers are left, too few to set one of them apart: clips of theirs validate.
        assert results["clips"]["test"] == 9
        assert results["clips"]["train"] + results["clips"]["val"] == 18
        assert (finished / signer / "best.safetensors").is_file()


def test_the_summary_is_the_mean_and_the_deviation_of_the_folds(finished):
    table = summary(finished)
    assert list(table) == [*SIGNERS, "mean", "std"]
    for key in SCORES:
        folds = [
            json.loads((finished / signer / "results.json").read_text())["test"][key]
            for signer in SIGNERS
        ]
        assert [float(table[signer][key]) for signer in SIGNERS] == folds
        assert float(table["mean"][key]) == pytest.approx(sum(folds) / 3, abs=1e-3)
        assert float(table["std"][key]) == pytest.approx(statistics.pstdev(folds), abs=1e-3)


def test_finished_folds_are_not_trained_again(arguments, finished, capsys):
    stamps = {path: path.stat().st_mtime_ns for path in finished.glob("*/*.safetensors")}
    before = summary(finished)
    (finished / "ben" / "results.json").unlink()  # stopped just before the end
    (finished / "summary.csv").unlink()
    assert main(arguments(finished, "--resume")) == 0
    assert summary(finished) == before
    assert len(stamps) == 6
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    output = capsys.readouterr().out
    assert "mean" in output and f"wrote {finished}/summary.csv" in output


def test_folds_are_not_overwritten(arguments, finished):
    with pytest.raises(ConfigError, match="already holds folds; pass --resume"):
        main(arguments(finished))


def test_another_configuration_is_not_mixed_in(arguments, finished):
    with pytest.raises(ConfigError, match=r"train\.lr is 0\.01 there and 0\.02 now"):
        main(arguments(finished, "--resume", "--set", "train.lr=0.02"))


def test_some_folds_only(arguments, tmp_path, capsys):
    assert main(arguments(tmp_path / "run", "--signers", "cleo")) == 0
    assert list(summary(tmp_path / "run")) == ["cleo", "mean", "std"]
    assert "Leave-one-signer-out, 1 fold, in percent" in capsys.readouterr().out
    # The table is of all that stand there.
    assert main(arguments(tmp_path / "run", "--signers", "anna")) == 0
    assert list(summary(tmp_path / "run")) == ["anna", "cleo", "mean", "std"]


def test_folds_that_do_not_belong_together_are_refused_before_training(arguments, tmp_path):
    run = tmp_path / "run"
    assert main(arguments(run, "--signers", "cleo")) == 0
    before = (run / "summary.csv").read_text()
    with pytest.raises(ConfigError, match=r"cleo holds .* train\.lr is 0\.01 there"):
        main(arguments(run, "--signers", "anna", "--set", "train.lr=0.02"))
    with pytest.raises(ConfigError, match="cleo holds a run that was trained in PyTorch"):
        train_in_keras(arguments(run, "--signers", "anna"))
    (run / "cleo" / "last.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"cleo holds a finished run without its last\.safete"):
        main(arguments(run, "--signers", "cleo", "--resume"))
    assert sorted(path.name for path in run.iterdir()) == ["cleo", "summary.csv"]
    assert (run / "summary.csv").read_text() == before


def test_what_keras_does_not_train_is_said_before_anything_is_made(arguments, tmp_path):
    with pytest.raises(ConfigError, match="bf16, which signbart_tf does not train in"):
        train_in_keras(arguments(tmp_path / "run", "--set", "train.precision=bf16"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (["--signers", "eve"], ClipError, "no clips by eve; the signers are anna, ben, cleo"),
        (["--jobs", "0"], ConfigError, "--jobs 0"),
    ],
)
def test_user_errors(arguments, tmp_path, options, error, text):
    with pytest.raises(error, match=text):
        main(arguments(tmp_path / "run", *options))


def test_one_signer_is_not_enough(arguments, tmp_path, three_signers):
    alone = three_signers.select(range(9))
    write_packed(alone, tmp_path / "alone.npz")
    with pytest.raises(ClipError, match="has one signer"):
        main(arguments(tmp_path / "run", "--data", str(tmp_path / "alone.npz")))


@pytest.mark.slow
def test_folds_side_by_side_give_the_same_bits(arguments, finished, tmp_path):
    two = SIGNERS[:2]
    assert main(arguments(tmp_path / "run", "--jobs", "2", "--signers", *two)) == 0
    one, other = summary(tmp_path / "run"), summary(finished)
    assert [one[signer] for signer in two] == [other[signer] for signer in two]
    for signer in two:
        one, other = (
            load_checkpoint(folder / signer / "best.safetensors").tensors
            for folder in (finished, tmp_path / "run")
        )
        assert all(one[name].equal(other[name]) for name in one)


@pytest.mark.slow
def test_folds_side_by_side_have_one_thread_each(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert dict(run_folds([torch.get_num_threads] * 2, 2, TORCH)) == {"1": 1, "2": 1}


@pytest.mark.slow
def test_ctrl_c_ends_parallel_folds(tmp_path, arguments):
    command = [
        sys.executable,
        "-m",
        "signbart_torch.loso",
        *arguments(tmp_path / "run"),
        "--jobs",
        "2",
    ]
    process = subprocess.Popen(
        [*command, "--set", "train.epochs=100000", "--set", "train.patience=0"],
        start_new_session=True,
        # A shell starts what runs in the background deaf to Ctrl-C, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run").glob("*/last.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to every process
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.strip().endswith("interrupted")


def test_a_fold_learns_from_models_of_the_same_fold(finished, arguments, tmp_path, capsys):
    teaching = ["--teachers", str(finished), "--weight", "0.9", "--set", "train.epochs=1"]
    assert main(arguments(tmp_path / "run", *teaching, "--signers", "anna", "ben")) == 0
    for signer in ("anna", "ben"):
        results = json.loads((tmp_path / "run" / signer / "results.json").read_text())
        assert results["test_signers"] == [signer]
        assert results["teachers"] == {
            "checkpoints": [file_sha256(finished / signer / "best.safetensors")],
            "weight": 0.9,
            "temperature": 2.0,
        }
    # It is gone on with, and otherwise taught it is another run.
    assert main(arguments(tmp_path / "run", *teaching, "--signers", "anna", "ben", "--resume")) == 0
    for changed in (["--weight", "0.5"], ["--temperature", "3"]):
        with pytest.raises(ConfigError, match="anna holds a run that was distilled otherwise"):
            main(arguments(tmp_path / "run", *teaching, *changed, "--resume"))
    untaught = ["--set", "train.epochs=1", "--resume"]
    with pytest.raises(ConfigError, match="anna holds a run that was distilled otherwise"):
        main(arguments(tmp_path / "run", *untaught))


def test_teachers_whose_fold_is_not_finished(finished, arguments, tmp_path):
    """Their best so far is not what they become."""
    begun = tmp_path / "begun"
    shutil.copytree(finished, begun)
    (begun / "ben" / "results.json").unlink()
    with pytest.raises(ConfigError, match=r"begun: .*ben is not finished; go on with it by --resu"):
        main(arguments(tmp_path / "run", "--teachers", str(finished), str(begun)))
    assert not (tmp_path / "run").exists()


def test_teachers_that_lack_a_fold(finished, arguments, tmp_path):
    (tmp_path / "few" / "anna").mkdir(parents=True)
    for name in ("best.safetensors", "results.json"):
        shutil.copy(finished / "anna" / name, tmp_path / "few" / "anna")
    few = ["--teachers", str(tmp_path / "few")]
    with pytest.raises(ConfigError, match=r"nobody teaches the fold of ben.*--signers"):
        main(arguments(tmp_path / "run", *few))
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="give --teachers"):
        main(arguments(tmp_path / "run", "--temperature", "4"))

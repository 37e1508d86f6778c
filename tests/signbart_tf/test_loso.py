"""Leave-one-signer-out in Keras: what is its own; `signbart_torch` has the test of the rest."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import yaml

from signbart.errors import ConfigError
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips
from signbart_tf.loso import main
from signbart_tf.training.checkpoint import load_checkpoint
from signbart_tf.training.learner import train

SIGNERS = ["anna", "ben"]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory, tiny_clips, tiny_config):
    """`arguments(output)`: the command line, two folds of three signers, for two epochs."""
    folder = tmp_path_factory.mktemp("recordings")
    three = tiny_clips.select(
        i for i, s in enumerate(tiny_clips.signers) if s in [*SIGNERS, "cleo"]
    )
    write_packed(three, folder / "tiny.npz")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny_config.to_dict()))

    def made(output, *options):
        return [
            "--config", str(folder / "tiny.yaml"), "--data", str(folder / "tiny.npz"),
            "--output", str(output), "--device", "cpu", "--set", "train.epochs=2",
            "--signers", *SIGNERS, *options,
        ]  # fmt: skip

    return made


@pytest.fixture(scope="module")
def finished(tmp_path_factory, arguments):
    """Two folds side by side, by the tape."""
    folder = tmp_path_factory.mktemp("loso") / "run"
    assert main(arguments(folder, "--jobs", "2", "--loop", "tape")) == 0
    return folder


@pytest.mark.slow
def test_each_signer_is_tested_by_a_model_that_never_saw_it(finished):
    with open(finished / "summary.csv", encoding="utf-8") as file:
        rows = {row["signer"]: row for row in csv.DictReader(file)}
    assert list(rows) == [*SIGNERS, "mean", "std"]
    for signer in SIGNERS:
        results = json.loads((finished / signer / "results.json").read_text())
        assert results["test_signers"] == [signer] and results["clips"]["test"] == 9
        assert float(rows[signer]["accuracy"]) == results["test"]["accuracy"]
        progress = load_checkpoint(finished / signer / "best.keras").progress
        assert progress["recordings"]["test_signers"] == [signer]


@pytest.mark.slow
def test_a_fold_is_a_run_of_its_own_by_either_loop(arguments, finished, tmp_path):
    """Beside another and with one thread, or alone in this process: the same bits."""
    data = arguments(finished)[3]
    config = load_checkpoint(finished / "ben" / "best.keras").config
    options = {"test_signers": ["ben"], "device": "cpu", "data_name": data, "loop": "fit"}
    results = train(read_clips(data), config, tmp_path / "ben", **options)
    assert results == json.loads((finished / "ben" / "results.json").read_text())
    one, other = (
        [v.numpy() for v in load_checkpoint(folder / "ben" / "best.keras").model.weights]
        for folder in (finished, tmp_path)
    )
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_folds_are_gone_on_with_only_when_asked(arguments, finished):
    stamps = {path: path.stat().st_mtime_ns for path in finished.glob("*/best.keras")}
    with pytest.raises(ConfigError, match="already holds folds; pass --resume"):
        main(arguments(finished))
    # What TensorFlow says when it starts is not the user's.
    again = arguments(finished, "--resume", "--signers", "anna")  # a process of its own
    command = [sys.executable, "-m", "signbart_tf.loso", *again]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    # Random landmarks stand in no known order, which a line of our own says, as it says on a busy
    # machine what is being done.
    ours = "warning: ", "loading TensorFlow (", "fold 1 of 1, anna"
    others = [line for line in process.stderr.splitlines() if not line.startswith(ours)]
    assert (process.returncode, others) == (0, [])
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps and len(stamps) == 2

"""How sure models are of signers left out: from folds written by hand, by the command."""

import dataclasses
import json
import re

import numpy as np
import pytest

from signbart import calibrate
from signbart.errors import SignBartError
from signbart.files import file_sha256
from signbart.training.confidence import (
    expected_calibration_error,
    fit_temperature,
    softmax,
    threshold_of_coverage,
)
from signbart.training.fold_confidence import answers_of, judge_confidence, read_held_out
from signbart.training.predictions import Predictions, write_predictions

CLASSES = ("idle", "ja", "nein")


def write_fold(folder, temperature, seed, classes=CLASSES, carried=1.0):
    """A finished fold whose model is as sure as it should be at `temperature`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3, size=(300, 3)).astype(np.float32)
    shares = softmax(logits, temperature)
    labels = (shares.cumsum(axis=1) > rng.random((300, 1))).argmax(axis=1)
    folder.mkdir(parents=True)
    for name in ("best.safetensors", "last.safetensors"):
        (folder / name).write_text(f"{seed}")
    clips = tuple(f"clip {at}" for at in range(300))
    found = Predictions(
        "best.safetensors", classes, clips, (folder.name,) * 300, labels, logits, carried
    )
    write_predictions(
        folder / "evaluation", found, {"sha256": file_sha256(folder / "best.safetensors")}
    )
    return found


@pytest.fixture
def run(tmp_path):
    for seed, (signer, temperature) in enumerate({"A": 2.0, "B": 2.5, "C": 3.0}.items()):
        write_fold(tmp_path / "run" / signer, temperature, seed, carried=0.5)
    return tmp_path / "run"


def test_each_signer_is_calibrated_on_the_others_and_all_of_them_together(run, capsys):
    held_out = read_held_out(run)
    rows = judge_confidence(held_out)
    assert [row.signer for row in rows] == ["A", "B", "C"]
    others = [held_out[name] for name in "BC"]
    expected = fit_temperature(
        np.concatenate([one.logits for one in others]),
        np.concatenate([one.labels for one in others]),
    )
    assert rows[0].temperature == expected
    for row in rows:
        found = held_out[row.signer]
        assert row.error_carried == expected_calibration_error(found.logits, found.labels, 0.5)
        assert row.error_after < row.error_before < row.error_carried
        assert row.loss_after < row.loss_before
    assert calibrate.main([str(run)]) == 0
    printed = capsys.readouterr().out
    assert "mean" in printed and "--temperature 2." in printed and " --threshold 0." in printed
    assert calibrate.main([str(run), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert 2.0 < record["temperature"] < 3.0 and len(record["folds"]) == 3


def test_a_threshold_is_of_signs_that_were_recognised_or_wrongly_answered(run, capsys):
    held_out = read_held_out(run)
    temperatures = [row.temperature for row in judge_confidence(held_out)]
    answers = answers_of(held_out, temperatures, "idle")
    labels = np.concatenate([found.labels for found in held_out.values()])
    said = np.concatenate([found.logits.argmax(axis=1) for found in held_out.values()])
    assert answers.signs == (labels != 0).sum()
    assert len(answers.right) == ((said == labels) & (labels != 0)).sum()
    assert len(answers.wrong) == ((said != labels) & (said != 0)).sum()
    for option, target in (("--coverage", 0.9), ("--false-alarms", 0.1)):
        assert calibrate.main([str(run), option, str(target), "--json"]) == 0
        record = json.loads(capsys.readouterr().out)
        kept = (answers.right >= record["threshold"]).mean()
        alarms = (answers.wrong >= record["threshold"]).mean()
        assert record["coverage"] == pytest.approx(kept)
        assert record["false_alarms"] == pytest.approx(alarms)
        assert kept >= 0.9 if option == "--coverage" else alarms <= 0.1
    # Nineteen in twenty where nothing else is asked for; at a temperature of one's own.
    assert calibrate.main([str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["coverage"] == pytest.approx(0.95, abs=0.01)
    assert calibrate.main([str(run), "--temperature", "4"]) == 0
    cooler = answers_of(held_out, [4.0] * 3, "idle").right
    threshold = threshold_of_coverage(cooler, 0.95)
    printed = capsys.readouterr().out
    (carried,) = re.findall(r"--temperature 4 --threshold (0\.\d{3})\n", printed)
    # The number as it is printed keeps the promise.
    assert threshold - 1e-3 < float(carried) <= threshold
    assert f"{100 * (cooler >= float(carried)).mean():.1f} % of the recognised signs" in printed
    for bad in ("0", "nan", "warm"):
        with pytest.raises(SystemExit):
            calibrate.main([str(run), "--temperature", bad])
    for bad in ("0", "1", "90"):
        with pytest.raises(SystemExit):
            calibrate.main([str(run), "--coverage", bad])


def test_no_threshold_is_named_that_a_model_cannot_carry(run, capsys):
    # Nearly all answers as sure as can be: three decimals would make it 1.
    assert calibrate.main([str(run), "--temperature", "0.02", "--false-alarms", "0.01"]) == 0
    printed = capsys.readouterr().out
    found = re.findall(r"--threshold (\S+)", printed)
    assert all(0 < float(value) < 1 for value in found)
    assert found or "no threshold" in printed
    for signer in "ABC":  # nothing is wrong, so that no threshold lets too much pass
        found = write_fold(run.parent / "sure" / signer, 2.0, 0)
        certain = 10 * np.eye(3, dtype=np.float32)[found.labels]
        checkpoint = file_sha256(run.parent / "sure" / signer / "best.safetensors")
        write_predictions(
            run.parent / "sure" / signer / "evaluation",
            dataclasses.replace(found, logits=certain),
            {"sha256": checkpoint},
        )
    run = run.parent / "sure"
    assert calibrate.main([str(run), "--false-alarms", "0.05"]) == 0
    printed = capsys.readouterr().out
    assert "--threshold" not in printed and "no threshold, as none is needed" in printed
    assert calibrate.main([str(run), "--false-alarms", "0.05", "--json"]) == 0
    assert "threshold" not in json.loads(capsys.readouterr().out)


def test_what_is_missing_is_said_with_the_remedy(run, tmp_path):
    with pytest.raises(SignBartError, match=r"holds 0 fold\(s\)"):
        read_held_out(tmp_path / "nothing")
    (run / "B" / "best.safetensors").write_text("trained again")
    with pytest.raises(SignBartError, match=r"signbart evaluate .*B/best.*--signers B --output"):
        read_held_out(run)
    write_fold(tmp_path / "one" / "A", 1.0, 0)
    with pytest.raises(SignBartError, match="two at least"):
        read_held_out(tmp_path / "one")
    write_fold(tmp_path / "one" / "B", 1.0, 0, classes=("idle", "nein", "ja"))
    with pytest.raises(SignBartError, match="different classes"):
        calibrate.main([str(tmp_path / "one")])

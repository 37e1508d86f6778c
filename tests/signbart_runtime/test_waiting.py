"""What long commands say while they work, by their words; tests/signbart/test_waiting.py says when.

Training and folds are in tests/signbart_torch, conversions in test_convert.py.
"""

import shutil
from pathlib import Path

import pytest

from signbart.recordings.packed import write_packed
from signbart.synthetic.signs import make_clips
from signbart_runtime.bench.__main__ import main as bench
from signbart_runtime.evaluate import main as evaluate
from signbart_runtime.folds.fold_latency import measure_latency
from signbart_runtime.integrity.__main__ import main as verify

EXAMPLE = Path(__file__).resolve().parents[2] / "exports" / "example"
MODEL = EXAMPLE / "demo_litert_dynamic_int8.tflite"


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr("signbart.waiting.SILENCE", 0.0)


@pytest.fixture
def signs(tmp_path):
    path = tmp_path / "signs.npz"
    write_packed(make_clips(num_classes=10, num_signers=1, repetitions=1, seed=0), path)
    return path


def test_evaluation_counts_clips(signs, capsys):
    assert evaluate([str(MODEL), "--data", str(signs)]) == 0
    assert f"running {MODEL.name}: 0 of 10 (" in capsys.readouterr().err


def test_verification_names_what_it_checks(capsys):
    assert verify([str(EXAMPLE)]) == 0
    assert f"checking {MODEL.name}, answers of golden.json (" in capsys.readouterr().err


def test_a_bench_says_how_many_turns_there_are(capsys):
    assert bench([str(MODEL), "--threads", "1", "--rounds", "2"]) == 0
    assert "2 turns of 1 files, threads 1 (" in capsys.readouterr().err


def test_the_timing_of_a_fold_counts_its_files(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("signbart.timing.ROUNDS", 2)
    shutil.copytree(EXAMPLE, tmp_path / "P01" / "exports")
    measure_latency(
        tmp_path / "P01", make_clips(num_classes=1, num_signers=1, repetitions=1, seed=0)
    )
    assert "P01: timing: 0 of 1 (" in capsys.readouterr().err

"""The frontier: what is evaluated, what is timed, and what nothing else is better than."""

import csv

import pytest

from benchmarks.frontier import Point, best, main
from signbart.errors import SignBartError


def point(name: str, accuracy: float, size: int, ms: float = 1.0) -> Point:
    return Point(name, "fp32", accuracy, 0.0, 8, 0, size, 48, ms)


def test_the_best_are_those_that_nothing_cheaper_equals():
    points = [
        point("large", 90.5, 900),
        point("same for more", 90.5, 901),
        point("small", 85.0, 100),
        point("worse for as much", 84.0, 100),
        point("between", 84.9, 300),
    ]
    assert [found.model for found in best(points, "bytes")] == ["small", "large"]
    assert [found.model for found in best(points, "ms")] == ["large"]


@pytest.fixture
def run(tmp_path, converted):
    """`run("a", "b")`: a folder of folds by these signers, all with the one conversion."""

    def make(*signers: str, name: str = "run"):
        for signer in signers:
            (tmp_path / name / signer).mkdir(parents=True)
            (tmp_path / name / signer / "exports").symlink_to(converted.folder)
        return tmp_path / name

    return make


def test_folds_become_points(run, converted, performances_file, tmp_path, capsys):
    """Labels are what the model sees, so that all of it is right."""
    options = ["--data", performances_file, "--output", tmp_path / "out", "--rounds", "2"]
    folder = run("a", "b")
    runs = [f"Small={folder}", f"Again={folder}"]
    assert main([*runs, *map(str, options)]) == 0
    with open(tmp_path / "out/frontier.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["scheme"]) for row in rows] == [("Small", "fp32"), ("Again", "fp32")]
    for row in rows:
        assert float(row["accuracy"]) == 100 and int(row["signers"]) == 2
        assert int(row["bytes"]) == converted.artifact.stat().st_size
        assert 0 < float(row["low_ms"]) <= float(row["ms"]) <= float(row["high_ms"])
    assert (tmp_path / "out/frontier.png").read_bytes()[1:4] == b"PNG"
    table = (tmp_path / "out/frontier.md").read_text(encoding="utf-8")
    assert "| Small | fp32 | 100.00 |" in table and "2 signers" in table
    assert "2 signers" in capsys.readouterr().out


def test_what_is_refused(run, performances_file, tmp_path):
    options = ["--data", str(performances_file), "--output", str(tmp_path / "out")]
    with pytest.raises(SignBartError, match="give NAME=FOLDER"):
        main([str(run("a")), *options])
    with pytest.raises(SignBartError, match="not the same signers in every folder"):
        main([f"One={tmp_path / 'run'}", f"Two={run('b', name='other')}", *options])
    with pytest.raises(SignBartError, match=r"holds no SIGNER/exports/\*.tflite of route onnx"):
        main([f"None={tmp_path / 'nothing'}", "--route", "onnx", *options])
    assert not (tmp_path / "out").exists()

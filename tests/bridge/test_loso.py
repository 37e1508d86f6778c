"""Folds from recordings to judged artifacts, and the tables made of them."""

import csv
import json
import statistics

import pytest
import yaml

from bridge import loso, report
from bridge.errors import BridgeError
from bridge.results import NOT_RUN, PLAIN, Result, qat_rows, read_results, scheme_rows
from signbart.clips import write_packed
from signbart.config import load_config
from signbart.errors import ClipError, ConfigError
from signbart.synthetic import make_clips
from signbart_torch.checkpoint import load_checkpoint

SIGNERS = ["P01", "P02"]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """3 signers of 60 clips: two to train on are enough to calibrate by."""
    folder = tmp_path_factory.mktemp("recordings")
    clips = make_clips(num_classes=4, num_signers=3, repetitions=15, seed=0)
    write_packed(clips, folder / "signs.npz")
    config = load_config(
        "configs/kp90.yaml",
        ["model.d_model=16", "model.encoder_ffn_dim=16", "model.decoder_ffn_dim=16",
         "model.encoder_attention_heads=2", "model.decoder_attention_heads=2",
         "model.encoder_layers=1", "model.decoder_layers=1", "data.max_frames=16",
         "train.epochs=2", "train.val_signers=0", "train.val_fraction=0"],
    )  # fmt: skip
    (folder / "small.yaml").write_text(yaml.safe_dump(config.to_dict()))
    return folder


@pytest.fixture(scope="module")
def arguments(recordings):
    def made(output, *options):
        return [
            "--config", str(recordings / "small.yaml"), "--data", str(recordings / "signs.npz"),
            "--output", str(output), "--device", "cpu", *options,
        ]  # fmt: skip

    return made


@pytest.fixture(scope="module")
def finished(tmp_path_factory, arguments):
    """Two folds by one route, with quantization-aware training."""
    folder = tmp_path_factory.mktemp("loso") / "run"
    options = ["--signers", *SIGNERS, "--routes", "litert", "--schemes", "fp32,dynamic_int8,int8"]
    # How well such a model agrees with itself after an epoch is not what is tested here.
    assert loso.main(arguments(folder, *options, "--qat", "--qat-epochs", "1")) in (0, 1)
    return folder, options


@pytest.mark.slow
def test_every_fold_has_every_artifact_of_models_that_never_saw_its_signer(finished):
    folder, _ = finished
    results = read_results(folder)
    found = {(r.fold, r.training, r.scheme) for r in results}
    assert found == {
        (signer, training, scheme)
        for signer in SIGNERS
        for training, schemes in (
            (PLAIN, ("fp32", "dynamic_int8", "int8")),
            ("qat_dynamic", ("dynamic_int8",)),
            ("qat_static", ("int8",)),
        )
        for scheme in schemes
    }
    for signer in SIGNERS:
        for run in ("", "qat_dynamic", "qat_static"):
            checkpoint = load_checkpoint(folder / signer / run / "best.safetensors")
            assert checkpoint.progress["recordings"]["test_signers"] == [signer]
    # The signer's own 60 clips, each a sixtieth of the accuracy.
    for result in results:
        if result.scheme != "fp32":
            assert result.clips == 60
        assert result.accuracy * 60 / 100 == pytest.approx(round(result.accuracy * 60 / 100))


@pytest.mark.slow
def test_what_is_finished_is_not_made_again(finished, arguments):
    folder, options = finished
    made = sorted([*folder.glob("*/**/*.safetensors"), *folder.glob("*/**/manifest.json")])
    before = [path.stat().st_mtime_ns for path in made]
    assert len(made) == 2 * (3 * 2 + 3)
    loso.main(arguments(folder, *options, "--qat", "--qat-epochs", "1", "--resume"))
    assert [path.stat().st_mtime_ns for path in made] == before
    with pytest.raises(ConfigError, match="already holds folds; pass --resume"):
        loso.main(arguments(folder, *options))


@pytest.mark.slow
def test_a_manifest_of_another_checkpoint_or_of_fewer_schemes_is_not_enough(finished):
    fold = finished[0] / SIGNERS[0]
    best, exports = fold / "best.safetensors", fold / "exports"
    assert loso.is_converted(best, exports, ["litert"], ["fp32", "int8"])
    assert not loso.is_converted(best, exports, ["litert"], ["fp32", "int16x8"])
    assert not loso.is_converted(best, exports, ["litert", "keras"], ["fp32"])
    assert not loso.is_converted(fold / "last.safetensors", exports, ["litert"], ["fp32"])
    assert not loso.is_converted(best, fold / "nothing", ["litert"], ["fp32"])


@pytest.mark.slow
def test_the_report_says_what_the_folds_measured(finished, tmp_path, capsys):
    folder, _ = finished
    wrong = [r for r in read_results(folder) if r.verdict != "pass"]
    assert report.main([str(folder), "--output", str(tmp_path)]) == (1 if wrong else 0)
    printed = capsys.readouterr().out
    assert printed.count(": exported but wrong") == len(wrong)
    text = (tmp_path / "quantization.md").read_text()
    results = [r for r in read_results(folder) if (r.training, r.scheme) == (PLAIN, "int8")]
    mean = statistics.fmean(r.accuracy for r in results)
    row = next(line for line in text.splitlines() if line.startswith("| int8 | litert"))
    assert f"| {mean:.2f} |" in row and "not run" not in row
    assert "120 unseen clips, mean over 2 signers left out (P01, P02)" in text
    assert "mean ± std" in text
    with open(tmp_path / "results.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(read_results(folder))
    latency = json.loads((folder / "latency.json").read_text())
    assert set(latency["median_ms"]) == {"litert fp32", "litert dynamic_int8", "litert int8"}
    assert all(value > 0 for value in latency["median_ms"].values())


def result(fold, training, scheme, accuracy, route="litert", **others):
    values = {
        "data": "x", "verdict": "pass", "clips": 10, "top5": 100.0, "agreement": 99.0,
        "scaled_rmse": 0.01, "float_accuracy": 80.0, "float_top5": 100.0, "bytes": 1000,
        "share_int8": 90.0,
    }  # fmt: skip
    return Result(
        fold=fold, training=training, route=route, scheme=scheme, accuracy=accuracy,
        **(values | others),
    )  # fmt: skip


def test_means_and_differences_are_over_folds():
    results = [result("a", PLAIN, "int8", 70.0), result("b", PLAIN, "int8", 81.0)]
    (row,) = scheme_rows(results, {"to_fp32": {"litert int8": 0.5}})
    assert row[:4] == ["int8", "litert", "75.50", "-4.50"] and row[-1] == "0.50"
    (row,) = scheme_rows(results, None)
    assert row[-1] == NOT_RUN


def test_what_was_not_measured_is_said_and_not_averaged_away():
    results = [result("a", PLAIN, "int8", 70.0), result("b", PLAIN, "int8", None)]
    (row,) = scheme_rows(results, None)
    assert row[2] == row[3] == NOT_RUN


def test_quantization_aware_training_stands_beside_what_it_started_from():
    results = [
        result("a", PLAIN, "fp32", 80.0), result("a", PLAIN, "int8", 70.0),
        result("a", "qat_static", "int8", 79.0), result("b", PLAIN, "fp32", 60.0),
        result("b", PLAIN, "int8", 50.0), result("b", "qat_static", "int8", 59.0),
        result("c", PLAIN, "fp32", 10.0),
    ]  # fmt: skip
    rows = qat_rows(results)
    assert rows[0] == ["a", "80.00", NOT_RUN, NOT_RUN, "70.00", "79.00"]
    assert rows[-1] == [
        "mean ± std", "70.00 ± 10.00", NOT_RUN, NOT_RUN, "60.00 ± 10.00", "69.00 ± 10.00",
    ]  # fmt: skip
    assert len(rows) == 3  # the fold without such training is not in the table


def test_an_empty_folder_and_a_damaged_manifest_are_named(tmp_path):
    with pytest.raises(BridgeError, match=r"holds no fold with exports"):
        read_results(tmp_path)
    manifest = tmp_path / "S01" / "exports" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text('{"artifacts": [{}]}')
    with pytest.raises(BridgeError, match=r"S01/exports/manifest\.json is no manifest"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        (["--signers", "P09"], ClipError, "no clips by P09"),
        (["--full-data", "--signers", "P01"], ConfigError, "drop --signers"),
        (["--jobs", "0"], ConfigError, "at least 1"),
        (["--schemes", "int4"], BridgeError, "no quantization scheme 'int4'"),
        (["--routes", "coreml"], BridgeError, "coreml"),
    ],
)
def test_bad_options_are_refused_before_anything_is_made(
    arguments, tmp_path, options, error, complaint
):
    with pytest.raises(error, match=complaint):
        loso.main(arguments(tmp_path / "run", *options))
    assert not (tmp_path / "run").exists()

"""Folds from recordings to judged artifacts, and the tables made of them."""

import csv
import dataclasses
import json
import os
import pickle
import shutil

import numpy as np
import pytest
import yaml

from bridge.errors import BridgeError
from signbart.configuration.reading import load_config
from signbart.console import NOT_RUN
from signbart.engines import ENGINES
from signbart.errors import ClipError, ConfigError
from signbart.files import file_sha256
from signbart.recordings.packed import write_packed
from signbart.synthetic.signs import make_clips
from signbart.training.frameworks import TORCH
from signbart.training.predictions import read_predictions
from signbart.training.splits import split_clips
from signbart_runtime import loso
from signbart_runtime.book.reading import read_run
from signbart_runtime.book.results import CHECKPOINT
from signbart_runtime.folds.fold import Fold, is_converted, listed
from signbart_runtime.folds.layout import PLAIN
from signbart_torch.training.checkpoint import load_checkpoint

SIGNERS = ["P01", "P02"]


@pytest.fixture(scope="module", autouse=True)
def one_core():
    """Routes run one after another and here: other tests run beside this one."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "cpu_count", lambda: 1)
        yield


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
    found = {(r.fold, r.training, r.scheme) for r in read_run(folder).results}
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


@pytest.mark.slow
def test_what_is_finished_is_not_made_again(finished, arguments):
    folder, options = finished
    names = ("*.safetensors", "manifest.json", "evaluation.json", "predictions/*.npz")
    made = sorted(path for name in names for path in folder.glob(f"*/**/{name}"))
    before = [path.stat().st_mtime_ns for path in made]
    # Three trainings a fold: two checkpoints, a manifest, an index; 4 + 2 + 2 predictions.
    assert len(made) == 2 * (3 * 4 + 8)
    latency = (folder / SIGNERS[0] / "latency.json").read_text()
    loso.main(arguments(folder, *options, "--qat", "--qat-epochs", "1", "--resume"))
    assert [path.stat().st_mtime_ns for path in made] == before
    assert (folder / SIGNERS[0] / "latency.json").read_text() == latency
    with pytest.raises(ConfigError, match="already holds folds; pass --resume"):
        loso.main(arguments(folder, *options))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--signers", "P03", "--set", "train.epochs=3"], r"P01 holds .*train.epochs is 2 there"),
        (["--full-data"], "holds P01, P02: folds that leave a signer out and one trained on all"),
    ],
)
def test_folds_that_do_not_belong_together_do_not_share_a_folder(
    finished, arguments, options, complaint
):
    folder, _ = finished
    with pytest.raises(ConfigError, match=complaint):
        loso.main(arguments(folder, *options))
    assert {path.name for path in folder.iterdir()} == {*SIGNERS, "report", "command.txt"}


@pytest.fixture
def no_processes(monkeypatch):
    """What would get a process of its own is sent as if it did, and runs here.

    Another process would import three frameworks anew; that one runs is tested where folds are
    trained.
    """

    def run(batch):
        for index, task in enumerate(batch.tasks):
            yield index, pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(task))()))

    engine = dataclasses.replace(ENGINES["processes"], run=run)
    monkeypatch.setitem(ENGINES, engine.name, engine)


@pytest.mark.slow
def test_keras_trains_the_same_folds(arguments, tmp_path, no_processes):
    """With quantization-aware training, into a report of the same kind."""
    folder = tmp_path / "run"
    options = ["--framework", "keras", "--signers", "P01", "--routes", "keras"]
    options += ["--schemes", "fp32", "--qat", "--qat-epochs", "1", "--set", "train.epochs=1"]
    assert loso.main(arguments(folder, *options)) in (0, 1)
    run = read_run(folder)
    assert run.data == "kp90 Keras" and run.folds == ["P01"]
    found = {(r.training, r.route, r.scheme) for r in run.results}
    assert found == {
        (PLAIN, CHECKPOINT, "fp32"),
        (PLAIN, "keras", "fp32"),
        ("qat_dynamic", "keras", "dynamic_int8"),
        ("qat_static", "keras", "int8"),
    }
    fp32, trained = (
        run.find(run.variants[0], route, "P01").evaluation for route in ("keras", CHECKPOINT)
    )
    assert trained.model == "best.keras" and set(trained.signers) == {"P01"}
    np.testing.assert_allclose(fp32.logits, trained.logits, atol=1e-5, rtol=1e-5)
    assert "1 training in Keras" in next((folder / "report").glob("*.md")).read_text()
    with pytest.raises(ConfigError, match=r"P01 holds a run that was trained in Keras"):
        loso.main(arguments(folder, "--signers", "P03"))


@pytest.mark.slow
def test_what_was_made_of_other_schemes_stays(finished, arguments, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0] / SIGNERS[0], folder / SIGNERS[0])
    options = ["--signers", SIGNERS[0], "--routes", "keras,litert", "--schemes", "fp16", "--resume"]
    assert loso.main(arguments(folder, *options)) in (0, 1)
    results = read_run(folder).results
    # What was trained on was not asked for this time, and is there.
    trained_on = {(r.training, r.route, r.scheme) for r in results if r.training != PLAIN}
    assert trained_on == {
        ("qat_dynamic", "litert", "dynamic_int8"), ("qat_static", "litert", "int8")
    }  # fmt: skip
    schemes = ("fp32", "fp16", "dynamic_int8", "int8")
    tflite = {(route, scheme) for route in ("litert", "keras") for scheme in schemes}
    found = {(r.route, r.scheme) for r in results if r.training == PLAIN}
    assert found == {(CHECKPOINT, "fp32"), *tflite}
    assert [r for r in results if r.accuracy is None] == []
    assert [r for r in results if r.route in ("litert", "keras") and not r.latency_ms] == []
    manifests = list(folder.glob("**/manifest.json"))
    before = [path.stat().st_mtime_ns for path in manifests]
    loso.main(arguments(folder, *options))
    assert [path.stat().st_mtime_ns for path in manifests] == before and len(before) == 3


def test_too_few_clips_to_calibrate_on_are_found_before_training(arguments, tmp_path, recordings):
    clips = make_clips(num_classes=4, num_signers=3, repetitions=5, seed=0)
    write_packed(clips, tmp_path / "few.npz")
    options = ["--data", str(tmp_path / "few.npz")]
    with pytest.raises(ClipError, match="40 clips are too few to calibrate int8"):
        loso.main(arguments(tmp_path / "run", *options))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_manifest_of_another_checkpoint_or_of_fewer_schemes_is_not_enough(finished):
    fold = finished[0] / SIGNERS[0]
    best, exports = fold / "best.safetensors", fold / "exports"
    assert is_converted(best, exports, ["litert"], ["fp32", "int8"])
    assert not is_converted(best, exports, ["litert"], ["fp32", "int16x8"])
    assert not is_converted(best, exports, ["litert", "keras"], ["fp32"])
    assert not is_converted(fold / "last.safetensors", exports, ["litert"], ["fp32"])
    assert not is_converted(best, fold / "nothing", ["litert"], ["fp32"])


def test_a_float_onnx_asks_for_no_float_tflite(checkpoint, tmp_path):
    made = [("onnx", "fp32", "x.onnx"), ("onnx", "fp16", "x_onnx_fp16.tflite")]
    entries = [{"route": route, "scheme": scheme, "file": file} for route, scheme, file in made]
    manifest = {"checkpoint_sha256": file_sha256(checkpoint), "artifacts": entries}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert listed(checkpoint, tmp_path) == ({"onnx"}, {"fp16"})
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"checkpoint_sha256": "other"}))
    assert listed(checkpoint, tmp_path) == (set(), set())


@pytest.mark.slow
def test_every_model_is_evaluated_and_timed(finished):
    folder, _ = finished
    run = read_run(folder)
    assert run.folds == SIGNERS and run.routes == ["litert"]
    assert len(run.results) == 2 * 6  # PyTorch, three schemes, two after training on
    for result in run.results:
        # The signer's own 60 clips, each a sixtieth of the accuracy.
        assert result.clips == 60
        assert set(result.evaluation.signers) == {result.fold}
        hits = (result.evaluation.logits.argmax(axis=1) == result.evaluation.labels).sum()
        assert result.accuracy == pytest.approx(100 * hits / 60)
        assert (result.latency_ms is None) == (result.route == CHECKPOINT)
    fp32 = run.find(run.variants[0], "litert", SIGNERS[0])
    torch_ = run.find(run.variants[0], CHECKPOINT, SIGNERS[0])
    np.testing.assert_allclose(
        fp32.evaluation.logits, torch_.evaluation.logits, atol=1e-5, rtol=1e-5
    )
    assert fp32.speed_up == 1.0
    latency = json.loads((folder / SIGNERS[0] / "qat_static" / "latency.json").read_text())
    (time,) = latency["artifacts"].values()
    assert time["median_ms"] > 0 and time["to_fp32"] > 0


@pytest.mark.slow
def test_the_book_of_the_folds_is_written_beside_them(finished):
    report = finished[0] / "report"
    (page,) = report.glob("report_*.html")
    text = page.read_text()
    assert "120 clips evaluated, of 4 classes by 2 signers" in text and "--qat-epochs 1" in text
    assert "2 trainings, each evaluated on the signer it never saw" in text
    assert 'src="confusion' not in text and text.count("data:image/png;base64,") == 3 + 3 * 5
    with open(report / "summary_table.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # PyTorch and five variants of one route: two signers, mean, deviation.
    assert len(rows) == 6 * 4
    assert all(row["accuracy"] != NOT_RUN for row in rows)


@pytest.mark.parametrize(
    ("test_signers", "evaluated"),
    # The signer behind the last one validates.
    [(["d"], {"d"}), (["b"], {"b"}), ([], {"d"})],
)
def test_those_who_chose_the_best_epoch_do_not_judge(
    checkpoint, config, performances, tmp_path, test_signers, evaluated
):
    train = dataclasses.replace(config.train, val_signers=1)
    split = split_clips(performances, train, test_signers)
    assert len(split.val_signers) == 1 and not {*split.val_signers} & {*test_signers}
    fold = Fold(
        framework=TORCH, clips=performances,
        config=dataclasses.replace(config, train=train), folder=tmp_path,
        test_signers=tuple(test_signers), data="here", routes=(), schemes=(), qat_epochs=0,
        device="cpu", conversions=1,
    )  # fmt: skip
    fold._evaluate([checkpoint], tmp_path)
    assert set(read_predictions(tmp_path, checkpoint.name).signers) == evaluated


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

"""Scores of models of every kind on the same clips."""

import csv
import dataclasses
import json
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from bridge.errors import BridgeError
from signbart.console import NOT_RUN
from signbart.engines import Engine
from signbart.errors import ArtifactError, CheckpointError, ClipError, SignBartError
from signbart.recordings.clip import ClipSet
from signbart.streaming.rule import StreamRule
from signbart.training.confidence import expected_calibration_error, softmax
from signbart.training.predictions import (
    Predictions,
    identify,
    is_evaluated,
    pool,
    read_predictions,
    write_predictions,
)
from signbart_runtime import evaluate
from signbart_runtime.evaluation.files import evaluate_files, short_names
from signbart_runtime.evaluation.opened import open_model
from signbart_runtime.evaluation.predict import evaluate as evaluate_model
from signbart_runtime.evaluation.spotting import evaluate_streams, require_same_spotting
from signbart_torch.models.signbart.model import SignBart
from signbart_torch.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

LOGITS = np.array([[3, 2, 1], [0, 1, 5], [4, 0, 1], [1, 2, 0]], np.float32)


def evaluation(model="m.tflite", labels=(0, 2, 1, 1)):
    return Predictions(
        model, ("a", "b", "c"), tuple("wxyz"), ("P", "P", "Q", "Q"), np.array(labels), LOGITS
    )


def relabelled(clips: ClipSet, shift: int) -> ClipSet:
    """The same clips under wrong labels."""
    count = len(clips.class_names)
    return dataclasses.replace(
        clips,
        clips=tuple(dataclasses.replace(c, label=(c.label + shift) % count) for c in clips.clips),
    )


def test_a_checkpoint_recognises_what_it_labelled_and_nothing_under_wrong_labels(
    checkpoint, performances
):
    model = open_model(checkpoint)
    assert evaluate_model(model, performances, "here").scores.accuracy == 1.0
    assert evaluate_model(model, relabelled(performances, 1), "here").scores.accuracy == 0.0


def test_classes_are_matched_by_name_not_by_number(checkpoint, performances):
    order = list(reversed(range(len(performances.class_names))))
    names = tuple(performances.class_names[at] for at in order)
    turned = ClipSet(
        tuple(dataclasses.replace(c, label=order.index(c.label)) for c in performances.clips), names
    )
    assert evaluate_model(open_model(checkpoint), turned, "here").scores.accuracy == 1.0
    unknown = dataclasses.replace(performances, class_names=("other", *names[1:]))
    with pytest.raises(ClipError, match=r"here has clips of class 'other', which the model does"):
        evaluate_model(open_model(checkpoint), unknown, "here")


def test_logits_that_are_not_finite_are_an_error_that_names_the_clip(checkpoint, performances):
    model = open_model(checkpoint)

    class Broken:
        name, spec = "broken.tflite", model.runtime.spec

        def __call__(self, inputs):
            logits = model.runtime(inputs)["logits"].copy()
            logits[0, 0] = np.nan
            return {"logits": logits}

    with pytest.raises(BridgeError, match=r"broken\.tflite gives NaN or infinity on 4 of 240"):
        evaluate_model(dataclasses.replace(model, runtime=Broken()), performances, "here")


def test_classes_are_listed_with_what_they_are_taken_for():
    assert evaluate.per_class_rows(evaluation()) == [
        ["a", "1", "100.00", "-"],
        ["b", "2", "50.00", "a (1)"],
        ["c", "1", "100.00", "-"],
    ]
    text = evaluate.per_class_csv(
        {"x": evaluation(), "y": evaluation(labels=(0, 0, 0, 0)), "z": None}
    )
    assert list(csv.reader(text.splitlines())) == [
        ["class", "clips", "x", "y", "z"],
        ["a", "4", "100.00", "50.00", NOT_RUN],
        ["b", "2", "50.00", NOT_RUN, NOT_RUN],
        ["c", "1", "100.00", NOT_RUN, NOT_RUN],
    ]


def test_how_sure_a_model_is_goes_by_its_temperature(tmp_path):
    found = dataclasses.replace(evaluation(), temperature=2.0)
    write_predictions(tmp_path, found, {"sha256": "1"})
    back = read_predictions(tmp_path, "m.tflite")
    assert back.temperature == 2.0
    assert back.calibration_error == expected_calibration_error(LOGITS / 2, back.labels)
    assert back.calibration_error != evaluation().calibration_error
    with open(tmp_path / "predictions" / "m.tflite.csv", encoding="utf-8") as file:
        scores = [float(row["score"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(scores, softmax(LOGITS / 2).max(axis=1), atol=1e-4)


def test_predictions_are_kept_with_what_they_were_made_from(tmp_path):
    made_from = {"sha256": "1", "recordings": "2"}
    write_predictions(tmp_path, evaluation(), made_from)
    write_predictions(tmp_path, evaluation("other.onnx"), {"sha256": "3", "recordings": "2"})
    assert is_evaluated(tmp_path, "m.tflite", made_from)
    assert not is_evaluated(tmp_path, "m.tflite", {**made_from, "recordings": "9"})
    assert not is_evaluated(tmp_path, "none.tflite", made_from)
    back = read_predictions(tmp_path, "m.tflite", "1")
    np.testing.assert_array_equal(back.logits, LOGITS)
    assert (back.class_names, back.signers) == (("a", "b", "c"), ("P", "P", "Q", "Q"))
    assert read_predictions(tmp_path, "m.tflite", "of another file") is None
    with open(tmp_path / "predictions" / "m.tflite.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["predicted"] for row in rows] == ["a", "c", "a", "b"]
    assert [row["correct"] for row in rows] == ["1", "1", "0", "1"]
    assert rows[0]["top5"] == "a; b; c" and float(rows[0]["score"]) == pytest.approx(
        0.6652, abs=1e-4
    )
    (tmp_path / "predictions" / "m.tflite.npz").write_bytes(b"x")
    with pytest.raises(SignBartError, match="missing or damaged; remove"):
        read_predictions(tmp_path, "m.tflite")


def test_folds_are_pooled_only_where_their_classes_are_the_same():
    both = pool([evaluation(), evaluation()], "all")
    assert both.scores.count == 8 and both.confusion.sum() == 8
    # Each model's logits over its own temperature.
    cooler = dataclasses.replace(evaluation(), temperature=2.0)
    mixed = pool([evaluation(), cooler], "all")
    np.testing.assert_array_equal(mixed.logits, np.concatenate([LOGITS, LOGITS / 2]))
    other = dataclasses.replace(evaluation(), class_names=("a", "c", "b"))
    with pytest.raises(SignBartError, match="different classes"):
        pool([evaluation(), other], "all")


def test_the_command_writes_scores_classes_predictions_and_pictures(
    checkpoint, performances_file, performances, tmp_path, capsys
):
    arguments = [str(checkpoint), "--data", str(performances_file), "--signers", "a", "c"]
    assert evaluate.main([*arguments, "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "120 clips by a, c" in printed and "best.safetensors" in printed
    with open(tmp_path / "scores.csv", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    back = read_predictions(tmp_path, "best.safetensors")
    assert row == {
        "model": "best.safetensors", "clips": "120", "accuracy": "100.00", "top5": "100.00",
        "mean_class_accuracy": "100.00",
        "calibration_error": f"{100 * back.calibration_error:.2f}",
    }  # fmt: skip
    with open(tmp_path / "per_class_accuracy.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list(performances.class_names)
    picture = Image.open(tmp_path / "confusion_matrices" / "best.safetensors.png")
    # Something is drawn: paper, and the dark blue of the diagonal.
    colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert (colours == 255).all(axis=1).any()
    assert ((colours[:, 2] > 90) & (colours[:, 0] < 20)).any()
    chosen = evaluate.select_clips(performances, ["a", "c"], "here")
    assert is_evaluated(tmp_path, "best.safetensors", identify(checkpoint, chosen))


@pytest.mark.slow
def test_every_kind_of_model_scores_alike(
    checkpoint, converted, twin_file, performances_file, tmp_path
):
    files = [
        checkpoint, twin_file, *converted.folder.glob("*.tflite"), converted.path("onnx", ".onnx")
    ]  # fmt: skip
    assert len(files) == 6
    assert evaluate.main(
        [*map(str, files), "--data", str(performances_file), "--output", str(tmp_path)]
    ) == 0  # fmt: skip
    with open(tmp_path / "scores.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["accuracy"]) for row in rows] == [
        (path.name, "100.00") for path in files
    ]


def test_files_of_one_name_are_told_apart_by_their_folders(checkpoint, tmp_path):
    other = tmp_path / "second" / "best.safetensors"
    other.parent.mkdir()
    other.write_bytes(checkpoint.read_bytes())
    third = tmp_path / "third.safetensors"
    names = short_names([checkpoint, other, third])
    assert names == [
        f"{checkpoint.parent.name}_best.safetensors", "second_best.safetensors", "third.safetensors"
    ]  # fmt: skip
    with pytest.raises(BridgeError, match=r"third\.safetensors: named twice"):
        short_names([third, checkpoint, third])


def test_any_engine_gives_the_same_predictions(checkpoint, performances, tmp_path):
    """Of one that copies the tasks and their results, and ends the last one first."""

    def run(batch):
        for at in reversed(range(len(batch.tasks))):
            yield at, pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(batch.tasks[at]))()))

    saved = load_checkpoint(checkpoint)
    other = tmp_path / "other.safetensors"
    zeros = {name: torch.zeros_like(tensor) for name, tensor in saved.tensors.items()}
    save_checkpoint(dataclasses.replace(saved, tensors=zeros), other)
    serial, copied = (
        evaluate_files([checkpoint, other], performances, "here", engine=engine)
        for engine in (None, Engine("copying", "copies", run))
    )
    assert [*serial] == [*copied] == [checkpoint, other]
    for path, one in serial.items():
        assert copied[path].model == one.model == path.name
        assert np.array_equal(copied[path].logits, one.logits)
    assert not np.array_equal(serial[checkpoint].logits, serial[other].logits)


def test_a_published_file_takes_its_configuration_and_labels(
    checkpoint, config, performances_file, performances, tmp_path
):
    torch.save(dict(load_checkpoint(checkpoint).tensors), tmp_path / "published.pth")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config.to_dict()))
    names = {name: at for at, name in enumerate(performances.class_names)}
    (tmp_path / "label2id.json").write_text(json.dumps(names))
    arguments = [str(tmp_path / "published.pth"), "--data", str(performances_file)]
    options = ["--config", str(tmp_path / "small.yaml"), "--labels", f"{tmp_path}/label2id.json"]
    output = tmp_path / "out"
    assert evaluate.main([*arguments, *options, "--output", str(output)]) == 0
    assert read_predictions(output, "published.pth").scores.accuracy == 1.0
    with pytest.raises(CheckpointError, match=r"published\.pth"):
        evaluate.main(arguments)


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        (["--signers", "z"], BridgeError, r"no clips by signer 'z'; the signers are a, b, c, d"),
        (["--config", "configs/kp90.yaml"], BridgeError, "are for a published .pth"),
        (["--set", "data.max_frames=3"], BridgeError, "--set and --labels are for a published"),
        (["--split", "test"], Exception, "split 'test'"),
    ],
)
def test_bad_options_are_refused(checkpoint, performances_file, options, error, complaint):
    with pytest.raises(error, match=complaint):
        evaluate.main([str(checkpoint), "--data", str(performances_file), *options])


def test_bad_models_are_named(performances_file, tmp_path):
    for name, error in (("no.tflite", ArtifactError), ("no.safetensors", CheckpointError)):
        with pytest.raises(error, match=rf"{tmp_path}/{name}"):
            evaluate.main([str(tmp_path / name), "--data", str(performances_file)])
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(CheckpointError, match=r"notes\.txt is no checkpoint: neither PyTorch"):
        evaluate.main([str(tmp_path / "notes.txt"), "--data", str(performances_file)])
    plain = tmp_path / "plain.tflite"
    plain.write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match=r"plain\.tflite is not a \.tflite file"):
        evaluate.main([str(plain), "--data", str(performances_file)])


def test_a_bad_output_is_said_before_the_work(checkpoint, performances_file, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SignBartError, match="cannot be made a folder"):
        evaluate.main(
            [str(checkpoint), "--data", str(performances_file), "--output", f"{tmp_path}/file"]
        )
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_results_of_another_model_are_not_written_over(
    checkpoint, performances_file, tmp_path, capsys
):
    """Twice the same is no loss; a model of the same name from another folder is one."""
    other = tmp_path / checkpoint.name
    output = ["--data", str(performances_file), "--output", str(tmp_path / "out")]
    assert evaluate.main([str(checkpoint), *output]) == 0
    before = (tmp_path / "out" / "scores.csv").read_text()
    assert evaluate.main([str(checkpoint), *output]) == 0
    save_checkpoint(dataclasses.replace(load_checkpoint(checkpoint), progress={"a": 1}), other)
    for arguments in ([str(other)], [str(checkpoint), "--signers", "a"]):
        with pytest.raises(SignBartError, match=r"results of another .*safetensors, or on other"):
            evaluate.main([*arguments, *output])
    assert (tmp_path / "out" / "scores.csv").read_text() == before


def test_another_keras_backend_of_the_users_changes_nothing(twin_file, performances_file, tmp_path):
    """And TensorFlow says nothing as it starts."""
    process = subprocess.run(
        [sys.executable, "-m", "signbart_runtime.evaluate", twin_file, "--data", performances_file],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    # What is said of the recordings is ours: they are random points of two of five classes. So is,
    # on a busy machine, what is being done, and since when.
    others = [
        line
        for line in process.stderr.splitlines()
        if not line.startswith("warning: ") and not re.search(r" \(\d+ s\)$", line)
    ]
    assert "100.00" in process.stdout and others == []


def test_a_model_that_saw_the_clips_says_so(performances, tmp_path, config):
    torch.manual_seed(0)
    known = {"fingerprint": performances.fingerprint(), "clips": 240, "test_signers": ["d"]}
    path = tmp_path / "trained.safetensors"
    save_checkpoint(
        Checkpoint(
            SignBart(config.model).state_dict(), config, performances.class_names,
            {"recordings": known},
        ),
        path,
    )  # fmt: skip
    of_d = evaluate.select_clips(performances, ["d"], "")
    assert evaluate.seen_in_training(path, performances, of_d) == ""
    note = evaluate.seen_in_training(path, performances, performances)
    assert "was trained on recordings of a, b, c" in note and "held out: d" in note
    # Whom a teacher may know is no stranger.
    known = load_checkpoint(path)
    taught = path.with_name("taught.safetensors")
    progress = {**known.progress, "teachers": {"seen": ["d"]}}
    save_checkpoint(dataclasses.replace(known, progress=progress), taught)
    note = evaluate.seen_in_training(taught, performances, of_d)
    assert "may have been trained on recordings of d" in note and "held out" not in note
    taught.unlink()


def test_signs_are_spotted_in_streams_of_their_clips(
    checkpoint, performances_file, performances, tmp_path, capsys
):
    rule = ("--fps", "12", "--window", "1", "--stride", "0.25", "--smoothing", "1")
    arguments = [str(checkpoint), "--data", str(performances_file), "--stream", *rule]
    assert evaluate.main([*arguments, "--signers", "a", "b", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "all, a" in printed and "2 stream(s)" in printed
    assert "threshold 0.6 (the usual one; the model carries none)" in " ".join(printed.split())
    record = json.loads((tmp_path / "spotting.json").read_text(encoding="utf-8"))
    made_from = record["made_from"]
    assert made_from["fps"] == 12 and made_from["rule"]["stride"] == 0.25
    # Each model's own, unless one is given.
    assert "threshold" not in made_from["rule"]
    assert record["models"]["best.safetensors"]["threshold"] == 0.6
    # The same may be written again, and nothing else over it.
    before = (tmp_path / "spotting.json").read_bytes()
    with pytest.raises(BridgeError, match=r"spotting\.json holds the scores of other"):
        evaluate.main([*arguments, "--signers", "a", "--output", str(tmp_path)])
    assert (tmp_path / "spotting.json").read_bytes() == before
    require_same_spotting(tmp_path / "spotting.json", made_from)
    found = record["models"]["best.safetensors"]
    total = found["total"]
    assert total["signs"] == 120
    assert total["hits"] + total["substitutions"] + total["misses"] == 120
    assert sum(label["hits"] for label in found["labels"].values()) == total["hits"]
    assert sum(one["minutes"] for one in found["signers"].values()) == pytest.approx(
        total["minutes"], abs=0.01
    )
    # Under wrong labels fewer are hits.
    model = open_model(checkpoint)
    options = {"fps": 12, "seed": 0, "source": "here", "signers": ["a"]}
    rule = StreamRule(window=1.0, stride=0.25, smoothing=1)
    right, wrong = (
        evaluate_streams(model, clips, rule, **options).total.hits
        for clips in (performances, relabelled(performances, 1))
    )
    assert right > 2 * wrong
    again = evaluate_streams(model, performances, rule, **options)
    assert again.numbers()["total"] == found["signers"]["a"]
    with pytest.raises(SignBartError, match="--window is of streams: add --stream"):
        evaluate.main([*arguments[:3], "--window", "1"])

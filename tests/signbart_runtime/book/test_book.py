"""The results report from folders written by hand: what it says, and what it leaves out."""

import csv
import datetime
import json
import re
from html import escape

import numpy as np
import pytest

from bridge.errors import BridgeError
from signbart.console import NOT_RUN
from signbart.files import file_sha256
from signbart.training.frameworks import KERAS, TORCH
from signbart.training.predictions import Predictions, write_predictions
from signbart_runtime import report
from signbart_runtime.book import pages
from signbart_runtime.book.answer import answer, facts
from signbart_runtime.book.confusions import confused_pairs
from signbart_runtime.book.pages import write_book
from signbart_runtime.book.reading import read_run
from signbart_runtime.book.tables import (
    COLUMNS,
    TOO_NOISY,
    Table,
    failures,
    files,
    parity,
    per_signer,
    scores,
)
from signbart_torch.training.checkpoint import load_model

DATE = datetime.date(2026, 3, 1)
CLASSES = ("ja", "nein", "danke")


def logits_with(hits: int, count: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and logits of which `hits` of `count` are right; the label is always second best."""
    labels = np.arange(count) % len(CLASSES)
    logits = np.full((count, len(CLASSES)), -1.0, np.float32)
    logits[np.arange(count), labels] = 1.0
    wrong = np.arange(hits, count)
    logits[wrong, (labels[wrong] + 1) % len(CLASSES)] = 2.0
    return labels, logits


def entry(scheme, verdict="pass", route="litert", **parity):
    return {
        "route": route, "scheme": scheme, "verdict": verdict,
        "reason": "" if verdict == "pass" else "it is wrong",
        "file": f"x_{route}_{scheme}.tflite", "sha256": f"{route}{scheme}", "bytes": 1000,
        "operators": {"FULLY_CONNECTED": 3, "ADD": 1},
        "multiply_accumulates": {"int8": 90, "float32": 10},
        "parity": {"argmax_agreement": 0.9, "scaled_rmse": 0.01, "max_abs": 0.5, **parity},
    }  # fmt: skip


def write_fold(
    folder, checkpoint, models, *, training="float32", ratios=None, evaluated=True, hits_before=9,
    noisy=(),
):  # fmt: skip
    """One run folder: checkpoint, manifest, predictions, times, history.

    Args:
        folder: The fold's.
        checkpoint: Copied as its best one, under the name of its framework's.
        models: Scheme -> (correct of ten, verdict).
        training: Which of the fold's run folders.
        ratios: Scheme -> latency to fp32.
        evaluated: Whether predictions are there.
        hits_before: Of ten, by the checkpoint itself.
        noisy: Schemes whose times are.
    """
    run = folder if training == "float32" else folder / training
    (run / "exports").mkdir(parents=True)
    best = f"best{checkpoint.suffix}"
    (run / best).write_bytes(checkpoint.read_bytes())
    (run / (KERAS if checkpoint.suffix == ".keras" else TORCH).last).touch()
    (run / "config.yaml").write_text("name: x\n")
    entries = [entry(scheme, verdict) for scheme, (_, verdict) in models.items()]
    manifest = {"name": "x", "artifacts": entries}
    (run / "exports" / "manifest.json").write_text(json.dumps(manifest))
    hits = {f"x_litert_{scheme}.tflite": count for scheme, (count, _) in models.items()}
    shas = {f"x_litert_{scheme}.tflite": f"litert{scheme}" for scheme in models}
    hits[best] = hits_before
    shas[best] = file_sha256(checkpoint)
    for name, count in hits.items() if evaluated else ():
        labels, logits = logits_with(count)
        clips = tuple(f"{folder.name} {at}" for at in range(10))
        write_predictions(
            run / "evaluation",
            Predictions(name, CLASSES, clips, (folder.name,) * 10, labels, logits),
            {"sha256": shas[name], "recordings": folder.name},
        )
    if ratios:
        times = {
            f"x_litert_{scheme}.tflite": {
                "sha256": f"litert{scheme}", "median_ms": 2 * ratio, "to_fp32": ratio,
                "noisy": scheme in noisy,
            }
            for scheme, ratio in ratios.items()
        }  # fmt: skip
        record = {"machine": "a machine", "threads": 1, "rounds": 200, "frames": 12}
        (run / "latency.json").write_text(json.dumps({**record, "artifacts": times}))
    (run / "summary.csv").write_text(
        "epoch,lr,train_loss,train_accuracy,seconds\n1,0.1,2.0,20,1\n2,0.1,1.0,60,1\n"
    )


@pytest.fixture
def folder(tmp_path, checkpoint):
    """Two signers; the second one's int8 was rejected, and QAT was run for dynamic_int8 alone."""
    run = tmp_path / "run"
    ratios = {"fp32": 1.0, "dynamic_int8": 0.5, "int8": 0.4}
    models = {"fp32": (9, "pass"), "dynamic_int8": (8, "pass"), "int8": (7, "pass")}
    write_fold(run / "A", checkpoint, models, ratios=ratios)
    models["int8"] = (5, "exported but wrong")
    write_fold(run / "B", checkpoint, models, ratios=ratios)
    for signer in "AB":
        write_fold(
            run / signer, checkpoint, {"dynamic_int8": (9, "pass")}, training="qat_dynamic",
            ratios={"dynamic_int8": 0.5},
        )  # fmt: skip
    return run


def by_signer(run):
    """A row a signer, whichever way the table is narrower."""
    table = per_signer(run)
    return table if "clips" in table.columns else table.turned()


def rows_of(table):
    return {tuple(row[:1]) if len(row) < 3 else row[0]: row for row in table.rows}


def test_the_files_are_the_mean_of_what_ran_and_nothing_else_is_there(folder):
    table = files(read_run(folder))
    assert table.columns == ["variant", "accuracy", "bytes", "time to FP32", "agree"]
    rows = rows_of(table)
    assert rows["FP32"][1:] == ["90.00 ± 0.00", "1,000", "1.00", "2 of 2"]
    assert rows["PTQ dynamic_int8"][1:] == ["80.00 ± 0.00", "1,000", "0.50", "2 of 2"]
    assert rows["QAT dynamic_int8"][1] == "90.00 ± 0.00"
    assert rows["PTQ int8"][1:] == ["60.00 ± 10.00", "1,000", "0.40", "1 of 2"]
    assert "QAT int8" not in rows, "nobody asked for it"


def test_every_signer_has_a_row_and_a_missing_fold_is_not_averaged_away(folder, checkpoint):
    write_fold(folder / "C", checkpoint, {"fp32": (6, "pass")})
    table = by_signer(read_run(folder))
    assert [*table.columns] == [
        "signer", "clips", "PyTorch", "FP32", "PTQ dynamic_int8", "QAT dynamic_int8", "PTQ int8",
    ]  # fmt: skip
    rows = {name: [*row] for name, row in rows_of(table).items()}
    assert rows["B"] == ["B", "10", "90.00", "90.00", "80.00", "90.00", "50.00 †"]
    assert "† rejected" in table.title
    assert rows["C"][3:] == ["60.00", *[NOT_RUN] * 3]
    assert rows["mean"][2:] == ["90.00", "80.00", *[NOT_RUN] * 3]


def test_what_was_not_evaluated_or_timed_has_no_column(tmp_path, checkpoint):
    run = tmp_path / "run"
    write_fold(run / "A", checkpoint, {"fp32": (9, "pass")}, evaluated=False)
    table = files(read_run(run))
    assert table.columns == ["variant", "bytes", "agree"]
    assert table.rows == [["FP32", "1,000", "1 of 1"]]
    found = answer(read_run(run))
    assert found.headline == "Ship the float32 .tflite." and "accuracy" not in dict(found.measured)


def test_predictions_and_times_of_another_file_do_not_count(folder):
    path = folder / "A" / "exports" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["artifacts"][2]["sha256"] = "made again"
    path.write_text(json.dumps(manifest))
    rows = rows_of(by_signer(read_run(folder)))
    assert rows["A"][6] == NOT_RUN and rows["B"][6] == "50.00 †"
    assert rows_of(files(read_run(folder)))["PTQ int8"][3] == NOT_RUN


@pytest.mark.parametrize(
    ("second", "noisy", "shown"),
    [
        (0.5, (), "0.50"),
        (0.6, (), "0.55"),
        # Files of one graph are not that far apart.
        (0.7, (), TOO_NOISY),
        # One quiet fold of two is enough, none is not.
        (0.9, ("dynamic_int8",), "0.50"),
    ],
)
def test_times_that_cannot_be_believed_are_not_told(tmp_path, checkpoint, second, noisy, shown):
    models = {"fp32": (9, "pass"), "dynamic_int8": (9, "pass")}
    run = tmp_path / "run"
    first = {"fp32": 1.0, "dynamic_int8": 0.5}
    write_fold(run / "A", checkpoint, models, ratios=first)
    later = {"fp32": 1.0, "dynamic_int8": second}
    write_fold(run / "B", checkpoint, models, ratios=later, noisy=noisy)
    assert rows_of(files(read_run(run)))["PTQ dynamic_int8"][3] == shown
    write_fold(tmp_path / "busy" / "A", checkpoint, models, ratios=first, noisy=("dynamic_int8",))
    found = answer(read_run(tmp_path / "busy"))
    # Equally large and equally good: without times neither is faster.
    assert "PTQ" not in found.headline and "fastest" not in found.notes[0]
    assert rows_of(files(read_run(tmp_path / "busy")))["PTQ dynamic_int8"][3] == TOO_NOISY


def test_the_answer_names_the_best_that_agrees_everywhere(folder):
    found = answer(read_run(folder))
    measured = dict(found.measured)
    # int8 is faster, but one of its files was rejected; PTQ is ten points worse.
    assert found.headline == "Ship the dynamic_int8 .tflite of quantization-aware training (QAT)."
    assert measured["accuracy"].startswith(
        "90.00 % of the clips of signers it never saw; mean of 2"
    )
    assert measured["size"] == "1,000 bytes, 1.00 of float32's"
    assert measured["time"] == "1 ms a call, 0.50 of float32's"
    assert "all of its 2 files agree" in measured["agreement"]
    assert "accuracy below the best, the smallest of those within 5 %" in found.notes[0]
    assert "Rejected in some fold: the int8 .tflite" in found.notes[0]
    assert "--full-data" in found.notes[-1]


def test_where_nothing_agrees_nothing_is_shipped(tmp_path, checkpoint):
    write_fold(tmp_path / "run" / "A", checkpoint, {"fp32": (9, "exported but wrong")})
    found = answer(read_run(tmp_path / "run"))
    assert found.headline == "Ship nothing yet." and dict(found.measured) == {
        "the float32 .tflite": "0 of 1"
    }


def test_a_model_that_guesses_is_called_that(tmp_path, checkpoint):
    write_fold(tmp_path / "run" / "A", checkpoint, {"fp32": (4, "pass")})
    assert "hardly more than guessing" in answer(read_run(tmp_path / "run")).notes[0]


def test_what_was_done_is_told_as_far_as_it_is_known(folder):
    assert "command" not in dict(facts(read_run(folder)))
    (folder / "command.txt").write_text("python -m signbart_runtime.loso --data signs.npz\n")
    results = {"data": "signs.npz", "epochs": 7, "parameters": 1234, "clips": {}}
    (folder / "A" / "results.json").write_text(json.dumps(results))
    found = dict(facts(read_run(folder)))
    assert found["data"] == "signs.npz: 20 clips evaluated, of 3 classes by 2 signers"
    assert "SignBART, 1,234 parameters" in found["model"]
    assert found["training"].startswith("PyTorch, seed 0, 7 epochs; 2 trainings, each")
    assert found["times"].startswith("medians of 200 bare calls, 12 frames, 1 thread")
    assert found["command"] == "python -m signbart_runtime.loso --data signs.npz"


def test_top_5_of_few_classes_and_means_of_equal_ones_are_no_scores(folder):
    # Ten clips of three classes: 4, 3 and 3 of each.
    assert scores(read_run(folder)).columns == ["variant", "mean class accuracy"]
    for index in folder.glob("**/evaluation.json"):
        found = json.loads(index.read_text())
        for about in found.values():
            about["class_names"] = [*CLASSES, "d", "e", "f"]
        index.write_text(json.dumps(found))
    assert "top-5" in scores(read_run(folder)).columns


def test_what_is_confused_is_told_in_words():
    labels, logits = logits_with(7)
    found = Predictions("m", CLASSES, ("",) * 10, ("A",) * 9 + ("B",), labels, logits)
    assert confused_pairs(found) == [
        "ja is taken for nein: 1 of 4 clips (25 %; B 1)",
        "nein is taken for danke: 1 of 3 clips (33 %; A 1)",
        "danke is taken for ja: 1 of 3 clips (33 %; A 1)",
    ]
    assert confused_pairs(Predictions("m", CLASSES, (), (), labels, logits_with(10)[1])) == []


def test_a_table_that_is_too_wide_is_a_list_of_cards(folder):
    wide = Table("t", ("signer", "clips", "x" * COLUMNS), [["A", "3", "y"], ["mean", "", "z"]])
    assert wide.width > COLUMNS
    assert wide.cards() == [("A", f"clips 3; {'x' * COLUMNS} y"), ("mean", f"{'x' * COLUMNS} z")]
    assert f"- **mean**: {'x' * COLUMNS} z\n" in pages._section(wide)
    assert "| A | 3 |" in pages._section(wide._replace(columns=("signer", "clips", "x")))
    # Two signers and five kinds of files.
    assert per_signer(read_run(folder)).width <= COLUMNS


def test_rejected_artifacts_are_counted_and_explained(folder):
    run = read_run(folder)
    rows = rows_of(parity(run))
    assert rows["FP32"][1:] == ["+0.00", "90.00", "5.00e-01", "1.00e-02"]
    assert rows["PTQ int8"][1] == "-30.00"
    assert failures(run).rows == [["B", "PTQ int8", "exported but wrong", "it is wrong"]]


def test_the_book_is_whole(folder, tmp_path):
    (folder / "command.txt").write_text("python -m x --data <b>a*b*c</b>\n")
    output = tmp_path / "book"
    markdown, page = write_book([read_run(folder)], output, DATE)
    assert (markdown.name, page.name) == ("report_2026-03-01.md", "report_2026-03-01.html")
    text = markdown.read_text(encoding="utf-8")
    pictures = re.findall(r"\]\(([^)]+\.png)\)", text)
    assert all((output / picture).stat().st_size > 5000 for picture in pictures)
    # Three groups (all signers, A, B) of four variants, and two trainings' curves.
    assert len(pictures) == len(set(pictures)) == 3 * 4 + 2
    assert NOT_RUN not in text, "nothing is missing of what was asked for"
    order = ("**Ship", "### What was done", "### Files", "### What is taken", "### Training curves",
             "### Confusion matrices", "Operators by route")  # fmt: skip
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    html = page.read_text(encoding="utf-8")
    assert "<code>python -m x --data &lt;b&gt;a*b*c&lt;/b&gt;</code>" in html
    assert html.count("data:image/png;base64,") == len(pictures)
    assert not re.search(r'(src|href)="(?!data:)', html), "the page needs nothing beside it"
    assert html.count("<table>") == text.count("|---|")
    with open(output / "summary_table.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {(r["signer"], r["precision"], r["scheme"]): r for r in rows}
    assert found["B", "PTQ", "int8"]["accuracy"] == "50.0"
    assert found["B", "PTQ", "int8"]["verdict"] == "exported but wrong"
    assert found["mean", "QAT", "dynamic_int8"]["accuracy"] == "90.0"
    assert ("A", "QAT", "int8") not in found
    assert found["A", "PTQ", "dynamic_int8"]["speed_up"] == "2.0"
    assert found["A", "PyTorch", "fp32"]["latency_ms"] == NOT_RUN
    assert found["A", "FP32", "fp32"]["bytes"] == "1000"
    with open(output / "per_class_accuracy.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list(CLASSES)
    assert rows[0]["clips"] == "8" and "x QAT int8 litert" not in rows[0]


def test_names_from_the_data_are_text_not_markup(folder, tmp_path, monkeypatch):
    names = ("a|b", "<script>x</script>", "*_ja_* [&lt;]")
    for index in folder.glob("**/evaluation.json"):
        found = json.loads(index.read_text())
        for about in found.values():
            about["class_names"] = names
        index.write_text(json.dumps(found))
    _, page = write_book([read_run(folder)], tmp_path / "book", DATE)
    html = page.read_text(encoding="utf-8")
    cells = re.findall(r"<td>(.*?)</td>", html)
    assert set(map(escape, names)) <= set(cells)
    # Negative control: without escaping none of them is what it was.
    monkeypatch.setattr("signbart_runtime.book.pages._escaped", str)
    _, page = write_book([read_run(folder)], tmp_path / "book", DATE)
    html = page.read_text(encoding="utf-8")
    assert not set(map(escape, names)) & set(re.findall(r"<td>(.*?)</td>", html))


def test_the_arithmetic_is_counted_on_the_model_itself(folder, tmp_path, checkpoint):
    write_book([read_run(folder)], tmp_path / "book", DATE)
    with open(tmp_path / "book" / "model_info.csv", encoding="utf-8") as file:
        rows = {(row["variant"], row["route"]): row for row in csv.DictReader(file)}
    model, _, _ = load_model(checkpoint)
    reference = rows["PyTorch", "-"]
    assert int(reference["parameters"]) == model.num_parameters
    assert int(reference["flops"]) == 2 * int(reference["multiply_accumulates"]) > 0
    assert rows["PTQ int8", "litert"]["flops"] == "200"
    assert rows["PTQ int8", "litert"]["in_int8"] == "90.0"
    assert rows["PTQ int8", "litert"]["operators"] == "4"


def test_the_command_fails_where_artifacts_do(folder, tmp_path, capsys):
    assert report.main([str(folder), "--output", str(tmp_path / "book")]) == 1
    printed = capsys.readouterr().out
    assert "x B float32 litert int8: exported but wrong" in printed
    assert report.main([str(folder)]) == 1
    with pytest.raises(BridgeError, match="two of the runs would both be called 'x'"):
        report.main([str(folder), str(folder), "--output", str(tmp_path / "book")])


def test_two_runs_of_one_name_are_printed_by_folder_and_compared(folder, capsys):
    assert report.main([str(folder), str(folder)]) == 1
    printed = capsys.readouterr().out
    assert f"{folder}. " in printed and "not more than chance" in printed


def test_an_empty_folder_and_a_damaged_manifest_are_named(tmp_path):
    with pytest.raises(BridgeError, match=r"holds no fold with exports"):
        read_run(tmp_path)
    manifest = tmp_path / "S01" / "exports" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text('{"artifacts": [{}]}')
    with pytest.raises(BridgeError, match=r"S01/exports/manifest\.json is no manifest"):
        read_run(tmp_path)


def test_a_fold_is_not_taken_for_a_run(folder):
    """Its QAT folders would else be its folds."""
    with pytest.raises(BridgeError, match=r"run/A is one fold or export; give the output folder"):
        read_run(folder / "A")


@pytest.mark.parametrize("training", ["", "qat_dynamic"])
def test_folds_of_two_configurations_have_no_mean(folder, training):
    (folder / "B" / training / "config.yaml").write_text("name: x\ntrain: {epochs: 7}\n")
    with pytest.raises(BridgeError, match=r"B/.*config\.yaml and .*A/.*differ.* not one run"):
        read_run(folder)


def test_folds_of_two_frameworks_have_no_mean(folder, twin_file):
    write_fold(folder / "C", twin_file, {"fp32": (9, "pass")})
    with pytest.raises(BridgeError, match=r"C was trained in Keras and .*A in PyTorch, .* not one"):
        read_run(folder)


def test_both_frameworks_stand_in_one_book(folder, tmp_path, checkpoint, twin_file):
    for signer in "AB":
        models = {"fp32": (7, "pass")}
        write_fold(tmp_path / "keras" / signer, twin_file, models, hits_before=8)
        # As the weight map may have left it there.
        (tmp_path / "keras" / signer / "best.safetensors").write_bytes(checkpoint.read_bytes())
    runs = [read_run(folder), read_run(tmp_path / "keras")]
    assert [run.data for run in runs] == ["x", "x Keras"]
    assert by_signer(runs[1]).columns[2] == "Keras"
    (row,) = parity(runs[1]).rows
    assert "points to Keras" in parity(runs[1]).title and row[1] == "-10.00"
    markdown, _ = write_book(runs, tmp_path / "book", DATE)
    text = markdown.read_text(encoding="utf-8")
    for framework in ("PyTorch", "Keras"):
        assert f"training: {framework}, seed 0; 2 trainings, each evaluated on the signer" in text
    with open(tmp_path / "book" / "summary_table.csv", encoding="utf-8") as file:
        rows = {(r["data"], r["signer"], r["precision"]): r for r in csv.DictReader(file)}
    assert rows["x", "mean", "PyTorch"]["accuracy"] == "90.0"
    assert rows["x Keras", "mean", "Keras"]["accuracy"] == "80.0"
    with open(tmp_path / "book" / "model_info.csv", encoding="utf-8") as file:
        counts = [row["parameters"] for row in csv.DictReader(file)]
    # The twin has as many, read from the Keras checkpoint.
    assert set(counts) == {f"{load_model(checkpoint)[0].num_parameters}"}


def test_a_fold_of_no_known_framework_is_named(folder):
    (folder / "B" / "last.safetensors").unlink()
    with pytest.raises(BridgeError, match=r"B holds neither last\.safetensors nor last\.weights"):
        read_run(folder)


def test_one_who_saw_everybody_is_no_fold_among_others(folder, checkpoint):
    write_fold(folder / "all", checkpoint, {"fp32": (9, "pass")})
    with pytest.raises(BridgeError, match=r"holds A, B, all: .* not one run"):
        read_run(folder)


@pytest.mark.parametrize(
    ("clips", "said"),
    [
        ({"train": 9, "val": 3, "test": 2}, "evaluated on the clips that are marked test"),
        ({"train": 9, "val": 3, "test": 0}, "evaluated on the validation clips, which it did not"),
        ({"train": 9, "val": 0, "test": 0}, "evaluated on the clips that it was trained on, which"),
    ],
)
def test_full_data_training_says_what_judged_it(tmp_path, checkpoint, clips, said):
    write_fold(tmp_path / "run" / "all", checkpoint, {"fp32": (9, "pass")})
    (tmp_path / "run" / "all" / "results.json").write_text(json.dumps({"clips": clips}))
    run = read_run(tmp_path / "run")
    assert said in dict(facts(run))["training"]
    assert "yet to be made" not in " ".join(answer(run).notes)


def test_the_onnx_is_in_the_book_and_counts(folder, tmp_path):
    for signer in "AB":
        run = folder / signer
        path = run / "exports" / "manifest.json"
        manifest = json.loads(path.read_text())
        verdict = "pass" if signer == "A" else "exported but wrong"
        onnx = entry("fp32", verdict, route="onnx") | {
            "file": "x.onnx", "sha256": "o", "operators": {"MatMul": 5}, "multiply_accumulates": {},
        }  # fmt: skip
        manifest["artifacts"].append(onnx)
        path.write_text(json.dumps(manifest))
        labels, logits = logits_with(6)
        clips = tuple(f"{signer} {at}" for at in range(10))
        write_predictions(
            run / "evaluation",
            Predictions("x.onnx", CLASSES, clips, (signer,) * 10, labels, logits),
            {"sha256": "o"},
        )
    run = read_run(folder)
    assert run.routes == ["litert"]  # what a .tflite came by
    rows = {(row[0], row[1]): row for row in files(run).rows}
    assert rows["FP32", ".onnx"][2] == "60.00 ± 0.00"
    assert rows["FP32", ".onnx"][-2:] == [NOT_RUN, "1 of 2"]
    assert ("PTQ int8", ".onnx") not in rows
    assert ["B", "FP32", ".onnx"] in [row[:3] for row in failures(run).rows]
    write_book([run], tmp_path / "book", DATE)
    with open(tmp_path / "book" / "model_info.csv", encoding="utf-8") as file:
        rows = {(row["variant"], row["route"]): row for row in csv.DictReader(file)}
    assert rows["FP32", ".onnx"]["operators"] == "5" and rows["FP32", ".onnx"]["flops"] == "-"
    assert report.main([str(folder)]) == 1

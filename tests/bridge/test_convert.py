"""Conversion, end to end: what agrees with PyTorch is shipped, what does not is held back.

The negative controls compare real artifacts with a reference that was altered on purpose.
"""

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import types
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional as F

from bridge import parity
from bridge.artifact.runtimes import TFLiteRuntime, TorchRuntime, open_runtime
from bridge.conversion import route_run
from bridge.conversion.evidence import Evidence
from bridge.conversion.folder import Change, staging_folder
from bridge.conversion.pipeline import convert, file_name
from bridge.conversion.route_run import RouteRun
from bridge.convert import main
from bridge.errors import BridgeError, ConversionError
from bridge.quantization.schemes import FLOAT, SCHEMES
from bridge.routes import ROUTES, Route, get_route, select_routes
from bridge.verification.compare import compare
from bridge.verification.limits import Limits
from bridge.verification.samples import make_samples
from bridge.verification.verdict import FAILED, PASS, WRONG, Verdict
from bridge.weights.source import Source, read_labels, read_source
from signbart.artifacts.metadata import PACKAGES, build_metadata, read_metadata
from signbart.configuration.reading import from_dict
from signbart.console import run_command
from signbart.errors import SignBartError
from signbart.files import file_sha256
from signbart.models import io_spec
from signbart.models.io_spec import LOGITS
from signbart_torch.models.signbart import decoder, encoder
from signbart_torch.models.signbart.model import SignBart
from signbart_torch.training.checkpoint import load_checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]
LIMITS = {"atol": 1e-5, "rtol": 1e-5}
PRODUCTS = [(route.name, ending) for route in ROUTES.values() for ending in route.produces]
# Products of the graph for export: 4 an encoder layer, 7 a decoder layer and 10 the last
# one, projections, head.
FULLY_CONNECTED = 2 * 4 + 2 * 7 + 10 + 2 + 1
PAPERS = [
    "MODEL_CARD.md", "convert.log", "golden.json", "manifest.json", "parity.json", "parity.md"
]  # fmt: skip


# The command


@pytest.mark.slow
def test_the_command_leaves_verified_artifacts_and_their_papers(converted, checkpoint):
    names = [f"small_{route}_fp32.tflite" for route in ROUTES] + ["small.onnx"]
    pictures = [f"parity_{name}.png" for name in names]
    names.append("small_landmarks.onnx")
    assert sorted(os.listdir(converted.folder)) == sorted([*PAPERS, *names, *pictures])
    manifest = json.loads((converted.folder / "manifest.json").read_text())
    assert manifest["checkpoint_sha256"] == file_sha256(checkpoint)
    assert manifest["versions"]["torch"] == importlib.metadata.version("torch")
    assert {entry["file"] for entry in manifest["artifacts"]} == set(names)
    assert "hello, thank you, naïve" in (converted.folder / "MODEL_CARD.md").read_text()


@pytest.mark.slow
def test_every_artifact_passes_and_the_papers_say_so(converted, artifact):
    manifest = json.loads((converted.folder / "manifest.json").read_text())
    (entry,) = (entry for entry in manifest["artifacts"] if entry["file"] == artifact.name)
    content = artifact.read_bytes()
    made_by = [route.name for route in ROUTES.values() if artifact.suffix in route.produces]
    assert entry["route"] in made_by and entry["scheme"] == "fp32" and entry["seconds"] > 0
    assert (entry["verdict"], entry["reason"]) == (PASS, "") and "repro" not in entry
    assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert read_metadata(artifact)["route"] == entry["route"]

    results = json.loads((converted.folder / "parity.json").read_text())["results"]
    result, *second = (result for result in results if result["artifact"] == artifact.name)
    # 8 inputs for each of the lengths 1, 2, 6, 11 and 12, and 8 with holes; where sizes are open
    # one batch of three and two other lengths.
    assert result["samples"] == 48 + (artifact.suffix == ".onnx") * 7
    assert result["verdict"] == PASS and result["argmax_agreement"] == 1
    assert 0 < result["max_abs"] < 1e-5 + 1e-5 * 10
    if artifact.suffix == ".tflite":
        (raw,) = second
        assert (raw["signature"], raw["verdict"]) == ("landmarks", PASS)
        assert raw["samples"] > 30 and 0 < raw["max_abs"] < 1e-5 + 1e-5 * 10
        assert entry["raw_parity"]["max_abs"] == raw["max_abs"]
    rows = (converted.folder / "parity.md").read_text().splitlines()
    assert any(artifact.name in row and "pass" in row for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
def test_all_but_masks_runs_in_the_delegate(converted, route):
    from benchmarks.litert_profiler import profile

    ran = profile(converted.path(route, ".tflite"), rounds=3).operators
    # The delegate's own names are not those of the file.
    outside = {name for name in ran if re.fullmatch("[A-Z0-9_]+", name)}
    mask, last_frame = {"GREATER", "SELECT_V2", "CAST"}, {"MUL", "REDUCE_MAX", "RESHAPE", "ONE_HOT"}
    assert outside <= mask | last_frame and len(ran) > 2 * len(outside)


@pytest.mark.slow
def test_the_onnx_is_valid_and_open(converted):
    import onnx

    path = converted.path("onnx", ".onnx")
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
    # One operator each: below opset 20 GELU is Erf and more, which LiteRT cannot run.
    assert sum(node.op_type == "Gelu" for node in model.graph.node) == 5
    assert not {"Erf", "Tanh"} & {node.op_type for node in model.graph.node}
    shapes = {tensor.name: tensor.shape for tensor in open_runtime(path).spec.inputs}
    assert shapes == {"keypoints": (None, None, 41, 2), "attention_mask": (None, None)}


@pytest.mark.slow
def test_the_command_says_where_the_results_are_and_what_comes_next(converted, checkpoint):
    assert str(converted.artifact) in converted.output and "pass" in converted.output
    following = converted.output.split("next:")[1]
    assert "MODEL_CARD.md" in following and "python -m bridge.parity" in following
    assert re.search(r"python -m signbart_runtime\.classify \S+\.(tflite|onnx) CLIP", following)
    assert re.search(r"onnx fp32: \d+\.\d s, [\d,]+ bytes, .*small\.onnx", converted.output)
    # On a busy machine there are lines of progress among them.
    lines = [line for line in converted.output.splitlines() if " done, " not in line]
    assert len(lines) < 25, "the converters' chatter belongs in the log"
    assert len((converted.folder / "convert.log").read_text()) > 1000


@pytest.mark.slow
def test_parity_can_be_checked_again(converted, checkpoint):
    process = subprocess.run(
        [
            sys.executable, "-m", "bridge.parity", "--reference", str(checkpoint),
            *(str(converted.path(*product)) for product in PRODUCTS), "--seed", "7",
        ],
        # Not inherited: pytest loads readline, which sets a width that os.environ does not show.
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=REPOSITORY, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    for product in PRODUCTS:
        assert re.search(rf"{converted.path(*product).name}\s+pass", process.stdout)


# Negative controls


@pytest.fixture
def samples(config, recordings):
    return make_samples(config, clips=recordings)


def exchange_classes(model, _):
    weight, bias = model.classification_head.out_proj.parameters()
    with torch.no_grad():
        weight[[0, 1]], bias[[0, 1]] = weight[[1, 0]], bias[[1, 0]]


def transpose_one_projection(model, _):
    weight = model.decoder.layers[1].encoder_attn.q_proj.weight
    with torch.no_grad():
        weight.copy_(weight.T.clone())


def exchange_heads(model, _):
    attention = model.encoder.layers[0].self_attn
    attention.num_heads, attention.head_dim = attention.head_dim, attention.num_heads


def shift_the_mask(_, monkeypatch):
    for module in (encoder, decoder):
        biased = module.padding_bias
        monkeypatch.setattr(
            module,
            "padding_bias",
            lambda mask, dtype, biased=biased: biased(mask.roll(1, dims=1), dtype),
        )


def read_the_next_frame(_, monkeypatch):
    select = decoder.last_frame_selector
    monkeypatch.setattr(
        decoder, "last_frame_selector", lambda mask, dtype: select(mask, dtype).roll(1, dims=-1)
    )


def approximate_gelu(_, monkeypatch):
    exact = F.gelu
    monkeypatch.setattr(F, "gelu", lambda x: exact(x, approximate="tanh"))


def unchanged(_, __):
    pass


ALTERATIONS = [
    exchange_classes, transpose_one_projection, exchange_heads, shift_the_mask,
    read_the_next_frame, approximate_gelu,
]  # fmt: skip


def altered(alter, model, config, monkeypatch) -> TorchRuntime:
    alter(model, monkeypatch)
    return TorchRuntime(model, config)


@pytest.mark.slow
@pytest.mark.parametrize("alter", ALTERATIONS, ids=lambda alter: alter.__name__)
def test_a_model_that_differs_fails_with_what_and_by_how_much(
    converted, model, config, samples, monkeypatch, alter
):
    reference = altered(alter, model, config, monkeypatch)
    candidate = TFLiteRuntime(converted.artifact)
    result = compare(reference, candidate, samples, Limits(**LIMITS))
    assert result.verdict == WRONG
    said = re.fullmatch(
        r"(\d+) of 48 samples are out of tolerance; worst logits\[(\d)\] is (\S+), expected (\S+): "
        r"off by (\S+), limit (\S+), on: (.+)",
        result.reason,
    )
    assert said, result.reason
    count, column, found, expected, off, limit, where = said.groups()
    # Every number that it says, once more by hand.
    sample = next(sample for sample in samples if sample.description == where)
    wanted, got = (run(sample.inputs)[LOGITS][0] for run in (reference, candidate))
    column = int(column)
    assert float(expected) == pytest.approx(wanted[column], rel=1e-5)
    assert float(found) == pytest.approx(got[column], rel=1e-5)
    assert float(off) == pytest.approx(abs(float(got[column]) - float(wanted[column])), rel=1e-2)
    assert float(limit) == pytest.approx(1e-5 + 1e-5 * abs(wanted[column]), rel=1e-2)
    # Not a matter of rounding: even the mildest, tanh GELU, is ten times beyond.
    assert float(off) > 10 * float(limit)
    assert int(count) >= 8


@pytest.mark.slow
def test_the_unaltered_model_passes_the_same_comparison(artifact, reference, samples):
    result = compare(reference, open_runtime(artifact), samples, Limits(**LIMITS))
    assert result.passed and result.max_abs < 1e-5 + 1e-5 * 10


def with_one_wrong_weight(content: bytes, checkpoint: Path) -> bytes:
    """A .tflite in which the largest weight of the encoder's last fc2 has the other sign."""
    weight = load_checkpoint(checkpoint).tensors["encoder.layers.1.fc2.weight"].numpy()
    start = content.find(weight.tobytes())
    assert start > 0 and content.count(weight.tobytes()) == 1
    changed = bytearray(content)
    changed[start + 4 * int(np.abs(weight).argmax()) + 3] ^= 0x80
    return bytes(changed)


@pytest.mark.slow
def test_one_wrong_weight_in_the_file_is_found(
    converted, checkpoint, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)  # receives the worst inputs
    wrong = tmp_path / "wrong.tflite"
    wrong.write_bytes(with_one_wrong_weight(converted.artifact.read_bytes(), checkpoint))
    arguments = ["--reference", str(checkpoint), str(wrong), str(converted.artifact), "--json"]
    assert parity.main(arguments) == 1
    changed, *_ = json.loads(capsys.readouterr().out)["results"]
    assert changed["verdict"] == FAILED and "checksum" in changed["reason"]
    # ... and by what it computes, where that is not asked.
    assert parity.main([*arguments, "--no-checksum"]) == 1
    bad, bad_raw, good, good_raw = json.loads(capsys.readouterr().out)["results"]
    assert bad_raw["signature"] == good_raw["signature"] == "landmarks"
    assert (bad_raw["verdict"], good_raw["verdict"]) == (WRONG, PASS)
    assert (bad["verdict"], good["verdict"]) == (WRONG, PASS)
    assert re.search(r"out of tolerance; worst logits\[\d\] is .* off by \d", bad["reason"])
    assert "first diverging layer: encoder.layers.1.fc2 (encoder.layers.1.fc1" in bad["reason"]
    assert bad["max_abs"] > 1e-3


@pytest.mark.slow
def test_a_file_that_cannot_be_run_is_one_failed_row(
    converted, checkpoint, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)  # receives the worst inputs
    (tmp_path / "odd.tflite").write_bytes(b"no model")
    arguments = [str(tmp_path / "odd.tflite"), str(converted.artifact)]
    assert parity.main(["--reference", str(checkpoint), *arguments]) == 1
    output = capsys.readouterr().out
    assert "odd.tflite: failed" in output and "is not a .tflite file" in output
    assert "pass" in output


@pytest.mark.slow
def test_an_artifact_of_another_model_does_not_fit(converted, config, samples):
    narrower = dataclasses.replace(config.model, num_labels=4)
    other = dataclasses.replace(config, model=narrower)
    result = compare(
        TorchRuntime(SignBart(narrower), other),
        TFLiteRuntime(converted.artifact),
        samples,
        Limits(**LIMITS),
    )
    assert result.verdict == FAILED
    assert "logits float32 (1, 5); expected logits float32 (any, 4)" in result.reason


# What is held back


@pytest.mark.slow
@pytest.mark.parametrize("alter", [exchange_classes, unchanged], ids=lambda alter: alter.__name__)
def test_only_what_agrees_is_shipped(
    converted, checkpoint, model, config, samples, monkeypatch, tmp_path, alter
):
    fresh = tmp_path / "converting" / "small_litert_fp32.tflite"
    fresh.parent.mkdir()
    fresh.write_bytes(converted.plain())
    reference = altered(alter, model, config, monkeypatch)
    run = RouteRun(
        source=Source(model, config, "abcde", checkpoint),
        route=ROUTES["litert"],
        endings=(".tflite",),
        schemes=(),
        evidence=Evidence(reference, samples, samples, "", {FLOAT: Limits(**LIMITS)}),
        name=partial(file_name, "small"),
        folder=fresh.parent,
    )
    # As routes do that run side by side: what there is to do, and what came of it, travel.
    run = pickle.loads(pickle.dumps(run))
    judged = pickle.loads(pickle.dumps(run._finish(fresh, SCHEMES[FLOAT], 0.0, "")))
    result = judged.parity
    assert judged.operators["FULLY_CONNECTED"] == FULLY_CONNECTED
    assert list(judged.multiply_accumulates) == ["float32"]
    path = settle_artifact(fresh, tmp_path, result)
    if alter is unchanged:
        assert result.passed and path == tmp_path / fresh.name
    else:
        assert not result.passed and path == tmp_path / "rejected" / fresh.name
        assert "first diverging layer: classification_head.out_proj" in result.reason
        assert not (tmp_path / fresh.name).exists()
    metadata = build_metadata(
        config, "abcde", io_spec(config), checkpoint_sha256=file_sha256(checkpoint),
        route="litert", scheme="fp32", packages=PACKAGES,
    )  # fmt: skip
    assert read_metadata(path) == metadata and not fresh.exists()


def settle_artifact(beside: Path, output: Path, verdict: Verdict) -> Path | None:
    """A command that makes this one artifact."""
    with staging_folder(output) as folder:
        change = Change(output, folder)
        path = change.place(beside, verdict)
        change.commit(None)
        return change.final(path)


def settle(folder: Path, verdict: str, name="a.tflite") -> Path:
    (folder / "converting").mkdir(exist_ok=True)
    (folder / "converting" / name).write_text(verdict)
    return settle_artifact(folder / "converting" / name, folder, Verdict(name, verdict))


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("bad", [WRONG, FAILED])
def test_a_verdict_replaces_what_an_earlier_run_left(tmp_path, bad):
    assert settle(tmp_path, PASS) == tmp_path / "a.tflite"
    settle(tmp_path, bad, "other.tflite")
    assert files(tmp_path) == ["a.tflite", "rejected/other.tflite"]
    assert settle(tmp_path, bad) == tmp_path / "rejected" / "a.tflite"
    assert files(tmp_path) == ["rejected/a.tflite", "rejected/other.tflite"]
    settle(tmp_path, PASS)
    assert files(tmp_path) == ["a.tflite", "rejected/other.tflite"]
    (tmp_path / "rejected" / "repro_other.tflite.npz").touch()
    settle(tmp_path, PASS, "other.tflite")
    assert files(tmp_path) == ["a.tflite", "other.tflite"]
    assert not (tmp_path / "rejected").exists()


def test_what_an_earlier_run_left_is_no_artifact_of_a_run_that_made_none(tmp_path):
    settle(tmp_path, PASS)
    nothing = tmp_path / "converting" / "a.tflite"
    assert settle_artifact(nothing, tmp_path, Verdict("a.tflite", FAILED)) is None
    assert files(tmp_path) == ["rejected/a.tflite"]


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
def test_any_number_of_frames_converts(route, tmp_path):
    # Beyond 90 frames the causal mask is more than an exporter computes beforehand by itself. And
    # as many frames as features: what is read off a shape alone can be read wrongly.
    frames = 130
    config = from_dict(
        {
            "model": {
                "joint_idx": [0, 1, 2], "num_labels": 2, "d_model": frames, "encoder_layers": 1,
                # All of the mask but its last row counts in a layer before the last.
                "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
                "encoder_ffn_dim": 8, "decoder_ffn_dim": 8,
            },
            "data": {"layout": "kp90", "max_frames": frames},
        },
        source="tests",
    )  # fmt: skip
    torch.manual_seed(0)
    model = SignBart(config.model).eval()
    path = tmp_path / "model.tflite"
    paths = {ending: tmp_path / f"model{ending}" for ending in ROUTES[route].produces}
    ROUTES[route].export(model, io_spec(config), paths)
    mask = np.zeros((1, frames), np.int32)
    mask[:, : 3 * frames // 4] = 1
    keypoints = np.random.default_rng(0).random((1, frames, 3, 2), np.float32)
    inputs = {"keypoints": keypoints, "attention_mask": mask}
    found = TFLiteRuntime(path)(inputs)[LOGITS]
    np.testing.assert_allclose(found, TorchRuntime(model, config)(inputs)[LOGITS], atol=1e-5)


# Routes that cannot be taken: a package that is not installed, a module that fails.


@pytest.fixture
def broken_routes(monkeypatch):
    for name, packages, module in (
        ("absent", ("no_such_package_here",), "json"),
        ("failing", (), "json"),  # has no `export`
    ):
        route = Route(name, (f"{name}_too",), f"the {name} route", packages, module)
        monkeypatch.setitem(ROUTES, name, route)


def test_routes_are_found_by_name_and_alias():
    assert list(ROUTES) == ["litert", "onnx", "keras"]
    assert get_route("litert") is get_route("ai_edge_torch") is ROUTES["litert"]
    assert get_route("ai-edge-torch") is ROUTES["litert"] and get_route("onnx2tf") is ROUTES["onnx"]
    assert select_routes(["onnx2tf", "all", "onnx"]) == [
        ROUTES[name] for name in ("onnx", "litert", "keras")
    ]
    with pytest.raises(BridgeError, match=r"unknown route 'lite'; known: litert \(also ai_edge"):
        get_route("lite")
    names = [name for route in ROUTES.values() for name in (route.name, *route.aliases)]
    assert len(names) == len(set(names))


def test_a_route_says_what_it_lacks(broken_routes, model, config, tmp_path):
    with pytest.raises(ConversionError, match="'absent' needs the package no_such_package_here"):
        ROUTES["absent"].export(model, io_spec(config), {".tflite": tmp_path / "a.tflite"})
    with pytest.raises(ConversionError, match="'failing' failed: AttributeError"):
        ROUTES["failing"].export(model, io_spec(config), {".tflite": tmp_path / "a.tflite"})


def test_a_route_that_fails_is_a_verdict_and_stops_no_other(
    broken_routes, checkpoint, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("signbart.waiting.SILENCE", 0.0)
    arguments = ["--checkpoint", str(checkpoint), "--output", str(tmp_path)]
    routes = ["--route", "absent", "--route", "failing", "--jobs", "1"]
    assert main([*arguments, *routes]) == 1
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [(a["route"], a["verdict"]) for a in manifest["artifacts"]] == [
        ("absent", FAILED), ("failing", FAILED),
    ]  # fmt: skip
    output, said = capsys.readouterr()
    assert "no_such_package_here" in output and "AttributeError" in output
    for line in (f"reading {checkpoint} (", "small by route failing: exporting (", "writing card,"):
        assert line in said
    assert "temperature; none was fitted" in (tmp_path / "MODEL_CARD.md").read_text()
    assert "next:" not in output
    assert sorted(os.listdir(tmp_path)) == PAPERS


def test_a_temperature_of_ones_own_goes_in_and_one_that_divides_nothing_does_not(
    broken_routes, checkpoint, tmp_path
):
    arguments = ["--checkpoint", str(checkpoint), "--output", str(tmp_path), "--route", "failing"]
    assert main([*arguments, "--temperature", "1.25"]) == 1
    assert "logits over 1.25, the temperature." in (tmp_path / "MODEL_CARD.md").read_text()
    source = dataclasses.replace(read_source(checkpoint), temperature=1.25)
    assert route_run.describe(source, get_route("litert"), FLOAT)["temperature"] == 1.25
    for bad in ("0", "nan", "-2"):
        with pytest.raises(SignBartError, match="--temperature: a temperature of"):
            main([*arguments, "--temperature", bad])


def test_a_threshold_and_a_persons_notes_go_in_and_one_that_nothing_reaches_does_not(
    broken_routes, checkpoint, tmp_path
):
    arguments = ["--checkpoint", str(checkpoint), "--output", str(tmp_path), "--route", "failing"]
    notes = tmp_path / "notes.md"
    notes.write_text("---\nlicense: cc0-1.0\n---\n\nOf a friend.\n", encoding="utf-8")
    assert main([*arguments, "--threshold", "0.75", "--card-notes", str(notes)]) == 1
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "from 0.75 on they are a sign" in card
    assert card.startswith("---\nlicense: cc0-1.0\n") and "\n\nOf a friend.\n\n## Limits" in card
    source = read_source(checkpoint)
    for given, described in ((source.carrying(None, 0.75), 0.75), (source, None)):
        about = route_run.describe(given, get_route("litert"), FLOAT)
        assert about.get("threshold") == described and ("threshold" in about) == bool(described)
    for bad in ("0", "nan", "1.5"):
        with pytest.raises(SignBartError, match="--threshold: a threshold of"):
            main([*arguments, "--threshold", bad])


def test_a_converter_that_ends_its_process_takes_no_other_route_along(
    monkeypatch, checkpoint, tmp_path
):
    (tmp_path / "aborting_route.py").write_text(
        "import os\n\n\ndef export(model, spec, paths):\n    os.abort()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name, module in (("aborting", "aborting_route"), ("failing", "json")):
        monkeypatch.setitem(ROUTES, name, Route(name, (), "", (), module))
    out = tmp_path / "out"
    results = convert(checkpoint, out, routes=["failing", "aborting", "failing"], jobs=2)
    reasons = {result.route: result.parity.reason for result in results}
    assert [result.parity.verdict for result in results] == [FAILED, FAILED]
    assert reasons["aborting"].startswith("the converter ended its process")
    assert "AttributeError" in reasons["failing"]
    assert sorted(os.listdir(out)) == PAPERS


def test_a_missing_package_disables_one_route_only(monkeypatch, model, config, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnx2tf" else find(name)
    )
    lacking = {name: route.missing_packages() for name, route in ROUTES.items()}
    assert lacking == {"litert": [], "onnx": ["onnx2tf"], "keras": []}
    with pytest.raises(ConversionError, match=r"'onnx' needs the package onnx2tf.*pip install"):
        ROUTES["onnx"].export(model, io_spec(config), {})


def published(checkpoint, config, folder: Path) -> list[str]:
    """The same weights as a published .pth, and the options that it needs."""
    torch.save(dict(load_checkpoint(checkpoint).tensors), folder / "published.pth")
    (folder / "small.yaml").write_text(yaml.safe_dump(config.to_dict()))
    names = {"no": 4, "yes": 0, "naïve": 2, "maybe": 1, "often": 3}
    (folder / "label2id.json").write_text(json.dumps(names))
    return [
        "--checkpoint", f"{folder}/published.pth", "--config", f"{folder}/small.yaml",
        "--labels", f"{folder}/label2id.json",
    ]  # fmt: skip


@pytest.fixture
def ready_made(monkeypatch):
    """`ready_made(name=content)`: the only routes, beside broken ones, each with a .tflite."""
    kept = dict(ROUTES)

    def routes(**contents: bytes):
        for name in ("litert", "onnx", "keras"):
            del ROUTES[name]
        for name, content in contents.items():
            module = types.ModuleType(f"route_{name}")
            module.export = lambda model, spec, paths, content=content: paths[
                ".tflite"
            ].write_bytes(content)
            monkeypatch.setitem(sys.modules, module.__name__, module)
            ROUTES[name] = Route(name, (), "", (), module.__name__)

    yield routes
    ROUTES.clear()  # by hand, since monkeypatch would change the order
    ROUTES.update(kept)


@pytest.mark.slow
def test_all_goes_on_past_failing_routes_and_a_repro_reproduces(
    broken_routes, ready_made, converted, checkpoint, config, tmp_path, capsys, command
):
    ready_made(wrong=with_one_wrong_weight(converted.plain(), checkpoint), right=converted.plain())
    out = tmp_path / "out"
    options = published(checkpoint, config, tmp_path)
    # In this process: the ready-made routes exist in no other.
    options += ["--route", "all", "--output", str(out), "--jobs", "1", "--raw-frames", "0"]
    assert main(options) == 1
    manifest = json.loads((out / "manifest.json").read_text())
    verdicts = {entry["route"]: entry["verdict"] for entry in manifest["artifacts"]}
    assert verdicts == {"absent": FAILED, "failing": FAILED, "wrong": WRONG, "right": PASS}
    assert files(out) == sorted([
        *PAPERS, "small_right_fp32.tflite", "parity_small_right_fp32.tflite.png",
        "parity_small_wrong_fp32.tflite.png", "rejected/small_wrong_fp32.tflite",
        "rejected/repro_small_wrong_fp32.tflite.npz",
    ])  # fmt: skip
    (repro,) = (entry["repro"] for entry in manifest["artifacts"] if "repro" in entry)
    printed = capsys.readouterr().out
    assert f"the worst input alone: {repro}" in printed
    named = "first diverging layer: encoder.layers.1.fc2 (encoder.layers.1.fc1 still agrees"
    assert named in printed and named in (out / "parity.md").read_text()

    # The very command, and the same input on the artifact that is right.
    *start, module = shlex.split(repro)[:3]
    assert (start, module) == (["python", "-m"], "bridge.parity")
    words = shlex.split(repro)[3:]
    for arguments, status in ((words, 1), ([*words[:-1], out / "small_right_fp32.tflite"], 0)):
        ended = command(parity.main, *arguments)
        assert ended.status == status, ended.output + ended.errors
        assert (named in ended.output) == bool(status)


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x1c\0\0\0TFL3" + bytes(64)])
def test_a_file_that_nobody_can_read_is_a_verdict_too(ready_made, checkpoint, tmp_path, content):
    ready_made(odd=content, other=content)
    results = convert(checkpoint, tmp_path, routes=["all"], raw_frames=0)
    assert [result.parity.verdict for result in results] == [FAILED, FAILED]
    assert all(result.parity.reason for result in results)
    assert not list(tmp_path.glob("*.tflite"))


@pytest.mark.slow
def test_nothing_foreign_is_shipped(ready_made, converted, monkeypatch, checkpoint, tmp_path):
    ready_made(right=converted.plain())
    monkeypatch.setattr(route_run, "foreign_operators", lambda path: ["custom FlexErf"])
    (result,) = convert(checkpoint, tmp_path, routes=["right"], raw_frames=0)
    assert result.parity.verdict == FAILED and "lacks custom FlexErf" in (result.parity.reason)
    assert not (tmp_path / "small_right_fp32.tflite").exists()


def test_a_published_checkpoint_converts_with_its_configuration_and_labels(
    broken_routes, checkpoint, config, tmp_path
):
    published(checkpoint, config, tmp_path)
    convert(
        tmp_path / "published.pth", tmp_path / "out", routes=["absent"],
        config=tmp_path / "small.yaml", labels=tmp_path / "label2id.json",
    )  # fmt: skip
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert "yes, maybe, naïve, often, no" in card


@pytest.mark.parametrize(
    "content", ["[]", "{", "{}", '{"a": 1}', '{"a": 0, "b": 2}', '{"a": 0, "b": 0}', '{"a": "x"}']
)
def test_labels_must_be_numbered_without_gaps(tmp_path, content):
    path = tmp_path / "label2id.json"
    path.write_text(content)
    with pytest.raises(BridgeError, match=r"label2id\.json"):
        read_labels(path)


# Usage


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--route", "tflite"], "unknown route 'tflite'; known: litert"),
        (["--checkpoint", "/nowhere/best.safetensors"], "no checkpoint at /nowhere"),
        (["--checkpoint", "PTH"], "carries no configuration; give the YAML file"),
        (["--checkpoint", "PTH", "--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (["--labels", "/nowhere.json"], "/nowhere.json is no label2id.json"),
        (["--data", "/nowhere.npz"], "/nowhere.npz"),
    ],
)
def test_bad_input_exits_with_2_and_one_line(checkpoint, tmp_path, capsys, options, text):
    torch.save(dict(load_checkpoint(checkpoint).tensors), tmp_path / "published.pth")
    options = [str(tmp_path / "published.pth") if o == "PTH" else o for o in options]
    arguments = ["--checkpoint", str(checkpoint), "--output", str(tmp_path / "out"), *options]
    with pytest.raises(SystemExit) as exit:
        run_command(lambda: main(arguments))
    assert exit.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and text in printed and len(printed.splitlines()) == 1
    assert not list(tmp_path.glob("out/*"))


def test_two_conversions_do_not_share_a_folder(checkpoint, tmp_path, capsys):
    arguments = ["--checkpoint", str(checkpoint), "--output", str(tmp_path)]
    with staging_folder(tmp_path) as staging:
        with pytest.raises(SystemExit):
            run_command(lambda: main(arguments))
        assert "another process is writing there; wait" in capsys.readouterr().err
        assert staging.is_dir()


def test_missing_options_exit_with_2(capsys):
    for command in (main, parity.main):
        with pytest.raises(SystemExit) as exit:
            command([])
        assert exit.value.code == 2
        assert "required" in capsys.readouterr().err


@pytest.mark.parametrize("script", [["bridge/convert.py"], ["-m", "bridge.convert"]])
def test_both_ways_to_call_it_name_every_route(script):
    process = subprocess.run(
        [sys.executable, *script, "--help"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    for route in ROUTES.values():
        for name in (route.name, *route.aliases):
            assert name in process.stdout
    status = "0 converted and within the limits (docs/verification.md), 1 not, 2 bad input"
    assert f"exit status: {status}" in process.stdout


# Output


@pytest.mark.parametrize("verbose", [False, True])
def test_chatter_goes_to_the_log(tmp_path, verbose):
    # In a process of its own: under pytest, print() does not go to file descriptor 1.
    script = f"""
import os
from pathlib import Path
from signbart.console import redirect_output
print("before")
try:
    with redirect_output(Path("{tmp_path}/convert.log"), {verbose}):
        print("from Python")
        os.write(2, b"from C++\\n")
        raise ValueError
except ValueError:
    print("afterwards")
"""
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=100
    )
    assert process.returncode == 0, process.stderr
    log = tmp_path / "convert.log"
    if verbose:
        assert process.stdout == "before\nfrom Python\nafterwards\n" and not log.exists()
        assert process.stderr == "from C++\n"
    else:
        assert (process.stdout, process.stderr) == ("before\nafterwards\n", "")
        assert sorted(log.read_text().splitlines()) == ["from C++", "from Python"]


def set_others_aside(output: Path, made: Path, sha256: str) -> None:
    """As a conversion of the checkpoint `sha256` does that made this one artifact."""
    with staging_folder(output) as folder:
        change = Change(output, folder)
        shutil.copy(made, folder)
        change.place(folder / made.name, Verdict(made.name, PASS))
        change.set_others_aside(sha256)
        change.commit(None)


@pytest.mark.slow
def test_artifacts_of_another_checkpoint_do_not_stay_beside_new_papers(converted, tmp_path):
    ours, other = tmp_path / "small_litert_fp32.tflite", tmp_path / "small.onnx"
    shutil.copy(converted.path("litert", ".tflite"), ours)
    shutil.copy(converted.path("onnx", ".onnx"), other)
    (tmp_path / "foreign.onnx").write_bytes(b"not of this project")
    (tmp_path / "parity_small.onnx.png").touch()
    sha256 = read_metadata(ours)["checkpoint_sha256"]
    set_others_aside(tmp_path, ours, sha256)
    assert files(tmp_path) == ["foreign.onnx", "small.onnx", "small_litert_fp32.tflite"]
    set_others_aside(tmp_path, ours, "another")
    assert files(tmp_path) == ["foreign.onnx", "rejected/small.onnx", "small_litert_fp32.tflite"]

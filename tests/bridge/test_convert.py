"""Conversion, end to end: what agrees with PyTorch is shipped, what does not is held back.

The negative controls compare one real artifact with a reference that was altered on purpose.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional as F

from bridge import conversion, parity
from bridge import convert as command
from bridge.conversion import convert
from bridge.errors import BridgeError, ConversionError
from bridge.metadata import build_metadata, read_metadata
from bridge.parity import FAILED, PASS, WRONG, Parity, compare
from bridge.routes import ROUTES, Route, get_route
from bridge.runtimes import TFLiteRuntime, TorchRuntime
from bridge.samples import make_samples
from bridge.spec import LOGITS, io_spec
from signbart.console import run_command
from signbart_torch import decoder, encoder
from signbart_torch.checkpoint import file_sha256, load_checkpoint
from signbart_torch.model import SignBart

REPOSITORY = Path(__file__).resolve().parents[2]


# The command


@pytest.mark.slow
def test_the_command_leaves_a_verified_artifact_and_its_papers(converted, checkpoint):
    assert sorted(os.listdir(converted.folder)) == [
        "MODEL_CARD.md", "convert.log", "manifest.json", "parity.json", "parity.md",
        "small_litert_fp32.tflite",
    ]  # fmt: skip
    manifest = json.loads((converted.folder / "manifest.json").read_text())
    assert manifest["checkpoint_sha256"] == file_sha256(checkpoint)
    assert manifest["versions"]["torch"] == importlib.metadata.version("torch")
    (artifact,) = manifest["artifacts"]
    content = converted.artifact.read_bytes()
    assert (artifact["route"], artifact["scheme"]) == ("litert", "fp32")
    assert (artifact["verdict"], artifact["reason"]) == (PASS, "")
    assert artifact["file"] == converted.artifact.name
    assert artifact["bytes"] == len(content)
    assert artifact["sha256"] == hashlib.sha256(content).hexdigest()
    assert artifact["operators"]["FULLY_CONNECTED"] == 35

    (result,) = json.loads((converted.folder / "parity.json").read_text())["results"]
    # 8 inputs for each of the lengths 1, 2, 6, 11 and 12, and 8 with holes.
    assert result["verdict"] == PASS and result["samples"] == 48
    assert 0 < result["max_abs"] < 1e-5 + 1e-5 * 10 and result["argmax_agreement"] == 1
    assert "pass" in (converted.folder / "parity.md").read_text()
    assert "hello, thank you, naïve" in (converted.folder / "MODEL_CARD.md").read_text()


@pytest.mark.slow
def test_the_command_says_where_the_results_are_and_what_comes_next(converted, checkpoint):
    assert str(converted.artifact) in converted.output and "pass" in converted.output
    following = converted.output.split("next:")[1]
    assert "MODEL_CARD.md" in following and "python -m bridge.parity" in following
    assert len(converted.output.splitlines()) < 20, "the converter's chatter belongs in the log"


@pytest.mark.slow
def test_parity_can_be_checked_again(converted, checkpoint):
    process = subprocess.run(
        [
            sys.executable, "-m", "bridge.parity", "--reference", str(checkpoint),
            str(converted.artifact), "--seed", "7",
        ],
        # Not inherited: pytest loads readline, which sets a width that os.environ does not show.
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=REPOSITORY, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    assert "pass" in process.stdout and converted.artifact.name in process.stdout


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
    result = compare(reference, candidate, samples)
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
def test_the_unaltered_model_passes_the_same_comparison(
    converted, model, config, samples, monkeypatch
):
    reference = altered(unchanged, model, config, monkeypatch)
    result = compare(reference, TFLiteRuntime(converted.artifact), samples)
    assert result.passed and result.max_abs < 1e-5 + 1e-5 * 10


@pytest.mark.slow
def test_one_wrong_weight_in_the_file_is_found(converted, checkpoint, tmp_path, capsys):
    weight = load_checkpoint(checkpoint).tensors["encoder.layers.1.fc2.weight"].numpy()
    content = bytearray(converted.artifact.read_bytes())
    start = content.find(weight.tobytes())
    assert start > 0 and content.count(weight.tobytes()) == 1
    content[start + 4 * int(np.abs(weight).argmax()) + 3] ^= 0x80  # the sign of one float32
    wrong = tmp_path / "wrong.tflite"
    wrong.write_bytes(content)
    arguments = ["--reference", str(checkpoint), str(wrong), str(converted.artifact), "--json"]
    assert parity.main(arguments) == 1
    bad, good = json.loads(capsys.readouterr().out)["results"]
    assert (bad["verdict"], good["verdict"]) == (WRONG, PASS)
    assert re.search(r"out of tolerance; worst logits\[\d\] is .* off by \d", bad["reason"])
    assert bad["max_abs"] > 1e-3


@pytest.mark.slow
def test_a_file_that_cannot_be_run_is_one_failed_row(converted, checkpoint, tmp_path, capsys):
    (tmp_path / "odd.tflite").write_bytes(b"no model")
    arguments = [str(tmp_path / "odd.tflite"), str(converted.artifact)]
    assert parity.main(["--reference", str(checkpoint), *arguments]) == 1
    output = capsys.readouterr().out
    assert "odd.tflite: failed" in output and "cannot be loaded" in output
    assert "pass" in output


@pytest.mark.slow
def test_an_artifact_of_another_model_does_not_fit(converted, config, samples):
    narrower = dataclasses.replace(config.model, num_labels=4)
    other = dataclasses.replace(config, model=narrower)
    result = compare(
        TorchRuntime(SignBart(narrower), other), TFLiteRuntime(converted.artifact), samples
    )
    assert result.verdict == FAILED
    assert "logits float32 (1, 5); expected logits float32 (any, 4)" in result.reason


# What is held back


@pytest.mark.slow
@pytest.mark.parametrize("alter", [exchange_classes, unchanged], ids=lambda alter: alter.__name__)
def test_only_what_agrees_is_shipped(
    converted, model, config, samples, monkeypatch, tmp_path, alter
):
    fresh = tmp_path / "converting" / "small_litert_fp32.tflite"
    fresh.parent.mkdir()
    fresh.write_bytes(converted.plain())
    metadata = build_metadata(
        config, "abcde", io_spec(config), checkpoint_sha256="0", route="litert", scheme="fp32",
        packages=(),
    )  # fmt: skip
    reference = altered(alter, model, config, monkeypatch)
    result, counted = conversion._verify(fresh, metadata, reference, samples)
    assert counted["FULLY_CONNECTED"] == 35
    path = conversion._settle(fresh, tmp_path, result)
    if alter is unchanged:
        assert result.passed and path == tmp_path / fresh.name
    else:
        assert not result.passed and path == tmp_path / "rejected" / fresh.name
        assert not (tmp_path / fresh.name).exists()
    assert read_metadata(path) == metadata and not fresh.exists()


def settle(folder: Path, verdict: str, name="a.tflite") -> Path:
    (folder / "converting").mkdir(exist_ok=True)
    (folder / "converting" / name).write_text(verdict)
    return conversion._settle(folder / "converting" / name, folder, Parity(name, verdict))


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
    settle(tmp_path, PASS, "other.tflite")
    assert files(tmp_path) == ["a.tflite", "other.tflite"]
    assert not (tmp_path / "rejected").exists()


# Routes that cannot be taken. Real ones: a package that is not installed, a module that fails.


@pytest.fixture
def broken_routes(monkeypatch):
    for name, packages, module in (
        ("absent", ("no_such_package_here",), "json"),
        ("failing", (), "json"),  # has no `export`
    ):
        route = Route(name, (f"{name}_too",), f"the {name} route", packages, module)
        monkeypatch.setitem(ROUTES, name, route)


def test_routes_are_found_by_name_and_alias():
    assert get_route("litert") is get_route("ai_edge_torch") is ROUTES["litert"]
    with pytest.raises(BridgeError, match=r"unknown route 'lite'; known: litert \(also ai_edge"):
        get_route("lite")
    names = [name for route in ROUTES.values() for name in (route.name, *route.aliases)]
    assert len(names) == len(set(names))


def test_a_route_says_what_it_lacks(broken_routes, model, config, tmp_path):
    with pytest.raises(ConversionError, match="'absent' needs the package no_such_package_here"):
        ROUTES["absent"].export(model, io_spec(config), tmp_path / "a.tflite")
    with pytest.raises(ConversionError, match="'failing' failed: AttributeError"):
        ROUTES["failing"].export(model, io_spec(config), tmp_path / "a.tflite")


def test_a_route_that_fails_is_a_verdict_and_stops_no_other(
    broken_routes, checkpoint, tmp_path, capsys
):
    arguments = ["--checkpoint", str(checkpoint), "--output", str(tmp_path)]
    assert command.main([*arguments, "--route", "absent", "--route", "failing"]) == 1
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [(a["route"], a["verdict"]) for a in manifest["artifacts"]] == [
        ("absent", FAILED), ("failing", FAILED),
    ]  # fmt: skip
    output = capsys.readouterr().out
    assert "no_such_package_here" in output and "AttributeError" in output
    assert "next:" not in output
    assert sorted(os.listdir(tmp_path)) == [
        "MODEL_CARD.md", "convert.log", "manifest.json", "parity.json", "parity.md",
    ]  # fmt: skip


def test_a_published_checkpoint_converts_with_its_configuration_and_labels(
    broken_routes, checkpoint, config, tmp_path
):
    torch.save(dict(load_checkpoint(checkpoint).tensors), tmp_path / "published.pth")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config.to_dict()))
    names = {"no": 4, "yes": 0, "naïve": 2, "maybe": 1, "often": 3}
    (tmp_path / "label2id.json").write_text(json.dumps(names))
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
        conversion._read_labels(path)


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
        run_command(lambda: command.main(arguments))
    assert exit.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and text in printed and len(printed.splitlines()) == 1
    assert not list(tmp_path.glob("out/*"))


def test_missing_options_exit_with_2(capsys):
    for main in (command.main, parity.main):
        with pytest.raises(SystemExit) as exit:
            main([])
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
    assert "exit status: 0 converted and equal, 1 not, 2 bad input" in process.stdout


# Output


@pytest.mark.parametrize("verbose", [False, True])
def test_chatter_goes_to_the_log(tmp_path, verbose):
    # In a process of its own: under pytest, print() does not go to file descriptor 1.
    script = f"""
import os
from pathlib import Path
from bridge.conversion import _chatter_to
print("before")
try:
    with _chatter_to(Path("{tmp_path}/convert.log"), {verbose}):
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

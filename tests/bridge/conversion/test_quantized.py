"""``bridge/convert.py --quantize``, end to end: what is made, what is not, what the records say."""

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge import parity
from bridge.conversion import quantized as quantization_job
from bridge.convert import main
from bridge.quantization.schemes import SCHEMES
from bridge.routes import via_litert
from bridge.verification.limits import load_limits
from bridge.verification.verdict import PASS, WRONG
from signbart.artifacts.metadata import read_metadata
from signbart.console import run_command
from signbart.training.calibration import calibrate_on_noise

RECORDS = [
    "MODEL_CARD.md",
    "convert.log",
    "golden.json",
    "manifest.json",
    "parity.json",
    "parity.md",
]
LINEAR, ATTENTION = 262_392, 48_672  # multiply-accumulates; artifact/test_contents.py counts them


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@dataclasses.dataclass(frozen=True)
class Run:
    folder: Path
    output: str

    @property
    def manifest(self) -> dict:
        return json.loads((self.folder / "manifest.json").read_text())


@pytest.fixture(scope="module")
def exported(converted) -> Callable[[pytest.MonkeyPatch], None]:
    """`exported(monkeypatch)`: LiteRT Torch gives what it made of the same weights before."""
    core, around = converted.parts()

    def patch(patched: pytest.MonkeyPatch) -> None:
        patched.setattr(
            via_litert, "export", lambda model, spec, paths: paths[".tflite"].write_bytes(core)
        )
        patched.setattr(via_litert, "export_around", lambda raw, path: path.write_bytes(around))

    return patch


@pytest.fixture(scope="module")
def only_quantized(tmp_path_factory, trained, performances_file, exported, command) -> Run:
    """By the command: int8 and dynamic_int8 alone."""
    folder = tmp_path_factory.mktemp("exports") / "small"
    with pytest.MonkeyPatch.context() as patched:
        exported(patched)
        ended = command(
            main, "--checkpoint", trained, "--quantize", "int8,dynamic_int8", "--output", folder,
            "--data", performances_file, "--seed", "3",
        )  # fmt: skip
    assert ended.status == 0, ended.output + ended.errors
    return Run(folder, ended.output)


@pytest.mark.slow
def test_only_what_was_asked_for_is_left(only_quantized):
    made = ["small_litert_dynamic_int8.tflite", "small_litert_int8.tflite"]
    assert files(only_quantized.folder) == sorted([*RECORDS, *made])
    output = only_quantized.output
    for name in made:
        assert str(only_quantized.folder / name) in output
    assert "quantized: judged on 120 clips that were not trained on" in output
    assert "Quantized, judged on clips" in output and "Parity with PyTorch" not in output
    assert "Applying" not in output and len(output.splitlines()) < 25


@pytest.mark.slow
def test_the_manifest_tells_what_was_made_of_what(only_quantized, performances_file, performances):
    manifest = only_quantized.manifest
    assert [(a["scheme"], a["verdict"], a["reason"]) for a in manifest["artifacts"]] == [
        ("dynamic_int8", PASS, ""), ("int8", PASS, ""),
    ]  # fmt: skip
    for entry in manifest["artifacts"]:
        content = (only_quantized.folder / entry["file"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["bytes"] == len(content) and entry["operators"]["FULLY_CONNECTED"] == 35
        assert entry["multiply_accumulates"] == {"int8": LINEAR, "float32": ATTENTION}
    quantization = manifest["quantization"]
    shown = quantization["calibration"]
    assert (shown["clips"], shown["signers"], shown["seed"]) == (100, ["b", "c"], 3)
    assert shown["random"] is False and shown["data"] == str(performances_file)
    assert shown["frames"]["shortest"] == 1 and shown["frames"]["longest"] == 12
    assert quantization["judged on"].startswith("120 clips that were not trained on")
    assert quantization["limits"] == {
        name: load_limits(name).to_dict() for name in ("dynamic_int8", "int8")
    }
    assert manifest["versions"]["ai-edge-quantizer"] != "not installed"


@pytest.mark.slow
def test_the_artifacts_and_the_papers_say_the_same(only_quantized):
    calibration = only_quantized.manifest["quantization"]["calibration"]
    for scheme, shown in (("int8", calibration), ("dynamic_int8", None)):
        found = read_metadata(only_quantized.folder / f"small_litert_{scheme}.tflite")
        assert (found["route"], found["scheme"]) == ("litert", scheme)
        assert found["quantization"]["calibration"] == shown
        assert found["quantization"]["shares"]["int8"] == pytest.approx(0.8435)
    card = (only_quantized.folder / "MODEL_CARD.md").read_text()
    assert "| small_litert_int8.tflite | 15.6% | 84.4% |" in card
    assert "Calibrated on 100 of 120 clips" in card and "2 signers, 1 to 12 of 12 frames" in card
    results = json.loads((only_quantized.folder / "parity.json").read_text())["results"]
    first = [result for result in results if result["signature"] == "serving_default"]
    assert [result["samples"] for result in first] == [120, 120]
    assert all(result["accuracy"] > 99 for result in first)
    assert [r["verdict"] for r in results if r not in first] == [PASS, PASS]
    assert "judged on clips" in (only_quantized.folder / "parity.md").read_text()


@pytest.mark.slow
def test_parity_judges_them_again(only_quantized, trained, performances_file, capsys):
    made = (f"small_litert_{scheme}.tflite" for scheme in ("int8", "dynamic_int8"))
    paths = [str(only_quantized.folder / name) for name in made]
    data = ["--data", str(performances_file), "--seed", "3"]
    assert parity.main(["--reference", str(trained), *paths, *data, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    first = json.loads((only_quantized.folder / "parity.json").read_text())
    key = {(result["artifact"], result["signature"]): result for result in first["results"]}
    assert len(again["results"]) == len(key)
    for result in again["results"]:
        assert result == key[result["artifact"], result["signature"]]
    assert again["settings"]["quantized judged on"] == first["settings"]["quantized judged on"]


@pytest.fixture
def run(exported, monkeypatch, trained, tmp_path, capsys):
    """`run(options)`: exit status and what was printed; results are in tmp_path / "out"."""
    exported(monkeypatch)

    def convert(*options: object, checkpoint=trained) -> tuple[int, str]:
        given = ["--checkpoint", checkpoint, "--output", tmp_path / "out", *options]
        status = main([str(option) for option in given])
        return status, capsys.readouterr().out

    return convert


@pytest.mark.slow
def test_all_is_every_scheme_and_integer_edges_are_named(run, performances_file, tmp_path):
    status, output = run("--quantize", "all", "--int8-io", "--data", performances_file)
    assert status == 0, output
    names = [
        f"small_litert_{name}{'_io' * scheme.calibrated}.tflite" for name, scheme in SCHEMES.items()
    ]
    picture = "parity_small_litert_fp32.tflite.png"
    assert files(tmp_path / "out") == sorted([*RECORDS, *names, picture])
    assert "Parity with PyTorch" in output and "Quantized, judged on clips" in output
    made = read_metadata(tmp_path / "out" / "small_litert_int8_io.tflite")
    assert {t["name"]: t["dtype"] for t in made["inputs"]} == {
        "keypoints": "int8", "attention_mask": "int32",
    }  # fmt: skip
    half = read_metadata(tmp_path / "out" / "small_litert_fp16.tflite")
    assert {t["dtype"] for t in half["inputs"]} == {"float32", "int32"}


@pytest.fixture
def garbage(monkeypatch):
    """Random calibration that fits nothing: as it comes, it happens to suit random weights."""

    def narrow(*arguments, **options):
        noise = calibrate_on_noise(*arguments, **options)
        return dataclasses.replace(noise, keypoints=0.01 * noise.keypoints)

    monkeypatch.setattr(quantization_job, "calibrate_on_noise", narrow)


@pytest.mark.slow
def test_what_predicts_garbage_is_exported_but_wrong_and_held_back(run, garbage, tmp_path, capsys):
    out = tmp_path / "out"
    status, output = run("--quantize", "int8,fp16,fp32", "--allow-random-calibration")
    assert status == 1
    wrong = "small_litert_int8.tflite"
    assert files(out) == sorted([
        *RECORDS, "small_litert_fp32.tflite", "small_litert_fp16.tflite",
        "parity_small_litert_fp32.tflite.png",
        f"rejected/{wrong}", f"rejected/repro_{wrong}.npz",
    ])  # fmt: skip
    assert f"{wrong}: {WRONG}: " in output and "root mean square" in output
    assert "next:" not in output
    manifest = json.loads((out / "manifest.json").read_text())
    verdicts = {entry["scheme"]: entry["verdict"] for entry in manifest["artifacts"]}
    assert verdicts == {"fp32": PASS, "fp16": PASS, "int8": WRONG}
    assert manifest["quantization"]["calibration"]["random"] is True
    (repro,) = (entry["repro"] for entry in manifest["artifacts"] if "repro" in entry)
    assert f"the worst input alone: {repro}" in output
    assert "random inputs: not for use" in (out / "MODEL_CARD.md").read_text()
    assert parity.main([*shlex.split(repro)[3:], "--output", str(tmp_path / "again")]) == 1
    assert WRONG in capsys.readouterr().out


@pytest.mark.slow
def test_a_quantized_form_of_a_wrong_float_file_has_failed(
    run, monkeypatch, performances_file, tmp_path
):
    monkeypatch.setattr(
        via_litert, "export", lambda model, spec, paths: paths[".tflite"].write_bytes(b"no model")
    )
    status, output = run("--quantize", "dynamic_int8", "--data", performances_file)
    assert status == 1 and "its float32 form is not usable: failed" in output
    assert not list((tmp_path / "out").glob("*.tflite"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--quantize", "int4"], "no quantization scheme 'int4'; known: fp32"),
        (["--quantize", "fp32,int8"], "give --calibration-data (or, to signbart convert, --data"),
        (["--quantize", "int8", "--data", "DATA", "--test-signers", "z"], "no clips by signer 'z'"),
        (["--quantize", "int8", "--calibration-data", "/nowhere"], "/nowhere: no such file"),
    ],
)
def test_bad_input_exits_with_2_and_one_line(
    trained, performances_file, tmp_path, capsys, options, text
):
    options = [str(performances_file) if option == "DATA" else option for option in options]
    arguments = ["--checkpoint", str(trained), "--output", str(tmp_path / "out"), *options]
    with pytest.raises(SystemExit) as exit:
        run_command(lambda: main(arguments))
    assert exit.value.code == 2
    # Its recordings are random numbers, of which the reading warns.
    printed = [line for line in capsys.readouterr().err.splitlines() if line[:8] != "warning:"]
    assert len(printed) == 1 and printed[0].startswith("error: ") and text in printed[0]
    assert not list(tmp_path.glob("out/*"))

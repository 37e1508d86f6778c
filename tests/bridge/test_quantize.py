"""Every scheme on every route does to every weight what its name says, and nothing in between.

What a quantized file is worth is judged in verification/test_clips.py.
"""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from bridge.artifact.runtimes import FloatView, TFLiteRuntime, open_runtime
from bridge.conversion import quantized as quantization_job
from bridge.errors import BridgeError, ConversionError
from bridge.quantization import quantizer
from bridge.quantization.quantizer import quantize
from bridge.quantization.schemes import FLOAT, SCHEMES, select_schemes
from bridge.quantize import main
from bridge.routes import ROUTES
from bridge.verification.clips import compare_on_clips
from bridge.verification.limits import load_limits
from bridge.verification.verdict import WRONG
from signbart.artifacts import compaction
from signbart.artifacts.contents import operators
from signbart.artifacts.metadata import read_metadata
from signbart.console import run_command
from signbart.files import file_sha256
from signbart.recordings.packed import write_packed
from signbart.training.calibration import calibrate_on_noise
from signbart_runtime.describe import main as describe_command
from signbart_torch.training.checkpoint import load_checkpoint

QUANTIZED = [name for name in SCHEMES if name != FLOAT]
# Products of the graph for export: 4 an encoder layer, 7 a decoder layer and 10 the last
# one, projections, head.
PRODUCTS = 2 * 4 + 2 * 7 + 10 + 2 + 1


# The table


def test_schemes_are_named_for_what_they_are():
    assert list(SCHEMES) == [
        "fp32", "fp16", "dynamic_int8", "weight_only_int8", "int8", "int16x8",
    ]  # fmt: skip
    assert [s.name for s in SCHEMES.values() if s.calibrated] == ["int8", "int16x8"]
    arithmetic = {s.name: s.arithmetic for s in SCHEMES.values()}
    assert arithmetic["int8"] == arithmetic["dynamic_int8"] == "int8"
    assert arithmetic["int16x8"] == "int16x8"
    assert arithmetic["weight_only_int8"] == arithmetic["fp16"] == "float32"


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["int8"], ["int8"]),
        (["int8,fp32", "dynamic_int8"], ["fp32", "dynamic_int8", "int8"]),
        (["int8, int8", "int8"], ["int8"]),
        (["all"], list(SCHEMES)),
        (["int8,all"], list(SCHEMES)),
    ],
)
def test_schemes_are_chosen_by_name_each_once_in_the_tables_order(names, chosen):
    assert [scheme.name for scheme in select_schemes(names)] == chosen


@pytest.mark.parametrize("name", ["int4", "INT8", "int8,,fp16", ""])
def test_an_unknown_scheme_is_refused_and_the_known_ones_are_named(name):
    with pytest.raises(BridgeError, match=r"no quantization scheme '.*'; known: fp32, fp16, .*"):
        select_schemes([name])


# What becomes of the weights


def linear_weights(path: Path) -> list[tuple]:
    """(input type, weights type, weights tensor, its buffer) of each FULLY_CONNECTED.

    Weights behind a DEQUANTIZE are those before it.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    graph = model.subgraphs[0]  # that of the first signature
    kinds = {value: name for name, value in vars(schema.TensorType).items() if name.isupper()}

    def builtin(operator):
        return model.operatorCodes[operator.opcodeIndex].builtinCode

    stored = {
        op.outputs[0]: op.inputs[0]
        for op in graph.operators
        if builtin(op) == schema.BuiltinOperator.DEQUANTIZE
    }
    found = []
    for operator in graph.operators:
        if builtin(operator) == schema.BuiltinOperator.FULLY_CONNECTED:
            given, weights = operator.inputs[:2]
            tensor = graph.tensors[stored.get(weights, weights)]
            data = model.buffers[tensor.buffer].data
            found.append((kinds[graph.tensors[given].type], kinds[tensor.type], tensor, data))
    return found


STORED = {
    "fp16": ("FLOAT32", "FLOAT16"),
    "dynamic_int8": ("FLOAT32", "INT8"),
    "weight_only_int8": ("FLOAT32", "INT8"),
    "int8": ("INT8", "INT8"),
    "int16x8": ("INT16", "INT8"),
}


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("scheme", QUANTIZED)
def test_every_linear_layer_is_quantized_and_nothing_foreign_comes_in(
    quantized, converted, route, scheme
):
    path = quantized(route, scheme)
    assert [kinds[:2] for kinds in linear_weights(path)] == [STORED[scheme]] * PRODUCTS
    before, after = operators(converted.path(route, ".tflite")), operators(path)
    added = {"QUANTIZE", "DEQUANTIZE"}
    assert {n: c for n, c in after.items() if n not in added} == before
    if scheme == "dynamic_int8":
        assert not added & set(after)
    assert path.stat().st_size < converted.path(route, ".tflite").stat().st_size


def forms_of(weight, gammas):
    """A layer's weights as a converter may write them.

    It may put attention's scale into q's rows, and LiteRT Torch puts the scale of the LayerNorm
    before a layer into its columns.
    """
    for columns in (1.0, *gammas):
        for scale in (1.0, 6**-0.5, 4**-0.5):  # heads of 6 and of 4
            if np.ndim(columns) == 0 or len(columns) == weight.shape[1]:
                yield scale * columns * weight


def stored_layers(weights, width):
    """Integers and scales of each Linear; joined ones, of `width` outputs each, taken apart."""
    for _, _, tensor, data in weights:
        integers = np.frombuffer(bytes(data), np.int8).reshape(tensor.shape).astype(float)
        scales = tensor.quantization.scale.astype(float)
        assert len(scales) == len(integers) and not np.any(tensor.quantization.zeroPoint)
        parts = len(integers) // width if len(integers) in (2 * width, 3 * width) else 1
        yield from zip(np.split(integers, parts), np.split(scales, parts), strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("scheme", ["dynamic_int8", "weight_only_int8", "int8", "int16x8"])
def test_weights_are_pytorchs_by_a_127th_of_each_rows_largest(quantized, checkpoint, route, scheme):
    tensors = {n: t.double().numpy() for n, t in load_checkpoint(checkpoint).tensors.items()}
    gammas = [t for name, t in tensors.items() if "norm" in name and name.endswith("weight")]
    wanted = {n: t for n, t in tensors.items() if t.ndim == 2 and "embed_positions" not in n}
    for name in wanted:
        if re.fullmatch(r"decoder\.layers\.2\..*k_proj\.weight", name):
            wanted[name] = wanted[name].T  # of one query: it is multiplied into them
    found = list(stored_layers(linear_weights(quantized(route, scheme)), width=24))
    assert len(found) == len(wanted)
    for integers, scales in found:
        assert (np.abs(integers).max(axis=1) == 127).all()
        matches = [
            name
            for name, weight in wanted.items()
            if weight.shape == integers.shape
            for form in forms_of(weight, gammas)
            if np.allclose(scales, np.abs(form).max(axis=1) / 127, rtol=1e-5)
            # Rounded to nearest: off by half a step at most.
            and np.abs(integers - form / scales[:, None]).max() < 0.5 + 1e-3
        ]
        assert len(matches) == 1, integers.shape
        del wanted[matches[0]]
    assert not wanted


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
def test_half_precision_weights_are_the_float_ones_rounded(quantized, converted, route):
    stored = linear_weights(quantized(route, "fp16"))
    floats = linear_weights(converted.path(route, ".tflite"))
    for (*_, half), (*_, single) in zip(stored, floats, strict=True):
        wanted = np.frombuffer(bytes(single), np.float32).astype(np.float16)
        assert bytes(half) == wanted.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("scheme", QUANTIZED)
def test_every_scheme_passes_on_clips_that_it_was_not_shown(quantized, judged, route, scheme):
    path = quantized(route, scheme)
    result = compare_on_clips(path, scheme, judged, load_limits(scheme))
    assert result.passed, result.reason
    assert (result.samples, result.accuracy, result.reference_accuracy) == (60, 100, 100)
    assert 0 < result.scaled_rmse < load_limits(scheme).scaled_rmse
    # A quantized model is not the float one: zero would mean that nothing was quantized.
    assert result.scaled_rmse > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("scheme", QUANTIZED)
def test_what_padded_frames_hold_changes_no_bit(quantized, judged, scheme):
    runtime = TFLiteRuntime(quantized("litert", scheme))
    short = next(s for s in judged.samples() if s.inputs["attention_mask"].sum() < 12)
    answers = set()
    for garbage in (np.nan, np.inf, -np.inf, 1e30, 0):
        keypoints = short.inputs["keypoints"].copy()
        keypoints[short.inputs["attention_mask"] == 0] = garbage
        answers.add(runtime({**short.inputs, "keypoints": keypoints})["logits"].tobytes())
    assert len(answers) == 1


@pytest.mark.slow
@pytest.mark.parametrize("scheme", QUANTIZED)
def test_the_same_command_gives_the_same_bytes(quantized, converted, calibration, tmp_path, scheme):
    again = tmp_path / "again.tflite"
    shown = calibration if SCHEMES[scheme].calibrated else None
    quantize(converted.artifact, SCHEMES[scheme], again, shown)
    assert again.read_bytes() == quantized("litert", scheme).read_bytes()


# Integer inputs and outputs


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
def test_integer_edges_say_their_scale_and_answer_alike(quantized, judged, route):
    path = quantized(route, "int8", int8_io=True)
    spec = TFLiteRuntime(path).spec
    tensors = {tensor.name: tensor for tensor in (*spec.inputs, *spec.outputs)}
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {
        "keypoints": "int8", "attention_mask": "int32", "logits": "int8",
    }  # fmt: skip
    assert tensors["attention_mask"].scale == 0
    for name in ("keypoints", "logits"):
        assert tensors[name].scale > 0 and -128 <= tensors[name].zero_point <= 127
    view, plain = FloatView(open_runtime(path)), open_runtime(quantized(route, "int8"))
    assert [t.dtype for t in (*view.spec.inputs, *view.spec.outputs)].count("float32") == 2
    for sample in judged.samples()[:10]:
        found, wanted = (run(sample.inputs)["logits"] for run in (view, plain))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=3 * tensors["logits"].scale)
    result = compare_on_clips(path, "int8", judged, load_limits("int8"))
    assert result.passed, result.reason


@pytest.mark.slow
def test_int16_edges_are_symmetric(quantized):
    spec = TFLiteRuntime(quantized("litert", "int16x8", int8_io=True)).spec
    wide = [tensor for tensor in (*spec.inputs, *spec.outputs) if tensor.scale]
    assert [tensor.dtype for tensor in wide] == ["int16", "int16"]
    assert [tensor.zero_point for tensor in wide] == [0, 0]


# What is refused


def test_what_makes_no_sense_is_refused_before_anything_is_written(config, tmp_path):
    source, target = tmp_path / "in.tflite", tmp_path / "out.tflite"
    noise = calibrate_on_noise(config, count=2, seed=0)
    for scheme, shown, int8_io, text in (
        ("fp32", None, False, "fp32 is what is quantized"),
        ("int8", None, False, "scheme int8 needs calibration data"),
        ("int16x8", None, True, "scheme int16x8 needs calibration data"),
        ("dynamic_int8", noise, True, "need int8 or int16x8, not dynamic_int8"),
    ):
        with pytest.raises(BridgeError, match=text):
            quantize(source, SCHEMES[scheme], target, shown, int8_io=int8_io)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_layers_that_the_quantizer_leaves_in_float_are_an_error(converted, monkeypatch, tmp_path):
    """No silent fallback: here it is told to leave all whose name has "out_proj"."""
    whole = quantizer._recipe

    def partial(scheme, operators, int8_io):
        from ai_edge_quantizer import qtyping

        manager = whole(scheme, operators, int8_io)
        manager.add_quantization_config(
            regex=".*out_proj.*",
            operation_name=qtyping.TFLOperationName.FULLY_CONNECTED,
            algorithm_key="no_quantize",
        )
        return manager

    monkeypatch.setattr(quantizer, "_recipe", partial)
    for scheme in QUANTIZED[:3]:
        with pytest.raises(ConversionError, match=rf"{scheme}: .*left some in float"):
            quantize(converted.artifact, SCHEMES[scheme], tmp_path / "a.tflite")


# The command


@pytest.fixture
def folder(converted, tmp_path) -> Path:
    """A folder with a float artifact in it."""
    shutil.copy(converted.artifact, tmp_path / "small_litert_fp32.tflite")
    return tmp_path


def run(folder: Path, scheme: str, *options: object) -> int:
    source = folder / "small_litert_fp32.tflite"
    return main([str(source), "--scheme", scheme, *map(str, options)])


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.slow
def test_the_command_leaves_a_judged_file_beside_the_float_one(folder, performances_file, capsys):
    assert run(folder, "int8", "--calibration-data", performances_file, "--seed", "3") == 0
    made = folder / "small_litert_int8.tflite"
    assert names(folder) == ["small_litert_fp32.tflite", made.name]
    printed = capsys.readouterr().out
    assert f"{made}: {made.stat().st_size:,} bytes" in printed and "pass" in printed
    assert "Applying" not in printed and "Calibration" not in printed
    before, after = (read_metadata(folder / name) for name in names(folder))
    for key in ("labels", "config", "checkpoint_sha256", "preprocessing", "outputs", "versions"):
        assert after[key] == before[key]
    assert sorted(after["inputs"], key=str) == sorted(before["inputs"], key=str)
    assert (before["scheme"], after["scheme"]) == ("fp32", "int8")
    record = after["quantization"]
    assert record["scheme"] == "int8" and record["description"] == SCHEMES["int8"].description
    shares = {"int8": 262_392 / 311_064, "float32": 48_672 / 311_064}
    assert record["shares"] == pytest.approx(shares, abs=1e-4)
    shown = record["calibration"]
    assert (shown["random"], shown["data"]) == (False, str(performances_file))
    assert (shown["clips"], shown["of"], shown["seed"]) == (100, 240, 3)
    assert shown["signers"] == ["a", "b", "c", "d"] and len(shown["fingerprint"]) == 64
    assert shown["frames"]["shortest"] == 1 and shown["frames"]["longest"] == 12
    assert shown["frames"]["input"] == 12
    assert describe_command([str(made)]) == 0
    described = capsys.readouterr().out
    assert "int8 84.4%" in described and "calibrated on 100 clips" in described


@pytest.mark.slow
def test_the_command_writes_where_it_is_told_and_names_integer_edges(
    folder, performances_file, capsys
):
    assert run(folder, "int8", "--calibration-data", performances_file, "--int8-io") == 0
    made = read_metadata(folder / "small_litert_int8_io.tflite")
    (points,) = (tensor for tensor in made["inputs"] if tensor["name"] == "keypoints")
    (logits,) = made["outputs"]
    spec = open_runtime(folder / "small_litert_int8_io.tflite").spec
    for told, tensor in ((points, spec.inputs[1]), (logits, spec.outputs[0])):
        assert told == {
            "name": tensor.name, "shape": list(tensor.shape), "dtype": "int8",
            "scale": tensor.scale, "zero_point": tensor.zero_point,
        }  # fmt: skip
    new = folder / "new" / "place" / "x.tflite"
    assert run(folder, "dynamic_int8", "--data", performances_file, "--output", new) == 0
    assert names(folder / "new") == ["place/x.tflite"]
    # Both signatures, and what the second one is stays said.
    assert re.search(r"x\.tflite \(landmarks\) +pass", capsys.readouterr().out)
    assert read_metadata(new)["raw"] == read_metadata(folder / "small_litert_fp32.tflite")["raw"]


@pytest.mark.slow
def test_dynamic_schemes_need_no_recordings(folder, capsys):
    assert run(folder, "fp16") == 0
    assert read_metadata(folder / "small_litert_fp16.tflite")["quantization"]["calibration"] is None
    capsys.readouterr()


@pytest.mark.slow
def test_papers_that_list_the_file_are_about_the_new_one(converted, tmp_path, capsys):
    folder = tmp_path / "exports"
    shutil.copytree(converted.folder, folder)
    name, before = "small_litert_fp16.tflite", "small_keras_fp32.tflite"
    (folder / "rejected").mkdir()
    (folder / before).rename(folder / "rejected" / name)
    for paper in ("manifest.json", "golden.json", "parity.json"):
        text = (
            (folder / paper)
            .read_text()
            .replace(f'"file": "{before}', f'"file": "rejected/{before}')
        )
        (folder / paper).write_text(text.replace(before, name))
    assert run(folder, "fp16") == 0
    manifest, golden, parity = (
        json.loads((folder / f"{paper}.json").read_text())
        for paper in ("manifest", "golden", "parity")
    )
    (entry,) = (one for one in manifest["artifacts"] if name in one.get("file", ""))
    assert (entry["file"], entry["sha256"]) == (name, file_sha256(folder / name))
    assert entry["scheme"] == "fp16" and entry["judged by"] == "its float form"
    assert entry["operators"]["FULLY_CONNECTED"] and not (folder / "rejected").exists()
    assert {one["scheme"] for one in parity["results"] if one["artifact"] == name} == {"fp16"}
    assert all(clip["answers"] and name not in clip["answers"] for clip in golden["clips"])
    for page in ("parity.md", "MODEL_CARD.md"):
        assert f"{name} was quantized again since" in (folder / page).read_text()
    # Once more says it once, and what no manifest lists changes none.
    assert run(folder, "fp16") == 0
    assert (folder / "MODEL_CARD.md").read_text().count("quantized again") == 1
    kept = (folder / "manifest.json").read_bytes()
    assert run(folder, "fp16", "--output", folder / "other.tflite") == 0
    assert (folder / "manifest.json").read_bytes() == kept
    capsys.readouterr()


@pytest.mark.slow
def test_garbage_is_held_back(folder, performances_file, capsys, monkeypatch):
    """Random numbers happen to fit this model of random weights; here they are made not to."""

    def narrow(*arguments, **options):
        noise = calibrate_on_noise(*arguments, **options)
        return dataclasses.replace(noise, keypoints=0.01 * noise.keypoints)

    monkeypatch.setattr(quantization_job, "calibrate_on_noise", narrow)
    good = folder / "small_litert_int8.tflite"
    good.write_bytes(b"of an earlier run")
    options = ["--allow-random-calibration", "--data", performances_file]
    assert run(folder, "int8", *options) == 1
    assert names(folder) == ["rejected/small_litert_int8.tflite", "small_litert_fp32.tflite"]
    printed = capsys.readouterr().out
    assert f"small_litert_int8.tflite: {WRONG}: " in printed and "root mean square" in printed
    shown = read_metadata(folder / "rejected" / good.name)["quantization"]["calibration"]
    assert shown["random"] is True and shown["data"] is None
    # And once it is calibrated on clips, the rejected one goes.
    assert run(folder, "int8", "--calibration-data", performances_file) == 0
    assert names(folder) == ["small_litert_fp32.tflite", "small_litert_int8.tflite"]
    capsys.readouterr()


def refused(arguments: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as exit:
        run_command(lambda: main(arguments))
    assert exit.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: "), lines
    return lines[-1]


@pytest.mark.slow
def test_bad_input_is_one_line_and_leaves_nothing(
    folder, converted, performances, performances_file, capsys, tmp_path_factory
):
    few = tmp_path_factory.mktemp("few") / "few.npz"
    write_packed(performances.select(range(99)), few)
    source = str(folder / "small_litert_fp32.tflite")
    odd = tmp_path_factory.mktemp("odd") / "odd.tflite"
    odd.write_bytes(converted.plain())
    data = ["--data", str(performances_file)]
    for arguments, text in (
        ([source, "--scheme", "int8"], "give --calibration-data"),
        ([source, "--scheme", "int16x8", *data], "--allow-random-calibration takes random numbers"),
        (
            [source, "--scheme", "int8", *data, "--calibration-data", str(few)],
            "99 clips are too few to calibrate int8 and int16x8 on; at least 100",
        ),
        ([source, "--scheme", "fp16", "--int8-io", *data], "need int8 or int16x8, not fp16"),
        ([source, "--scheme", "fp16", "--data", "/nowhere.npz"], "/nowhere.npz"),
        (["/nowhere.tflite", "--scheme", "fp16"], "no artifact at /nowhere.tflite"),
        ([str(odd), "--scheme", "fp16"], "carries no SignBART metadata"),
        ([str(converted.path("onnx", ".onnx")), "--scheme", "fp16"], "is no .tflite"),
        ([source, "--scheme", "fp16", "--output", str(folder / "x.onnx")], "is no .tflite"),
        ([source, "--scheme", "fp16", "--output", source], "would be overwritten"),
    ):
        assert text in refused(arguments, capsys)
        assert names(folder) == ["small_litert_fp32.tflite"]
    assert (folder / "small_litert_fp32.tflite").read_bytes() == converted.artifact.read_bytes()


@pytest.mark.slow
def test_a_quantized_file_is_not_quantized_again(folder, performances_file, capsys):
    assert run(folder, "fp16", "--data", performances_file) == 0
    half = str(folder / "small_litert_fp16.tflite")
    assert "is quantized already (fp16); give its fp32 form" in refused(
        [half, "--scheme", "dynamic_int8"], capsys
    )


def test_options_are_checked_before_anything_is_loaded(capsys):
    for options, text in (
        (["--scheme", "fp32"], "invalid choice: 'fp32'"),
        (["--scheme", "int4"], "invalid choice: 'int4'"),
        (["--scheme", "int8", "--calibration-clips", "99"], "99 is less than 100"),
        ([], "required: --scheme"),
    ):
        with pytest.raises(SystemExit) as exit:
            main(["in.tflite", *options])
        assert exit.value.code == 2 and text in capsys.readouterr().err


@pytest.mark.slow
def test_a_quantizer_that_fails_is_a_verdict_and_leaves_nothing_half_written(
    folder, performances_file, capsys, monkeypatch
):
    def fail(path):
        raise ConversionError("it broke")

    monkeypatch.setattr(compaction, "compact", fail)
    assert run(folder, "fp16", "--data", performances_file) == 1
    assert "small_litert_fp16.tflite: failed: it broke" in capsys.readouterr().out
    assert names(folder) == ["small_litert_fp32.tflite"]
    assert [path.name for path in folder.iterdir()] == ["small_litert_fp32.tflite"]

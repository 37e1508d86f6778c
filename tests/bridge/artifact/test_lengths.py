"""Signatures for shorter clips: the same answers, the same weights, a shorter run."""

import dataclasses
import json
import shutil
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bridge.artifact.lengths import add_lengths, check_lengths, split_lengths
from bridge.artifact.runtimes import FloatView, open_runtime
from bridge.conversion.evidence import Evidence, QuantizationOptions
from bridge.conversion.golden import _shorter_answers, answers, raw_answers
from bridge.conversion.pipeline import file_name
from bridge.conversion.route_run import RouteRun
from bridge.conversion.single_file import quantize_artifact
from bridge.convert import main
from bridge.errors import BridgeError
from bridge.quantization.schemes import FLOAT, SCHEMES
from bridge.routes import ROUTES, while_loops
from bridge.verification.artifacts import compare_artifacts
from bridge.verification.limits import load_limits
from bridge.verification.report import save_repro
from bridge.verification.samples import make_samples
from bridge.verification.verdict import PASS, WRONG
from bridge.weights.source import Source, read_source
from signbart.artifacts.compaction import read_model, write_model
from signbart.artifacts.contents import multiply_accumulates
from signbart.artifacts.graphs import graph_of
from signbart.artifacts.lengths import carried_lengths, config_at
from signbart.artifacts.metadata import embed_metadata, read_metadata
from signbart.errors import ArtifactError
from signbart.models.io_spec import LOGITS, RAW_SIGNATURE, SIGNATURE
from signbart.models.raw_spec import RawSignature
from signbart.recordings.clip import ClipSet
from signbart_runtime.describe import describe
from signbart_runtime.evaluation.opened import open_model
from signbart_runtime.evaluation.shortest import ShortestRuntime
from signbart_runtime.integrity.answers import reproduces
from signbart_runtime.integrity.promises import check_folder
from tests.bridge.routes.test_while_loops import TwoLoops

REPOSITORY = Path(__file__).resolve().parents[3]
SHORT = 8
SIGNATURES = [SIGNATURE, RAW_SIGNATURE, f"serving_{SHORT}", f"landmarks_{SHORT}"]
SCHEMES_MADE = ("fp32", "dynamic_int8", "int8")


@pytest.fixture(scope="session")
def several(shared, trained, performances_file, command) -> Path:
    """The folder of a conversion with a second length, by the command, static int8 among it."""

    def make(folder: Path) -> None:
        ended = command(
            main, "--checkpoint", trained, "--output", folder / "small",
            "--data", performances_file, "--lengths", f"12,{SHORT}",
            "--quantize", ",".join(SCHEMES_MADE),
        )  # fmt: skip
        assert ended.status == 0, ended.output + ended.errors

    return shared("several", make) / "small"


def made(folder, scheme="fp32"):
    return folder / f"small_litert_{scheme}.tflite"


def clip_of(frames, held, seed=0):
    """One clip as the signature for `held` frames takes it."""
    rng = np.random.default_rng(seed)
    keypoints = np.zeros((1, held, 41, 2), np.float32)
    keypoints[0, :frames] = rng.random((frames, 41, 2))
    return {
        "keypoints": keypoints,
        "attention_mask": (np.arange(held) < frames)[None] + np.int32(0),
    }


# In the file


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES_MADE)
def test_weights_are_there_once(scheme, several, tmp_path):
    path = made(several, scheme)
    model = read_model(path)
    first, short = (
        model.subgraphs[graph_of(model, name)] for name in (SIGNATURE, f"serving_{SHORT}")
    )
    sizes = [0 if buffer.data is None else len(buffer.data) for buffer in model.buffers]
    own = {tensor.buffer for tensor in first.tensors}
    added = {tensor.buffer for tensor in short.tensors} - own
    # Positions that a converter added to biases, masks, shapes; and a static file's biases, which
    # are whole numbers in units that follow the ranges of each length's activations.
    assert sum(sizes[at] for at in added) < 6_000 < sum(sizes[at] for at in own) / 5
    # A second file would cost its constants and its graphs; here the graphs alone are added.
    (part,) = split_lengths(path, tmp_path / "whole.tflite", tmp_path).values()
    constants = sum(len(b.data) for b in read_model(part).buffers if b.data is not None)
    graphs = part.stat().st_size - constants
    growth = path.stat().st_size - (tmp_path / "whole.tflite").stat().st_size
    assert 0 < growth < graphs < part.stat().st_size - 30_000


@pytest.mark.slow
def test_a_file_without_shorter_signatures_is_copied(converted, tmp_path):
    whole = tmp_path / "whole.tflite"
    assert split_lengths(converted.artifact, whole, tmp_path) == {}
    assert whole.read_bytes() == converted.artifact.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [whole.name]


@pytest.mark.slow
def test_the_first_signatures_stay_as_they_were_to_the_bit(several, converted, recordings):
    alone, clip = open_model(converted.artifact), ClipSet(recordings.clips[3:4], ("",) * 5)
    path = made(several)
    for frames in (1, 7, 12):
        given = clip_of(frames, 12, seed=frames)
        assert open_runtime(path)(given)[LOGITS].tobytes() == alone.runtime(given)[LOGITS].tobytes()
    assert multiply_accumulates(path) == multiply_accumulates(converted.artifact)
    assert alone.classify(clip) == dataclasses.replace(alone, raw=None).classify(clip)
    assert "lengths" not in describe(converted.artifact)["metadata"]


@pytest.mark.slow
def test_a_signatures_loops_stay_its_own(tmp_path):
    import torch

    path, other = tmp_path / "loops.tflite", tmp_path / "other.tflite"
    example = {"rows": torch.ones(5, 3), "count": torch.tensor([2], dtype=torch.int32)}
    while_loops.convert(TwoLoops().eval(), example, path)
    model, half = read_model(path), np.float32(0.5).tobytes()
    changed = [b for b in model.buffers if b.data is not None and bytes(b.data) == half]
    assert changed, "the loop's body adds 0.5"
    for buffer in changed:
        buffer.data = np.frombuffer(np.float32(4.5).tobytes(), np.uint8)
    write_model(model, other)
    add_lengths(path, {3: other})
    (part,) = split_lengths(path, tmp_path / "whole.tflite", tmp_path).values()
    for file, signature, added in (
        (path, SIGNATURE, 0.5), (tmp_path / "whole.tflite", SIGNATURE, 0.5),
        (path, "serving_3", 4.5), (part, SIGNATURE, 4.5),
    ):  # fmt: skip
        rows = np.ones((5, 3), np.float32)
        found = open_runtime(file, signature)({"rows": rows, "count": np.array([3], np.int32)})
        wanted = 8 * 3 * (np.array([[1, -2, 3]]) + added)
        np.testing.assert_allclose(found["doubled"], wanted, rtol=1e-6)


# Judged


@pytest.mark.slow
def test_every_signature_of_every_scheme_is_judged_and_written_down(several):
    manifest = json.loads((several / "manifest.json").read_text(encoding="utf-8"))
    parity = json.loads((several / "parity.json").read_text(encoding="utf-8"))
    for scheme in SCHEMES_MADE:
        judged = [r for r in parity["results"] if r["artifact"] == made(several, scheme).name]
        assert [(r["signature"], r["verdict"]) for r in judged] == [(s, PASS) for s in SIGNATURES]
        metadata = read_metadata(made(several, scheme))
        assert carried_lengths(metadata, "") == [SHORT]
        for said in (metadata, manifest):
            assert said["lengths"] == {f"serving_{SHORT}": SHORT, SIGNATURE: 12}
            assert said["raw"]["lengths"] == {f"landmarks_{SHORT}": SHORT, RAW_SIGNATURE: 256}
    for entry in manifest["artifacts"]:
        assert list(entry["shorter_parities"]) == SIGNATURES[2:]
    floats = [r for r in parity["results"] if r["scheme"] == FLOAT]
    # Lengths 1, 2, T/2, T - 1, T and a mask with holes, of eight inputs each.
    assert floats[2]["samples"] == 48 and floats[2]["max_abs"] < 1e-5
    card = (several / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"| `serving_{SHORT}` | {SHORT} |" in card and f"(landmarks_{SHORT})" in card


@pytest.mark.slow
def test_a_shorter_signature_says_what_the_longest_says(several, recordings):
    path = made(several)
    long, short = (open_runtime(path, name) for name in (SIGNATURE, f"serving_{SHORT}"))
    raw_long, raw_short = (
        open_runtime(path, name) for name in (RAW_SIGNATURE, f"landmarks_{SHORT}")
    )
    answers = []
    for frames in range(1, SHORT + 1):
        answers.append(long(clip_of(frames, 12))[LOGITS])
        np.testing.assert_allclose(
            short(clip_of(frames, SHORT))[LOGITS], answers[-1], atol=1e-5, rtol=1e-5
        )
        points = np.asarray(recordings.clips[-1].landmarks)[:frames]
        outputs = []
        for run in (raw_long, raw_short):
            landmarks = np.zeros(run.spec.inputs[0].shape, np.float32)
            landmarks[0, :frames] = points
            given = {"landmarks": landmarks, "num_frames": np.array([frames], np.int32)}
            outputs.append(run(given)[LOGITS])
        np.testing.assert_allclose(*outputs, atol=1e-5, rtol=1e-5)
    assert np.ptp(np.concatenate(answers), axis=0).min() > 1e-2


@pytest.mark.slow
def test_a_wrong_shorter_signature_is_named_and_held_back(
    several, checkpoint, model, config, reference, tmp_path
):
    fresh = tmp_path / made(several).name
    fresh.write_bytes(made(several).read_bytes())
    split_lengths(fresh, fresh, tmp_path)
    parts = split_lengths(made(several), tmp_path / "whole.tflite", tmp_path)
    # The length's signature of raw landmarks in place of a model of other weights: a bias changed.
    part = read_model(parts[SHORT])
    changed = max(
        (b for b in part.buffers if b.data is not None and len(b.data) == 5 * 24 * 4),
        key=lambda b: np.abs(np.frombuffer(bytes(b.data), np.float32)).sum(),
    )
    changed.data = np.frombuffer(bytes(changed.data), np.float32)[::-1].copy().view(np.uint8)
    write_model(part, parts[SHORT])
    add_lengths(fresh, parts)
    limits, short = {FLOAT: load_limits(FLOAT)}, config_at(config, SHORT)
    made_of = {n: make_samples(c) for n, c in ((None, config), (SHORT, short))}
    shorter = Evidence(reference, made_of[SHORT], made_of[SHORT], "", limits, frames=SHORT)
    run = RouteRun(
        source=Source(model, config, "abcde", checkpoint),
        route=ROUTES["litert"],
        endings=(".tflite",),
        schemes=(),
        evidence=Evidence(
            reference, made_of[None], made_of[None], "", limits, shorter={SHORT: shorter}
        ),
        name=partial(file_name, "small"),
        folder=tmp_path,
    )
    judged = run._finish(fresh, SCHEMES[FLOAT], 0.0, "")
    assert [verdict.verdict for verdict in judged.verdicts] == [WRONG, WRONG]
    assert judged.parity.reason.startswith(f"signature serving_{SHORT}: ")
    assert judged.parity.max_abs < 1e-5 < judged.shorter_parities[0].max_abs
    save_repro(checkpoint, fresh, judged.parity, judged.tried, tmp_path)
    # The input that it is worst on can be tried alone, by the signature that takes it.
    found = compare_artifacts(
        read_source(checkpoint), [fresh], inputs=tmp_path / f"repro_{fresh.name}.npz"
    )
    assert [(v.verdict, v.signature) for v in found.verdicts] == [(WRONG, f"serving_{SHORT}")]


@pytest.mark.slow
def test_artifacts_are_compared_again_by_every_signature(several, trained, performances_file):
    found = compare_artifacts(
        read_source(trained),
        [made(several), made(several, "int8")],
        data=str(performances_file),
    )
    judged = [(verdict.signature, verdict.verdict) for verdict in found.verdicts]
    assert judged == 2 * [(signature, PASS) for signature in SIGNATURES]


@pytest.mark.slow
def test_a_float_file_with_several_lengths_is_quantized_later(several, performances_file, tmp_path):
    artifact = quantize_artifact(
        made(several),
        SCHEMES["dynamic_int8"],
        tmp_path / "later.tflite",
        QuantizationOptions(),
        data=str(performances_file),
    )
    assert [(v.signature, v.verdict) for v in artifact.verdicts] == [(s, PASS) for s in SIGNATURES]
    given = clip_of(5, SHORT)
    at_once, later = (
        open_runtime(path, f"serving_{SHORT}")(given)[LOGITS]
        for path in (made(several, "dynamic_int8"), artifact.path)
    )
    assert at_once.tobytes() == later.tobytes()


@pytest.mark.slow
def test_verify_holds_shorter_signatures_to_what_is_said_of_them(several, config, tmp_path):
    assert not [finding for finding in check_folder(several) if finding.problem]
    path, name = made(several), f"landmarks_{SHORT}"
    golden = json.loads((several / "golden.json").read_text(encoding="utf-8"))
    labels = golden["labels"]
    points = np.array(golden["clips"][0]["landmarks"], np.float32)[:SHORT]
    raw = RawSignature(config, 256).at(config_at(config, SHORT))
    clip = answers(points, config, {path.name: FloatView(open_runtime(path))}, labels)
    said = raw_answers(points, raw, {path.name: open_runtime(path, name)}, labels)["raw_answers"]
    golden["clips"] = [clip | {"shorter_answers": {name: said}}]
    assert reproduces(path, golden) is None
    said[path.name]["logits"][0] += 1
    assert reproduces(path, golden).startswith(f"{name}: ")

    other = Path(shutil.copytree(several, tmp_path / "other"))
    metadata = read_metadata(path)
    with zipfile.ZipFile(path) as archive:
        start = min(info.header_offset for info in archive.infolist())
    made(other).write_bytes(path.read_bytes()[:start])
    embed_metadata(made(other), metadata | {"lengths": {"serving_7": 7, SIGNATURE: 12}})
    problems = {f.promise: f.problem for f in check_folder(other) if f.file == path.name}
    assert "serving_7" in problems["inputs and outputs"]


@pytest.mark.slow
def test_what_is_quantized_again_leaves_a_folder_that_holds(several, performances_file, tmp_path):
    folder = Path(shutil.copytree(several, tmp_path / "small"))
    path = made(folder, "dynamic_int8")
    golden = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    golden["clips"][0]["shorter_answers"] = {f"landmarks_{SHORT}": {path.name: {}, "other": {}}}
    (folder / "golden.json").write_text(json.dumps(golden), encoding="utf-8")
    quantize_artifact(
        made(folder),
        SCHEMES["dynamic_int8"],
        path,
        QuantizationOptions(),
        data=str(performances_file),
    )
    golden = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    for clip in golden["clips"]:
        assert path.name not in clip["answers"] and path.name not in clip["raw_answers"]
    # Those of the signatures for shorter clips as well.
    assert golden["clips"][0]["shorter_answers"] == {f"landmarks_{SHORT}": {"other": {}}}
    found = check_folder(folder)
    assert not [finding for finding in found if finding.problem]
    notes = {(finding.file, finding.note) for finding in found if finding.note}
    assert (path.name, "has none: quantized again since") in notes


# Used


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES_MADE)
def test_the_shortest_that_holds_a_clip_runs(scheme, several, monkeypatch):
    ran = []
    model = open_model(made(several, scheme))
    monkeypatch.setattr(
        model.runtime, "_opened",
        lambda frames, opened=model.runtime._opened: ran.append(frames) or opened(frames),
    )  # fmt: skip
    for frames, wanted in ((1, SHORT), (SHORT, SHORT), (SHORT + 1, None), (12, None)):
        found = model.runtime(clip_of(frames, 12))[LOGITS]
        assert ran.pop() == wanted and not ran
        by_longest = open_runtime(made(several, scheme))(clip_of(frames, 12))[LOGITS]
        limit = 1e-5 if scheme == FLOAT else 0.1 * np.abs(by_longest).max()
        np.testing.assert_allclose(found, by_longest, atol=limit)
    # Behind a hole there is still a frame.
    inputs = clip_of(12, 12)
    inputs["attention_mask"][0, 3:11] = 0
    model.runtime(inputs)
    assert ran == [None]


@pytest.mark.slow
def test_recordings_are_classified_by_it(several, performances):
    model = open_model(made(several))
    assert isinstance(model.raw, ShortestRuntime) and isinstance(model.runtime, ShortestRuntime)
    longest = dataclasses.replace(model, raw=open_runtime(made(several), RAW_SIGNATURE))
    for clip in performances.clips[:8]:
        found, wanted = model.classify(clip), longest.classify(clip)
        assert found[0][0] == wanted[0][0]
        np.testing.assert_allclose(dict(found)[wanted[0][0]], wanted[0][1], atol=1e-5)


@pytest.mark.slow
def test_the_pages_program_takes_the_shortest_too(several, config, reference):
    page = (REPOSITORY / "docs" / "deployment.md").read_text(encoding="utf-8")
    program = {"__name__": "recognize"}
    exec(page.split("```python\n")[1].split("```")[0], program)
    golden = json.loads((several / "golden.json").read_text(encoding="utf-8"))
    recognizer = program["Recognizer"](made(several))
    ran = []
    recognizer.runners = {
        name: lambda name=name, run=run, **given: ran.append(name) or run(**given)
        for name, run in recognizer.runners.items()
    }
    points = np.array(golden["clips"][0]["landmarks"], np.float32)[:SHORT]
    # golden.json has what the signature says where it holds the clip, as a length of 12 would.
    raw = RawSignature(config, 256).at(config_at(config, SHORT))
    shorter = {SHORT: Evidence(reference, (), (), "", {}, raw=raw, frames=SHORT)}
    evidence = Evidence(reference, (), (), "", {}, shorter=shorter)
    path = made(several)
    (answer,) = _shorter_answers(points, [path], evidence, "abcde")["shorter_answers"].values()
    logits = recognizer.outputs(points)["logits"][0]
    np.testing.assert_allclose(logits, answer[path.name]["logits"], atol=1e-5)
    assert ran.pop() == f"landmarks_{SHORT}"
    longer = np.resize(points, (SHORT + 1, *points.shape[1:]))
    assert _shorter_answers(longer, [path], evidence, "abcde") == {}
    for frames, name in ((SHORT, f"landmarks_{SHORT}"), (SHORT + 1, RAW_SIGNATURE)):
        recognizer.top(np.resize(points, (frames, *points.shape[1:])))
        assert ran.pop() == name


@pytest.mark.slow
def test_the_benchmark_compares_all_that_hold_the_clip(several, converted, capsys):
    from benchmarks.lengths import main

    assert main([str(made(several)), "--frames", str(SHORT), "--rounds", "2"]) == 0
    said = capsys.readouterr().out
    assert [said.count(f"by {name}:") for name in SIGNATURES] == [1, 1, 1, 1]
    assert main([str(made(several)), "--frames", str(SHORT + 1), "--rounds", "2"]) == 0
    assert capsys.readouterr().out.count(" frames by ") == 2
    with pytest.raises(BridgeError, match=r"no further frames .* convert with --lengths"):
        main([str(converted.artifact), "--frames", "3"])


# Refused


@pytest.mark.parametrize(
    ("lengths", "complaint"),
    [
        ([0], "0 is not from 1 to 12"),
        ([-3], "-3 is not from 1 to 12"),
        ([13], "13 is not from 1 to 12, the model's data.max_frames"),
        ([5, 12, 5], "5 is there twice"),
    ],
)
def test_lengths_that_cannot_be_are_refused(config, lengths, complaint):
    with pytest.raises(BridgeError, match=complaint):
        check_lengths(lengths, config, open_length=True)


def test_a_model_that_sees_one_length_alone_has_no_shorter_ones(config):
    data = dataclasses.replace(config.data, resample="linear")
    linear = dataclasses.replace(config, data=data)
    with pytest.raises(BridgeError, match=r"data\.resample is linear.*leave the option out"):
        check_lengths([5], linear, open_length=True)
    with pytest.raises(BridgeError, match="its kind takes one length alone"):
        check_lengths([5], config, open_length=False)
    assert check_lengths([], linear, open_length=False) == []
    assert check_lengths([12, 7, 5], config, open_length=True) == [5, 7]


@pytest.mark.parametrize("text", ["", "5,", "five", "5;7", "5.5"])
def test_what_is_no_list_of_numbers_is_refused(text, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--checkpoint", "x", "--output", "y", "--lengths", text])
    assert ended.value.code == 2
    assert "separated by commas, such as 32,64" in capsys.readouterr().err


@pytest.mark.parametrize(
    "said",
    [[5, 12], {}, {"serving_5": 5}, {"serving_5": 6, SIGNATURE: 12}, {SIGNATURE: "12"},
     {"serving_0": 0, SIGNATURE: 12}, {"serving_13": 13, SIGNATURE: 12}, 7],
    ids=str,
)  # fmt: skip
def test_lengths_of_a_strange_file_are_refused(said):
    with pytest.raises(ArtifactError, match=r"odd\.tflite: lengths of its metadata"):
        carried_lengths({"lengths": said}, "odd.tflite")

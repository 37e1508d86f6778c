"""``bridge/export_models.py``: two models trained here, exported, or refused.

Trained on real recordings where there are any, else on synthetic signs; never random.
"""

import contextlib
import dataclasses
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from bridge.artifact.runtimes import TorchRuntime, open_runtime
from bridge.conversion import published as published_models
from bridge.conversion.evidence import QuantizationOptions
from bridge.conversion.pipeline import convert
from bridge.conversion.published import RESULTS, export_models
from bridge.errors import BridgeError
from bridge.export_models import main
from bridge.quantization.schemes import select_schemes
from bridge.routes import ROUTES, Route
from bridge.verification.compare import compare
from bridge.verification.limits import Limits
from bridge.verification.sequences import LENGTHS, UnmaskedTorch, make_sequences
from bridge.verification.verdict import WRONG
from bridge.weights.source import read_published_source
from signbart.artifacts.metadata import read_metadata
from signbart.configuration.reading import from_dict
from signbart.engines import ENGINES, Engine
from signbart.errors import ArtifactError, SignBartError
from signbart.landmarks.layouts import get_layout
from signbart.models import MODEL_KINDS, io_spec, kind_of
from signbart.models.io_spec import ATTENTION_MASK, KEYPOINTS
from signbart.preprocessing import model_inputs
from signbart.recordings.clip import ClipSet
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips
from signbart.synthetic.signs import make_clips
from signbart_runtime.describe import main as describe_command
from signbart_runtime.evaluation.opened import open_model
from signbart_torch.models.mediapipe_gru.model import MediapipeGru
from signbart_torch.models.sign_transformer.model import SignTransformer
from signbart_torch.training.checkpoint import load_checkpoint
from signbart_torch.training.learner import train

REPOSITORY = Path(__file__).resolve().parents[2]
KINDS = ("sign_transformer", "mediapipe_gru")
LIMITS = Limits(atol=1e-4, rtol=0.0)
FILES = {
    f"{kind}{ending}" for kind in KINDS for ending in ("_fp16.tflite", "_fp32.tflite", ".onnx")
}
SIZES = {
    "sign_transformer": {"d_model": 96, "encoder_layers": 3, "attention_heads": 4, "ffn_dim": 120},
    "mediapipe_gru": {"hidden1": 72, "hidden2": 40},
}
# Smaller than SIZES, and untrained: for what is refused before anything is exported.
SMALL = {
    "Transformer.pt": lambda: SignTransformer(
        MODEL_KINDS["sign_transformer"].config(d_model=16, encoder_layers=1, ffn_dim=20)
    ),
    "GRU.pt": lambda: MediapipeGru(MODEL_KINDS["mediapipe_gru"].config(hidden1=12, hidden2=10)),
}


@pytest.fixture(scope="module")
def clips(request) -> ClipSet:
    try:
        return read_clips(request.getfixturevalue("fsl7_holistic"))
    except pytest.skip.Exception:
        made = make_clips(num_classes=7, num_signers=4, repetitions=6, seed=2)
        named = dataclasses.replace(made, landmark_names=get_layout("kp90").names)
        return named.to_layout(get_layout("kp89"))


@pytest.fixture(scope="module")
def trained(clips, tmp_path_factory) -> dict[str, Path]:
    """A checkpoint a kind, of models that learnt classes and categories."""
    folder = tmp_path_factory.mktemp("published_runs")
    groups = {name: f"group {at % 3}" for at, name in enumerate(clips.class_names)}
    paths = {}
    for kind in KINDS:
        config = from_dict(
            {
                "name": kind,
                "model": {"kind": kind, **SIZES[kind], "num_categories": 3},
                "data": {
                    "layout": "kp89", "max_frames": 300, "normalization": "bbox_ignore_missing",
                    "categories": groups,
                },
                "train": {"epochs": 12, "batch_size": 16, "lr": 2e-3, "warmup_epochs": 1},
            },
            source="tests",
        )  # fmt: skip
        results = train(clips, config, folder / kind, device="cpu")
        if clips.class_names[0] == "comein":
            # Seven classes and three categories: chance is 14 and 33.
            assert results["val"]["accuracy"] > 60 and results["val"]["category_accuracy"] > 60
        paths[kind] = folder / kind / "best.safetensors"
    return paths


@pytest.fixture(scope="module")
def published(trained, tmp_path_factory) -> Path:
    """A folder with both models as other people save theirs."""
    folder = tmp_path_factory.mktemp("published")
    tensors = load_checkpoint(trained["sign_transformer"]).tensors
    torch.save({"model_state_dict": tensors, "epoch": 12}, folder / "Transformer.pt")
    tensors = load_checkpoint(trained["mediapipe_gru"]).tensors
    torch.save({f"module.{name}": t for name, t in tensors.items()}, folder / "GRU.pt")
    return folder


@pytest.fixture(scope="module")
def exported(published, command) -> tuple[Path, str]:
    """What the bare command leaves in the current folder, and what it says."""
    with contextlib.chdir(published):
        ended = command(main, "--attention-heads", "4")
    assert ended.status == 0, ended.output + ended.errors
    return published / "exports", ended.output


@pytest.fixture(scope="module")
def made(exported) -> dict[tuple[str, str], bytes]:
    """(kind, ending) -> that file, without the metadata that were appended to a .tflite."""
    folder, _ = exported
    return {
        (kind, ending): content
        for kind in KINDS
        for ending, content in (
            (".tflite", unzipped(folder / f"{kind}_fp32.tflite")),
            (".onnx", (folder / f"{kind}.onnx").read_bytes()),
        )
    }


@pytest.fixture
def export_of(monkeypatch):
    """`export_of(files)`: routes write those, by kind and ending, and convert nothing.

    They have the first signature alone.
    """

    def patch(files: dict[tuple[str, str], bytes]) -> None:
        def export(self, model, spec, paths, raw):
            for ending, path in paths.items():
                path.write_bytes(files[kind_of(model.config).name, ending])

        monkeypatch.setattr(Route, "export", export)
        monkeypatch.setattr(published_models, "raw_signature", lambda source, frames: None)

    return patch


def unzipped(path: Path) -> bytes:
    """A .tflite without the metadata behind it."""
    with zipfile.ZipFile(path) as archive:
        start = min(info.header_offset for info in archive.infolist())
    return path.read_bytes()[:start]


# What comes out


@pytest.mark.slow
def test_the_bare_command_exports_what_lies_in_the_folder(exported):
    folder, printed = exported
    assert {path.name for path in folder.iterdir()} == FILES | {"export_results.json", "export.log"}
    assert "10 categories" not in printed and "3 categories, 4 heads, mean pooling, from" in printed
    assert "skipped" not in printed and printed.count("pass") >= 2 * len(FILES)
    results = json.loads((folder / "export_results.json").read_text(encoding="utf-8"))
    assert set(results["models"]) == set(KINDS) and results["skipped"] == {}
    assert {"torch", "onnx", "tensorflow", "ai-edge-litert"} <= set(results["versions"])
    for kind, model in results["models"].items():
        assert model["verdict"] == "pass" and model["seconds"] > 0
        assert SIZES[kind].items() <= model["sizes"].items()
        assert {Path(entry["path"]).name for entry in model["artifacts"]} <= FILES
        for entry in model["artifacts"]:
            path = folder.parent / entry["path"]
            assert path.name.startswith(kind) and path.stat().st_size == entry["bytes"]
            half = entry["scheme"] == "fp16"
            assert entry["cosine_similarity"] > (0.999 if half else 0.9999)
            assert entry["max_difference"] <= (0.01 if half else 1e-4)
            # Three lengths, with a mask and without, random and real; one batch more for .onnx.
            assert entry["sequences"] >= 12
            assert set(entry["outputs"]) == {"gloss", "category"}
            assert all(output["passed"] for output in entry["outputs"].values())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FILES))
def test_artifacts_name_both_outputs_and_say_what_they_do_not_know(exported, capsys, name):
    runtime = open_runtime(exported[0] / name)
    assert {tensor.name for tensor in runtime.spec.inputs} == {KEYPOINTS, ATTENTION_MASK}
    assert {t.name: t.shape[1] for t in runtime.spec.outputs} == {"gloss": 7, "category": 3}
    assert runtime.spec.inputs[0].shape[0] == (None if name.endswith(".onnx") else 1)
    metadata = read_metadata(exported[0] / name)
    assert metadata["labels"] == list("0123456") and metadata["preprocessing"] is None
    assert metadata["config"] == {"model": metadata["config"]["model"]}
    assert describe_command([str(exported[0] / name)]) == 0
    printed = capsys.readouterr().out
    assert "preprocessing: not known" in printed and "beyond a plain runtime: none" in printed
    with pytest.raises(ArtifactError, match=f"{name} does not say how recordings are prepared"):
        open_model(exported[0] / name)


@pytest.mark.slow
def test_the_gru_is_not_unrolled(exported):
    results = json.loads((exported[0] / "export_results.json").read_text(encoding="utf-8"))
    for entry in results["models"]["mediapipe_gru"]["artifacts"]:
        assert sum(entry["operators"].values()) < 120
        # Otherwise the count would say nothing: one loop, or one operator.
        loops = {"WHILE", "GRU"} & set(entry["operators"])
        assert loops, entry["path"]


@pytest.mark.slow
def test_an_onnx_takes_any_batch_and_length(exported, published):
    for kind in KINDS:
        file = MODEL_KINDS[kind].published.file
        source = read_published_source(kind, published / file, attention_heads=4)
        runtime = open_runtime(exported[0] / f"{kind}.onnx")
        rng = np.random.default_rng(1)
        for batch, frames in ((1, 1), (3, 17), (2, 299)):
            keypoints = rng.random((batch, frames, 178), np.float32)
            mask = (rng.random((batch, frames)) < 0.7).astype(np.int32)
            mask[:, 0] = 1
            with torch.inference_mode():
                wanted = source.model(torch.from_numpy(keypoints), torch.from_numpy(mask))
            found = runtime({KEYPOINTS: keypoints, ATTENTION_MASK: mask})
            for name in ("gloss", "category"):
                np.testing.assert_allclose(found[name], wanted[name].numpy(), atol=1e-4)


@pytest.mark.slow
def test_what_was_trained_here_is_exported_with_all_that_is_known_of_it(
    trained, made, export_of, clips, tmp_path
):
    """The models of the bare command, from checkpoints that say more, compared on recordings."""
    export_of(made)
    sources = [read_published_source(kind, path) for kind, path in trained.items()]
    data = tmp_path / "clips.npz"
    write_packed(clips, data)
    of_kind = export_models(
        sources, tmp_path, schemes=select_schemes(["fp32,fp16"]), route="keras", data=str(data)
    )
    artifacts = [artifact for of_model in of_kind.values() for artifact in of_model]
    assert {artifact.parity.artifact for artifact in artifacts} == FILES
    for artifact in artifacts:
        assert artifact.parity.passed, artifact.parity.reason
        assert artifact.path.parent == tmp_path
    metadata = read_metadata(tmp_path / "mediapipe_gru_fp16.tflite")
    assert metadata["preprocessing"]["layout"] == "kp89" and metadata["route"] == "keras"
    assert metadata["labels"] == list(clips.class_names)
    assert metadata["categories"] == ["group 0", "group 1", "group 2"]
    right = 0
    runtime = open_runtime(tmp_path / "sign_transformer_fp16.tflite")
    for sample, label in recorded_samples(sources[0].config, clips):
        right += int(runtime(sample)["gloss"].argmax()) == label
    # 21 clips, most of them trained on; three right would be chance.
    assert right >= (14 if clips.class_names[0] == "comein" else 5)


def recorded_samples(config, clips):
    """Every eighth of the first 168 clips as a model's input, and its class."""
    chosen = clips.select(range(0, 168, 8))
    keypoints, mask = model_inputs(chosen, config)
    for at, label in enumerate(chosen.labels):
        yield {KEYPOINTS: keypoints[at : at + 1], ATTENTION_MASK: mask[at : at + 1]}, int(label)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["gloss_head", "category_head"])
def test_what_disagrees_is_rejected(trained, made, export_of, tmp_path, capsys, head):
    """One number of one head's bias is off in the .tflite: the other output still agrees."""
    bias = load_checkpoint(trained["mediapipe_gru"]).tensors[f"{head}.bias"].numpy()
    file = "mediapipe_gru", ".tflite"
    assert made[file].count(bias.tobytes()) == 1
    other = bias.copy()
    other[0] += 0.01
    export_of(made | {file: made[file].replace(bias.tobytes(), other.tobytes())})
    output = tmp_path / "exports"
    arguments = ["--gru", str(trained["mediapipe_gru"]), "--output-dir", str(output)]
    assert main([*arguments, "--route", "keras"]) == 1
    assert {path.name for path in output.glob("*.*")} == {
        "mediapipe_gru.onnx", "mediapipe_gru_golden.json", "export_results.json", "export.log"
    }  # fmt: skip
    assert {path.name for path in (output / "rejected").iterdir()} == {
        "mediapipe_gru_fp32.tflite", "repro_mediapipe_gru_fp32.tflite.npz"
    }  # fmt: skip
    complaint = capsys.readouterr().err
    name = head.removesuffix("_head")
    assert f"worst {name}[0]" in complaint and "off by 0.01" in complaint
    model = json.loads((output / "export_results.json").read_text())["models"]["mediapipe_gru"]
    assert model["verdict"] == WRONG
    entry = next(e for e in model["artifacts"] if e["scheme"] == "fp32" and e["route"] == "keras")
    assert not entry["outputs"][name]["passed"]
    assert sum(output["passed"] for output in entry["outputs"].values()) == 1


@pytest.mark.slow
def test_a_failing_converter_leaves_no_file_and_one_line(trained, tmp_path, monkeypatch, capsys):
    def broken(self, model, spec, paths, raw):
        paths[".tflite" if ".tflite" in paths else ".onnx"].write_bytes(b"half a file")
        raise BridgeError("route 'keras' failed: operator\n  aten::exotic has no lowering")

    output = tmp_path / "exports"
    arguments = ["--gru", str(trained["mediapipe_gru"]), "--output-dir", str(output)]
    arguments += ["--raw-frames", "0"]
    monkeypatch.setattr(type(ROUTES["keras"]), "export", broken)
    assert main(arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all("aten::exotic has no lowering" in line for line in lines)
    assert [path.name for path in output.rglob("*.tflite")] == []
    assert [path.name for path in output.rglob("*.onnx")] == []
    assert list(output.glob(".*")) == []


@pytest.mark.slow
def test_no_verify_and_one_scheme(trained, tmp_path, capsys):
    assert main(["--gru", str(trained["mediapipe_gru"]), "--output-dir", str(tmp_path),
                 "--no-verify", "--quantize", "fp16", "--sequence-length", "20"]) == 0  # fmt: skip
    assert {path.suffix for path in tmp_path.iterdir()} == {".tflite", ".onnx", ".json", ".log"}
    assert not (tmp_path / "mediapipe_gru_fp32.tflite").exists()
    runtime = open_runtime(tmp_path / "mediapipe_gru_fp16.tflite")
    assert {t.name: t.shape for t in runtime.spec.inputs}[KEYPOINTS] == (1, 20, 178)
    results = json.loads((tmp_path / "export_results.json").read_text())
    assert (
        results["verified"] is False and "Transformer.pt" in results["skipped"]["sign_transformer"]
    )
    assert results["models"]["mediapipe_gru"]["verdict"] == "not verified"
    assert "skipped sign_transformer: no Transformer.pt" in capsys.readouterr().out


@pytest.mark.slow
def test_convert_takes_what_was_trained_here_and_judges_both_outputs(
    trained, made, export_of, clips, tmp_path
):
    export_of(made)
    data = tmp_path / "clips.npz"
    write_packed(clips, data)
    conversions = convert(
        trained["mediapipe_gru"],
        tmp_path / "out",
        routes=["keras"],
        quantization=QuantizationOptions(schemes=["fp32,fp16,dynamic_int8"]),
        data=str(data),
        raw_frames=0,
    )
    assert [one.scheme for one in conversions] == ["fp32", "fp16", "dynamic_int8"]
    for conversion in conversions:
        assert conversion.parity.passed, conversion.parity.reason
        assert set(conversion.parity.outputs) == {"gloss", "category"}
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "MediaPipe GRU" in card and "The highest of `gloss` is the class" in card
    assert "Categories: group 0, group 1, group 2" in card


# What it is compared on


def test_sequences_of_every_length_with_a_mask_and_without():
    source = from_dict(
        {"model": {"kind": "mediapipe_gru", "num_labels": 7},
         "data": {"layout": "kp89", "max_frames": 300, "normalization": "bbox_ignore_missing"}},
        source="tests",
    )  # fmt: skip
    fixed, any_length = make_sequences(source)
    lengths = [
        (int(s.inputs[ATTENTION_MASK].sum()), s.inputs[KEYPOINTS].shape[1], s.recorded)
        for s in fixed
    ]
    for length in LENGTHS:
        for recorded in (True, False):
            assert (length, 300, recorded) in lengths
    assert lengths.count((300, 300, True)) == 4  # 300 frames with a mask, and all without one
    masked = fixed[0].inputs
    assert masked[ATTENTION_MASK].sum() == 1
    assert not np.isfinite(masked[KEYPOINTS][0, 1:]).any()
    assert {s.inputs[KEYPOINTS].shape[1] for s in any_length} == {1, 30, 300}
    assert any_length[-1].inputs[KEYPOINTS].shape == (6, 300, 178)
    assert {s.recorded for s in fixed} == {True, False}
    holes = fixed[-1].inputs
    assert any_length[-2].inputs is holes
    present = holes[ATTENTION_MASK][0]
    assert 100 < present.sum() < 250 and not present[0] and not present[-1]
    assert (np.isfinite(holes[KEYPOINTS][0]).all(axis=1) == present).all()
    # Other landmarks than any known layout's still move a little a frame.
    other = dataclasses.replace(source, model=dataclasses.replace(source.model, num_features=134))
    walk = next(
        s for s in make_sequences(other)[0] if s.recorded and s.inputs[ATTENTION_MASK].all()
    )
    assert walk.inputs[KEYPOINTS].shape == (1, 300, 134) and "walk" in walk.description


def test_a_mask_taken_for_a_number_of_frames_is_found():
    """The control of the mask with holes: every other sequence has its frames in front."""
    torch.manual_seed(0)
    config = from_dict(
        {"model": {"kind": "mediapipe_gru", "num_labels": 7, "hidden1": 8, "hidden2": 6},
         "data": {"layout": "kp89", "max_frames": 31}},
        source="tests",
    )  # fmt: skip
    model = MediapipeGru(config.model).eval()

    class Counting(TorchRuntime):
        def __call__(self, inputs):
            mask = inputs[ATTENTION_MASK]
            counted = np.arange(mask.shape[1]) < mask.sum(axis=1, keepdims=True)
            keypoints = np.where(mask[..., None] > 0, inputs[KEYPOINTS], np.float32(0))
            return super().__call__({KEYPOINTS: keypoints, ATTENTION_MASK: counted.astype("int32")})

    for samples in make_sequences(config):
        found = [
            sample.description
            for sample in samples
            if not compare(
                UnmaskedTorch(model, config), Counting(model, config), [sample], LIMITS
            ).passed
        ]
        assert len(found) == 1 and "with holes" in found[0]


def test_without_a_mask_the_reference_is_given_none():
    config = from_dict(
        {"model": {"kind": "mediapipe_gru", "num_labels": 7, "hidden1": 8, "hidden2": 6},
         "data": {"layout": "kp89", "max_frames": 9}},
        source="tests",
    )  # fmt: skip
    given = []

    class Spy(MediapipeGru):
        def forward(self, keypoints, attention_mask=None):
            given.append(attention_mask)
            return super().forward(keypoints, attention_mask)

    runtime = UnmaskedTorch(Spy(config.model), config)
    keypoints = np.zeros((1, 9, 178), np.float32)
    for frames in (9, 4):
        mask = (np.arange(9) < frames).astype(np.int32)[None]
        assert set(runtime({KEYPOINTS: keypoints, ATTENTION_MASK: mask})) == {"gloss", "category"}
    assert given[0] is None and int(given[1].sum()) == 4


# What is refused: one line, and nothing is written


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The current folder, with two small models in it."""
    torch.manual_seed(0)
    for name, build in SMALL.items():
        torch.save(build().state_dict(), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(*arguments: str) -> str:
    with pytest.raises(SignBartError) as raised:
        main(list(arguments))
    assert not Path("exports").exists()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_nothing_to_export(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refusal()
    assert "neither Transformer.pt nor GRU.pt in" in message and "--gru FILE" in message


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["--gru", "absent.pt"], ["--gru absent.pt: no such file"]),
        (["--transformer", "GRU.pt"], ["GRU.pt is not a SignTransformer", "missing: cls_token",
                                       "unexpected: gru1."]),
        (["--gru", "Transformer.pt"], ["Transformer.pt is not a MediapipeGru", "missing: gru1."]),
        (["--sequence-length", "301"], ["positions for 300 frames, and not for 301",
                                        "--sequence-length 300"]),
        (["--input-shape", "1,300,150"], ["178 features, and not 150: correct --input-shape"]),
        (["--input-shape", "1,30,178", "--sequence-length", "31"], ["give one of them"]),
        (["--classes", "104"], ["105 classes, and not 104: correct --classes"]),
        (["--attention-heads", "3"], ["3 attention heads do not divide"]),
        (["--quantize", "fp32,int8"], ["calibrated on recordings", "give --calibration-data"]),
        (["--quantize", "fp17"], ["no quantization scheme 'fp17'"]),
        (["--route", "tflite"], ["unknown route 'tflite'; known: litert"]),
        (["--raw-frames", "128"], ["Transformer.pt: it does not say how recordings were prepared",
                                   "leave out --raw-frames 128, or give 0"]),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(folder, arguments, texts):
    message = refusal(*arguments)
    assert all(text in message for text in texts), message


def test_without_preprocessing_a_note_says_what_the_files_lack(folder, capsys):
    source = read_published_source("mediapipe_gru", folder / "GRU.pt")
    assert published_models.raw_signature(source, None) is None
    said = capsys.readouterr().err
    assert said.startswith(f"note: {folder / 'GRU.pt'}: ") and "signature 'landmarks'" in said
    assert published_models.raw_signature(source, 0) is None
    assert capsys.readouterr().err == "", "nobody wants it"


def test_positions_are_computed_for_as_many_frames_as_are_asked_for(folder):
    """Where the file stores none, and a class token takes one too."""
    state = torch.load("Transformer.pt")
    del state["pos_encoder.pe"]
    torch.save(state, "Transformer.pt")
    for pooling in ("cls", "mean"):
        for asked, longest in ((300, 300), (30, 300), (301, 301)):
            source = read_published_source(
                "sign_transformer", Path("Transformer.pt"), sequence_length=asked, pooling=pooling
            )
            assert source.config.data.max_frames == asked
            assert source.config.model.longest == longest


@pytest.mark.parametrize("kind", KINDS)
def test_an_onnx_takes_any_length_even_beside_a_tflite_of_one_frame(folder, kind):
    source = read_published_source(
        kind, folder / MODEL_KINDS[kind].published.file, sequence_length=1
    )
    path = folder / "one.onnx"
    ROUTES["onnx"].export(source.model, io_spec(source.config), {".onnx": path})
    runtime = open_runtime(path)
    assert {t.name: t.shape for t in runtime.spec.inputs}[KEYPOINTS] == (None, None, 178)
    reference = TorchRuntime(source.model, source.config)
    for frames in (1, 5):
        inputs = {
            KEYPOINTS: np.ones((3, frames, 178), np.float32),
            ATTENTION_MASK: np.ones((3, frames), np.int32),
        }
        wanted = reference(inputs)
        for name, scores in runtime(inputs).items():
            np.testing.assert_allclose(scores, wanted[name], atol=1e-5)


def test_what_a_checkpoint_trained_here_knows_better_is_refused(trained):
    for option, text in (
        ({"pooling": "max"}, "has mean pooling, and not max: correct --pooling"),
        ({"attention_heads": 8}, "has 4 heads, and not 8: correct --attention-heads"),
    ):
        with pytest.raises(SignBartError, match=text):
            read_published_source("sign_transformer", trained["sign_transformer"], **option)
        read_published_source("mediapipe_gru", trained["mediapipe_gru"], **option)  # has neither


def test_a_corrupt_file_is_refused(folder):
    whole = (folder / "GRU.pt").read_bytes()
    (folder / "GRU.pt").write_bytes(whole[: len(whole) // 2])
    assert "GRU.pt is cut" in refusal()


def test_a_whole_module_is_read(folder):
    torch.save(SMALL["GRU.pt"](), folder / "GRU.pt")
    source = read_published_source("mediapipe_gru", folder / "GRU.pt")
    assert source.config.model.hidden1 == 12


def test_a_checkpoint_of_another_kind_is_named(checkpoint):
    with pytest.raises(SignBartError, match="holds a model 'signbart', and not a 'mediapipe_gru'"):
        read_published_source("mediapipe_gru", checkpoint)


def test_an_error_is_one_line_and_exit_status_2(tmp_path):
    process = subprocess.run(
        [sys.executable, REPOSITORY / "bridge" / "export_models.py", "--gru", "absent.pt"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert process.returncode == 2 and process.stdout == ""
    assert process.stderr == "error: --gru absent.pt: no such file; correct the path\n"
    assert list(tmp_path.iterdir()) == []


def test_left_overs_and_another_checkpoints_files_go(folder, monkeypatch, left_over):
    """Without a converter: its place takes one that fails."""
    output = folder / "exports"
    output.mkdir()
    left_over(output, "Transformer.pt")
    (output / "mediapipe_gru_fp32.tflite").write_bytes(b"an earlier run's")

    def broken(self, model, spec, paths):
        raise BridgeError("no converter here")

    monkeypatch.setattr(type(ROUTES["keras"]), "export", broken)
    assert main(["--gru", "GRU.pt", "--transformer", "Transformer.pt"]) == 1
    assert not list(output.glob(".*"))
    # Beside results that say "failed" it would be taken for this checkpoint's.
    assert (output / "rejected" / "mediapipe_gru_fp32.tflite").is_file()
    assert not (output / "mediapipe_gru_fp32.tflite").exists()
    assert RESULTS in {path.name for path in output.iterdir()}


def test_all_models_routes_are_one_engines_tasks(folder, monkeypatch):
    """Of one that copies them, and what comes of them, as for other processes and machines."""
    batches = []

    def run(batch):
        batches.append(set(batch.names))
        for at, task in enumerate(batch.tasks):
            yield at, pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(task))()))

    def broken(self, *_):
        os.write(1, f"{self.name} says\n".encode())
        raise BridgeError(f"no {self.name} here")

    monkeypatch.setitem(ENGINES, "copying", Engine("copying", "copies", run))
    monkeypatch.setattr(type(ROUTES["keras"]), "export", broken)
    assert main(["--engine", "copying", "--jobs", "2"]) == 1
    (names,) = batches
    assert len(names) == 4
    results = json.loads(Path("exports", RESULTS).read_text(encoding="utf-8"))
    for kind, model in results["models"].items():
        reasons = {entry["route"]: entry["reason"] for entry in model["artifacts"]}
        assert all(f"no {route} here" in reasons[route] for route in reasons)
        assert {f"route {kind} by {route}" for route in reasons} <= names
    said = Path("exports", "export.log").read_text(encoding="utf-8")
    assert [said.count(f"{route} says") for route in ("litert", "keras", "onnx")] == [1, 1, 2]

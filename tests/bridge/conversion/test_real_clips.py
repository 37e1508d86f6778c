"""Trained weights and real clips: every runtime says the same, and artifacts explain themselves."""

import json
from pathlib import Path

import numpy as np
import pytest

from bridge.artifact.runtimes import KerasRuntime, TorchRuntime, open_runtime
from bridge.convert import main as convert_command
from bridge.verification.compare import compare
from bridge.verification.limits import load_limits
from bridge.verification.samples import make_samples
from bridge.weights.port import build_twin
from signbart.artifacts.metadata import read_metadata
from signbart.configuration.reading import from_dict
from signbart.landmarks.layouts import get_layout
from signbart.preprocessing import pad, preprocess
from signbart.recordings.reading import read_clips
from signbart_runtime.describe import main as describe_command
from signbart_torch.training.checkpoint import load_model
from signbart_torch.training.learner import train

TOLERANCE = load_limits("fp32")
FILES = ("real_litert_fp32.tflite", "real_onnx_fp32.tflite", "real_keras_fp32.tflite", "real.onnx")


@pytest.fixture(scope="module")
def trained(fsl7_holistic, tmp_path_factory) -> Path:
    """A model that learnt the seven phrases; d_model, heads, layers, T and K all differ."""
    config = from_dict(
        {
            "name": "real",
            "model": {
                "d_model": 48, "encoder_layers": 1, "decoder_layers": 2,
                "encoder_attention_heads": 4, "decoder_attention_heads": 6,
                "encoder_ffn_dim": 40, "decoder_ffn_dim": 56, "max_position_embeddings": 40,
            },
            "data": {"layout": "kp90", "max_frames": 20, "normalization": "bbox_ignore_missing"},
            "train": {"epochs": 12, "batch_size": 16, "lr": 3e-3, "warmup_epochs": 1},
        },
        source="tests",
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("runs") / "real"
    results = train(read_clips(fsl7_holistic), config, folder, device="cpu")
    # Seven classes: a model that learnt nothing is right in one of seven.
    assert results["val"]["accuracy"] > 60
    return folder / "best.safetensors"


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory, command) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "real"
    # Without the signature that takes raw landmarks, which tests of its own have.
    options = ["--route", "all", "--jobs", "1", "--raw-frames", "0", "--output", folder]
    ended = command(convert_command, "--checkpoint", trained, *options)
    assert ended.status == 0, ended.output + ended.errors
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FILES, "keras"])
def test_every_runtime_agrees_on_real_clips(exported, trained, fsl7_holistic, name):
    model, config, _ = load_model(trained)
    samples = make_samples(config, clips=read_clips(fsl7_holistic), samples=8, seed=3)
    assert sum(sample.recorded for sample in samples) == 24
    candidate = (
        KerasRuntime(build_twin(model), config)
        if name == "keras"
        else open_runtime(exported / name)
    )
    result = compare(TorchRuntime(model, config), candidate, samples, TOLERANCE)
    assert result.passed, result.reason


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_real_clip_is_classified_from_the_artifact_alone(exported, fsl7_holistic, name):
    metadata = read_metadata(exported / name)
    config = from_dict(metadata["config"], source=name)
    model = open_runtime(exported / name)
    clips = read_clips(fsl7_holistic).to_layout(get_layout(config.data.layout))
    right = 0
    for index in range(0, len(clips), 8):
        clip = clips.clips[index]
        keypoints, mask = pad([preprocess(clip.landmarks, config)], config.data.max_frames)
        logits = model({"keypoints": keypoints, "attention_mask": mask})["logits"]
        right += metadata["labels"][int(np.argmax(logits))] == clips.class_names[clip.label]
    # 21 clips, most of them trained on; three right would be chance.
    assert right >= 14


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_an_artifact_is_described(exported, capsys, name):
    assert describe_command([str(exported / name)]) == 0
    printed = capsys.readouterr().out
    for text in ("keypoints float32", "attention_mask int32", "serving_default", "comein", "kp90",
                 "beyond a plain runtime: none"):  # fmt: skip
        assert text in printed
    assert describe_command([str(exported / name), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metadata"]["labels"][0] == "comein" and found["foreign_operators"] == []


@pytest.mark.slow
def test_the_model_card_has_front_matter(exported):
    card = (exported / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.startswith("---\n") and card.count("\n---\n") == 1

"""Models with several outputs: every one is compared, and the verdict is the worst of them."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from bridge.verification.clips import JudgedClips, compare_on_clips
from bridge.verification.compare import compare
from bridge.verification.computed import reference_layers
from bridge.verification.divergence import first_divergence
from bridge.verification.limits import Limits
from bridge.verification.report import parity_json
from bridge.verification.samples import Sample
from bridge.verification.verdict import FAILED, PASS, WRONG, Verdict
from signbart.models.io_spec import ATTENTION_MASK, KEYPOINTS, TensorSpec
from signbart.models.sign_transformer import SignTransformerConfig, classifier_spec
from signbart_torch.models.sign_transformer.model import SignTransformer

CONFIG = SignTransformerConfig(
    num_features=6, num_labels=5, num_categories=3, max_frames=9, d_model=8, encoder_layers=2,
    attention_heads=4, ffn_dim=12,
)  # fmt: skip
SPEC = classifier_spec(CONFIG, 1, 9)
SAMPLES = [
    Sample({ATTENTION_MASK: np.array([[frames]])}, f"{frames} frames") for frames in (2, 3, 7)
]
GLOSS = np.array([[0.0, 1.0, 2.0, 3.0, 4.0]], np.float32)
CATEGORY = np.array([[2.0, 1.0, 0.0]], np.float32)


class Fake:
    """A runtime whose outputs depend on the number of frames, and are off by `errors`."""

    def __init__(self, name="c.tflite", spec=SPEC, **errors):
        self.name, self.spec, self.errors = name, spec, errors

    def __call__(self, inputs):
        frames = np.float32(inputs[ATTENTION_MASK].max())
        outputs = {"gloss": GLOSS * frames, "category": CATEGORY * frames}
        for name, error in self.errors.items():
            outputs[name] = outputs[name] + np.float32(error)
        return outputs


def compared(**errors) -> Verdict:
    return compare(Fake("torch"), Fake(**errors), SAMPLES, Limits(atol=1e-4, rtol=0.0))


def test_outputs_that_all_agree_pass():
    result = compared(category=5e-5)
    assert result.verdict == PASS and result.reason == "" and result.samples == 3
    assert result.outputs["gloss"]["max_abs"] == 0.0
    assert result.max_abs == result.outputs["category"]["max_abs"] == pytest.approx(5e-5, rel=0.1)
    assert result.errors.shape == (3, 5 + 3)


@pytest.mark.parametrize("wrong", ["gloss", "category"])
def test_one_output_that_disagrees_is_enough(wrong):
    result = compared(**{wrong: 0.25})
    assert result.verdict == WRONG
    assert f"worst {wrong}[" in result.reason and "off by 0.25" in result.reason
    right = {"gloss": "category", "category": "gloss"}[wrong]
    assert result.outputs[right]["passed"] and not result.outputs[wrong]["passed"]
    assert right not in result.reason
    assert result.max_abs == pytest.approx(0.25)


def test_both_are_named_where_both_are_wrong():
    result = compared(gloss=0.25, category=0.5)
    assert "worst gloss[" in result.reason and "worst category[" in result.reason


def test_another_highest_category_is_told_from_another_class():
    result = compared(category=np.array([[0, 0, 99]]))
    assert {entry["output"] for entry in result.disagreements} == {"category"}
    assert result.argmax_agreement == 0.0
    assert result.outputs["gloss"]["argmax_agreement"] == 1.0


def test_what_is_not_finite_comes_first():
    result = compared(gloss=0.25, category=np.array([[np.nan, 0, 0]]))
    assert result.verdict == WRONG and result.reason.startswith("3 of 3 samples give NaN")
    assert "category[0]" in result.reason and result.worst_sample == "2 frames"
    json.loads(parity_json([result], {}))


def test_an_output_that_is_missing_or_called_otherwise_fails_before_any_run():
    for outputs in (
        SPEC.outputs[:1],
        (SPEC.outputs[0], dataclasses.replace(SPEC.outputs[1], name="output_1")),
        (SPEC.outputs[0], TensorSpec("category", (1, 4), "float32")),
    ):
        spec = dataclasses.replace(SPEC, outputs=outputs)
        result = compare(Fake("torch"), Fake(spec=spec), SAMPLES, Limits(atol=1e-4, rtol=0.0))
        assert result.verdict == FAILED and "category" in result.reason


# Quantized artifacts, on clips


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [({}, PASS), ({"category": 0.5}, WRONG), ({"gloss": 0.5}, WRONG)],
    ids=["right", "category", "gloss"],
)
def test_quantized_outputs_are_all_judged(monkeypatch, tmp_path, errors, verdict):
    monkeypatch.setattr(
        "bridge.verification.clips.open_runtime", lambda path, signature: Fake(**errors)
    )
    keypoints = np.zeros((4, 9, 6), np.float32)
    mask = np.ones((4, 9), np.int32)
    labels = np.array([4, 4, 4, 0])
    clips = JudgedClips(
        keypoints, mask, labels, tuple("abcd"), np.repeat(GLOSS, 4, 0), "four clips",
        {"category": np.repeat(CATEGORY, 4, 0)},
    )  # fmt: skip
    limits = Limits(accuracy_drop=1, agreement=99, scaled_rmse=0.01)
    result = compare_on_clips(tmp_path / "a.tflite", "fp16", clips, limits)
    assert result.verdict == verdict
    assert result.accuracy == result.reference_accuracy == 75.0
    for name in errors:
        assert f"{name} are off by" in result.reason


# Where they part


@pytest.fixture(scope="module")
def network() -> SignTransformer:
    torch.manual_seed(2)
    return SignTransformer(CONFIG).eval()


@pytest.mark.parametrize(
    "altered",
    ["category_head.3", "gloss_head.0", "encoder_layers.1.feed_forward.linear1", "embedding"],
)
def test_the_first_layer_that_differs_is_found(network, altered):
    rng = np.random.default_rng(8)
    inputs = {
        KEYPOINTS: rng.normal(size=(1, 9, 6)).astype(np.float32),
        ATTENTION_MASK: np.ones((1, 9), np.int32),
    }
    right = reference_layers(network, inputs)
    outputs = ["gloss", "category"]
    assert first_divergence(right, list(right.values()), outputs) is None
    bias = network.get_submodule(altered).bias
    kept = bias.detach().clone()
    with torch.no_grad():
        bias += torch.linspace(0, 1, len(bias))  # a LayerNorm would take an equal shift away
    wrong = reference_layers(network, inputs)
    with torch.no_grad():
        bias.copy_(kept)
    assert first_divergence(right, list(wrong.values()), outputs).layer == altered

"""The judge of quantized artifacts: accuracy, agreement and error, each with a limit of its own."""

import dataclasses
import json

import numpy as np
import pytest

from bridge.artifact.runtimes import TorchRuntime
from bridge.errors import BridgeError
from bridge.verification.clips import (
    JudgedClips,
    compare_on_clips,
    judged_clips,
    predict,
)
from bridge.verification.limits import Limits
from bridge.verification.report import parity_json, parity_markdown, print_parity
from bridge.verification.verdict import FAILED, PASS, WRONG, judge
from signbart.errors import RuntimeInputError
from signbart.models import io_spec
from signbart.models.io_spec import IOSpec
from signbart.preprocessing import model_inputs
from signbart_torch.training.checkpoint import load_model

N, C = 200, 5  # a clip is half a percent
NAMES = tuple(f"clip {i}" for i in range(N))
LIMITS = Limits(accuracy_drop=1.0, agreement=97.0, scaled_rmse=0.08)


def on_clips(accuracy_drop, agreement, scaled_rmse) -> Limits:
    return Limits(accuracy_drop=accuracy_drop, agreement=agreement, scaled_rmse=scaled_rmse)


@pytest.fixture
def clips() -> JudgedClips:
    """Clips of which PyTorch gets nine in ten right, by a margin of 2 at least."""
    rng = np.random.default_rng(0)
    logits = rng.uniform(-1, 1, (N, C)).astype(np.float32)
    logits[np.arange(N), np.arange(N) % C] = 3
    labels = np.arange(N) % C
    labels[::10] = (labels[::10] + 1) % C
    empty = np.zeros((N, 1, 1, 2), np.float32), np.ones((N, 1), np.int32)
    return JudgedClips(*empty, labels, NAMES, logits, "200 clips")


def lost(clips, rows) -> np.ndarray:
    """Logits in which these clips get another class, by as little as can be."""
    found = clips.reference.copy()
    for row in rows:
        top = found[row].argmax()
        found[row, top] = np.sort(found[row])[-2] - 1e-3
    return found


def verdict_on(clips, found, limits=LIMITS):
    return judge(
        "q.tflite",
        clips.reference,
        found,
        clips.descriptions,
        limits,
        scheme="int8",
        labels=clips.labels,
    )


def test_the_same_logits_pass(clips):
    result = verdict_on(clips, clips.reference.copy(), on_clips(0, 100, 0))
    assert (result.verdict, result.reason, result.scheme) == (PASS, "", "int8")
    assert (result.accuracy, result.reference_accuracy) == (90, 90)
    assert (result.top5, result.reference_top5) == (100, 100)
    assert (result.argmax_agreement, result.scaled_rmse, result.samples) == (1, 0, N)


def test_the_measures_are_the_named_ones(clips):
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.1, (N, C)).astype(np.float32)
    result = verdict_on(clips, clips.reference + noise)
    scale = np.sqrt((clips.reference.astype(float) ** 2).mean())
    assert result.passed
    assert result.scaled_rmse == pytest.approx(np.sqrt((noise**2).mean()) / scale, rel=1e-3)
    assert result.max_scaled == pytest.approx(np.abs(noise).max() / scale, rel=1e-3)


# Clips that PyTorch gets right, and those that it gets wrong: rows 0, 10, 20, …
RIGHT = [row for row in range(N) if row % 10]
WRONG_ROWS = list(range(0, N, 10))


@pytest.mark.parametrize(
    ("rows", "limits", "sentence"),
    [
        (RIGHT[:3], on_clips(1, 0, 9), "accuracy 88.50 %, 1.50 points below float32's 90.00 % "
         "(limit 1)"),
        (WRONG_ROWS[:7], on_clips(100, 97, 9), "7 of 200 clips get another class than in "
         "float32 (limit 3 %)"),
    ],
)  # fmt: skip
def test_a_limit_broken_alone_gives_its_own_sentence(clips, rows, limits, sentence):
    found = lost(clips, rows)
    for row in set(rows) & set(WRONG_ROWS):  # not by chance the right one
        found[row, clips.labels[row]] = -1
    result = verdict_on(clips, found, limits)
    assert result.verdict == WRONG
    assert result.reason.startswith(f"{sentence}; worst on: clip ")
    assert ";" not in sentence and result.reason.count(";") == 1
    # One clip fewer is within the limit.
    assert verdict_on(clips, lost(clips, rows[:-1]), limits).passed
    assert len(result.disagreements) == len(rows)


def test_the_error_of_the_logits_has_a_limit_where_every_class_is_right(clips):
    scale = np.sqrt((clips.reference.astype(float) ** 2).mean())
    for share, verdict in ((0.99, PASS), (1.01, WRONG)):
        off = np.float32(share * LIMITS.scaled_rmse * scale)
        result = verdict_on(clips, clips.reference + off)
        assert result.verdict == verdict and result.argmax_agreement == 1
    assert result.reason.startswith(
        "logits are off by 0.0808 of their root mean square (limit 0.08); worst on: clip "
    )


def test_what_is_broken_together_is_said_together(clips):
    result = verdict_on(clips, -clips.reference)
    assert result.verdict == WRONG and result.reason.count(";") == 3
    for text in ("points below float32's", "200 of 200 clips", "root mean square"):
        assert text in result.reason


@pytest.mark.parametrize("garbage", ["one class", "noise", "zeros", "turned"])
def test_what_predicts_garbage_is_wrong(clips, garbage):
    found = {
        "one class": np.tile(np.float32([9, 0, 0, 0, 0]), (N, 1)),
        "noise": np.random.default_rng(2).normal(size=(N, C)).astype(np.float32),
        "zeros": np.zeros((N, C), np.float32),
        "turned": np.roll(clips.reference, 1, axis=1),
    }[garbage]
    result = verdict_on(clips, found)
    assert result.verdict == WRONG and not result.passed
    assert "points below float32's 90.00 %" in result.reason


def test_one_clip_may_always_differ(clips):
    few = dataclasses.replace(
        clips, labels=clips.labels[1:9], reference=clips.reference[1:9], descriptions=NAMES[1:9]
    )
    strict = on_clips(0, 100, 9)
    # Of eight clips one is 12.5 points.
    one, two = (lost(few, rows) for rows in ([3], [3, 4]))
    assert verdict_on(few, one, strict).passed
    result = verdict_on(few, two, strict)
    assert "25.00 points below" in result.reason and "2 of 8 clips" in result.reason


def test_a_better_accuracy_is_no_fault(clips):
    found = clips.reference.copy()
    for row in WRONG_ROWS[:5]:
        found[row, clips.labels[row]] = found[row].max() + 0.1
    result = verdict_on(clips, found, on_clips(0, 97, 9))
    assert result.passed and result.accuracy == 92.5


def test_without_labels_agreement_and_error_are_judged(clips):
    unlabelled = dataclasses.replace(clips, labels=None)
    limits = dataclasses.replace(LIMITS, scaled_rmse=9)
    result = verdict_on(unlabelled, lost(clips, RIGHT[:6]), limits)
    assert result.passed and result.accuracy is result.reference_accuracy is result.top5 is None
    result = verdict_on(unlabelled, lost(clips, RIGHT[:7]), limits)
    assert result.reason.startswith("7 of 200 clips get another class")
    result = verdict_on(unlabelled, 1.1 * clips.reference)
    assert result.reason.startswith("logits are off by 0.1 of their root mean square")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_wrong_whatever_the_limits(clips, value):
    found = clips.reference.copy()
    found[7, 2] = value
    result = verdict_on(clips, found, on_clips(100, 0, 1e9))
    assert result.verdict == WRONG and result.scheme == "int8" and result.accuracy is None
    assert "1 of 200 samples give NaN or infinity" in result.reason and "clip 7" in result.reason


def test_a_reference_that_is_not_finite_is_no_reference(clips):
    broken = dataclasses.replace(clips, reference=clips.reference * np.float32(np.nan))
    assert verdict_on(broken, clips.reference).verdict == FAILED


# Clips and artifacts


def test_padded_frames_are_full_of_nan(performances, config):
    keypoints, mask = model_inputs(performances.select(range(30)), config)
    assert keypoints.shape == (30, 12, 41, 2) and keypoints.dtype == np.float32
    assert mask.dtype == np.int32 and set(mask.sum(axis=1)) > {3, 12}
    assert np.isnan(keypoints[mask == 0]).all() and np.isfinite(keypoints[mask == 1]).all()


def test_judged_clips_carry_what_pytorch_says(checkpoint, performances, config):
    reference = TorchRuntime(load_model(checkpoint)[0], config)
    some = performances.select(range(8))
    clips = judged_clips(some, config, reference, labelled=True, source="eight")
    assert len(clips) == 8 and clips.source == "eight"
    # Labelled by the model itself.
    np.testing.assert_array_equal(clips.reference.argmax(axis=1), clips.labels)
    for sample, wanted in zip(clips.samples(), clips.reference, strict=True):
        np.testing.assert_array_equal(reference(sample.inputs)["logits"][0], wanted)
    assert [s.description for s in clips.samples()] == [c.source for c in some.clips]
    assert judged_clips(some, config, reference, labelled=False, source="x").labels is None
    with pytest.raises(BridgeError, match="nothing: there are no clips to judge by; give"):
        judged_clips(performances.select([]), config, reference, labelled=True, source="nothing")


class Fake:
    """A runtime that answers with one function of its inputs."""

    name = "fake"

    def __init__(self, spec: IOSpec, answer):
        self.spec, self.answer = spec, answer

    def __call__(self, inputs):
        return {"logits": self.answer(inputs)}


@pytest.fixture
def opened(monkeypatch, judged, config, tmp_path):
    """`opened(answer, config)`: the comparison of an artifact that answers so."""
    clips = judged

    def compare(answer, config=config):
        fake = Fake(io_spec(config), answer)
        monkeypatch.setattr("bridge.verification.clips.open_runtime", lambda path, signature: fake)
        return compare_on_clips(tmp_path / "q.tflite", "int8", clips, LIMITS)

    return compare


def test_a_runtime_that_refuses_or_breaks_off_has_failed(opened):
    def refuse(inputs):
        raise RuntimeInputError("fake takes nothing of the kind")

    def break_off(inputs):
        raise RuntimeError("node 17 failed")

    for answer, text in ((refuse, "nothing of the kind"), (break_off, "node 17 failed")):
        result = opened(answer)
        assert (result.verdict, result.scheme) == (FAILED, "int8") and text in result.reason


def test_an_artifact_of_another_model_does_not_fit(opened, config):
    narrower = dataclasses.replace(config, model=dataclasses.replace(config.model, num_labels=4))
    result = opened(lambda inputs: np.zeros((1, 4), np.float32), narrower)
    assert result.verdict == FAILED and result.reason == "logits: 4 classes, expected 5"


def test_every_clip_is_asked_about_alone_and_in_order(performances, config):
    keypoints, mask = model_inputs(performances.select(range(5)), config)
    asked = []
    fake = Fake(None, lambda inputs: asked.append(inputs) or np.float32([[len(asked), 0]]))
    assert predict(fake, keypoints, mask)[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert all(one["keypoints"].shape == (1, 12, 41, 2) for one in asked)
    np.testing.assert_array_equal(np.concatenate([o["attention_mask"] for o in asked]), mask)


# What people read


def test_reports_have_a_table_of_their_own_for_quantized_artifacts(clips, capsys):
    float_result = dataclasses.replace(verdict_on(clips, clips.reference), scheme="fp32")
    results = [
        float_result,
        verdict_on(clips, -clips.reference),
        verdict_on(clips, clips.reference * np.nan),
    ]
    print_parity(results)
    for text in (parity_markdown(results, {}), capsys.readouterr().out):
        assert "Parity with PyTorch" in text and "Quantized, judged on clips" in text
        assert WRONG in text and "points below float32's" in text and "not run" in text
    tree = json.loads(parity_json(results, {}))
    assert tree["results"][1]["reference_accuracy"] == 90
    assert tree["results"][2]["accuracy"] is None
    print_parity(results[1:2])
    assert "Parity with PyTorch" not in capsys.readouterr().out

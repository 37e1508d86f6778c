"""The judge: names, then shapes, dtypes, NaN, and only then values; and what it says of each."""

import dataclasses
import json

import numpy as np
import pytest

from bridge.verification.compare import compare
from bridge.verification.limits import Limits
from bridge.verification.report import parity_json, parity_markdown, print_parity
from bridge.verification.samples import Sample
from bridge.verification.verdict import FAILED, PASS, WRONG, Verdict, judge
from signbart.errors import RuntimeInputError
from signbart.models import io_spec
from signbart.models.io_spec import ATTENTION_MASK, IOSpec, TensorSpec

EXPECTED = np.array([[0.5, -2.0, 1.0], [4.0, 3.5, -1.0], [0.0, 0.25, 0.125]], np.float32)
NAMES = ["first", "second", "third"]


def judged(found, *, atol=1e-3, rtol=1e-2, expected=EXPECTED) -> Verdict:
    return judge("a.tflite", expected, np.asarray(found), NAMES, Limits(atol=atol, rtol=rtol))


def moved(row, column, by) -> np.ndarray:
    found = EXPECTED.astype(np.float64).copy()
    found[row, column] += by
    return found


def test_equal_logits_pass():
    result = judged(EXPECTED.copy())
    assert result.passed and result.verdict == PASS and result.reason == ""
    assert (result.samples, result.max_abs, result.rmse, result.argmax_agreement) == (3, 0, 0, 1)
    assert result.cosine == pytest.approx(1)
    assert result.disagreements == ()


# limit = 1e-3 + 1e-2 * |reference|
@pytest.mark.parametrize(
    ("row", "column", "limit"), [(0, 1, 0.021), (1, 0, 0.041), (2, 0, 0.001), (1, 2, 0.011)]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_limit_grows_with_the_reference_and_is_sharp(row, column, limit, sign):
    assert judged(moved(row, column, sign * 0.999 * limit)).passed
    result = judged(moved(row, column, sign * 1.001 * limit))
    assert result.verdict == WRONG and not result.passed
    assert result.worst_sample == NAMES[row]
    for text in (
        "1 of 3 samples", f"logits[{column}]", f"expected {EXPECTED[row, column]:.6g}",
        f"limit {limit:.3g}", f"off by {1.001 * limit:.3g}", NAMES[row],
    ):  # fmt: skip
        assert text in result.reason


def test_the_worst_is_the_one_furthest_beyond_its_own_limit():
    # 0.03 on 4.0 is within its limit, 0.01 on 0.0 is not.
    found = moved(1, 0, 0.03)
    found[2, 0] += 0.01
    result = judged(found)
    assert result.worst_sample == "third" and "1 of 3" in result.reason
    assert result.max_abs == pytest.approx(0.03)


def test_the_measures_are_the_named_ones():
    result = judged(moved(0, 2, 0.3), atol=1)
    assert result.passed
    assert result.max_abs == pytest.approx(0.3)
    assert result.mean_abs == pytest.approx(0.3 / 9)
    assert result.rmse == pytest.approx(0.1)
    scale = np.sqrt((EXPECTED.astype(float) ** 2).mean())
    assert result.max_scaled == pytest.approx(0.3 / scale)
    one, other = EXPECTED[0].astype(float), EXPECTED[0] + [0, 0, 0.3]
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert result.cosine == pytest.approx(cosine)
    # Errors of opposite sign must not cancel.
    assert judged(moved(0, 2, 0.3) + moved(1, 2, -0.3) - EXPECTED).mean_abs == pytest.approx(
        0.6 / 9
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_wrong_whatever_the_tolerance(value):
    found = EXPECTED.copy()
    found[1, 2] = found[2, 0] = value
    result = judged(found, atol=np.inf)
    assert result.verdict == WRONG
    assert result.reason.startswith("2 of 3 samples give NaN or infinity")
    assert f"{value} in logits[2] on: second" in result.reason
    assert result.max_abs is None


def test_a_reference_that_is_not_finite_is_no_reference():
    expected = EXPECTED.copy()
    expected[1, 0] = np.nan
    result = judged(EXPECTED, expected=expected)
    assert result.verdict == FAILED and "reference itself is not finite on: second" in result.reason


def test_another_highest_class_is_reported_with_the_margin():
    result = judged(moved(1, 1, 0.6))
    assert result.argmax_agreement == pytest.approx(2 / 3)
    assert list(result.disagreements) == [
        {"sample": "second", "reference_class": 0, "artifact_class": 1, "reference_margin": 0.5}
    ]


def test_a_reference_of_zeros_can_be_judged_and_written():
    zeros = np.zeros_like(EXPECTED)
    results = [judged(zeros, expected=zeros), judged(zeros + 1, expected=zeros)]
    assert [result.verdict for result in results] == [PASS, WRONG]
    json.loads(parity_json(results, {}))


# Two runtimes


class Fake:
    """A runtime that answers with one function of the mask."""

    def __init__(self, spec: IOSpec, answer, name="fake"):
        self.spec, self.answer, self.name = spec, answer, name

    def __call__(self, inputs):
        return {"logits": self.answer(inputs[ATTENTION_MASK])}


def right(mask) -> np.ndarray:
    return np.array([[mask.sum(), 1, 2, 3, 4]], np.float32)


SAMPLES = [
    Sample({ATTENTION_MASK: np.array([[1, 1, 1]])}, "three frames"),
    Sample({ATTENTION_MASK: np.array([[1, 0, 0]])}, "one frame"),
]


def compared(config, answer=right, spec=None) -> Verdict:
    reference = Fake(io_spec(config, batch=None, frames=None), right, "torch")
    candidate = Fake(spec or io_spec(config), answer, "c.tflite")
    return compare(reference, candidate, SAMPLES, Limits(atol=1e-5, rtol=1e-5))


def respelt(spec: IOSpec, kind: str, at: int, **changes) -> IOSpec:
    tensors = list(getattr(spec, kind))
    tensors[at] = dataclasses.replace(tensors[at], **changes)
    return dataclasses.replace(spec, **{kind: tuple(tensors)})


def test_runtimes_that_agree_pass(config):
    result = compared(config)
    assert result.passed and result.artifact == "c.tflite" and result.samples == 2


def test_the_order_of_inputs_does_not_matter(config):
    spec = io_spec(config)
    assert compared(config, spec=dataclasses.replace(spec, inputs=spec.inputs[::-1])).passed


@pytest.mark.parametrize(
    ("kind", "at", "changes", "text"),
    [
        ("inputs", 0, {"name": "args_0"}, "inputs are called args_0, attention_mask; expected"),
        ("outputs", 0, {"name": "output_0"}, "outputs are called output_0; expected logits"),
        ("inputs", 0, {"shape": (1, 12, 2, 41)}, "keypoints float32 (1, 12, 2, 41); expected"),
        ("inputs", 1, {"dtype": "int64"}, "attention_mask int64 (1, 12); expected"),
        (
            "outputs",
            0,
            {"shape": (1, 6)},
            "logits float32 (1, 6); expected logits float32 (any, 5)",
        ),
        ("outputs", 0, {"dtype": "int8"}, "logits int8 (1, 5); expected logits float32"),
    ],
)
def test_names_shapes_and_dtypes_come_before_any_run(config, kind, at, changes, text):
    def never(mask):
        raise AssertionError("was run")

    result = compared(config, never, respelt(io_spec(config), kind, at, **changes))
    assert result.verdict == FAILED and text in result.reason and result.max_abs is None


def test_a_missing_input_is_named(config):
    spec = io_spec(config)
    result = compared(config, spec=dataclasses.replace(spec, inputs=spec.inputs[:1]))
    assert "inputs are called keypoints; expected attention_mask, keypoints" in result.reason


# Each answer has every later fault as well: what is reported shows the order of the checks.
@pytest.mark.parametrize(
    ("answer", "verdict", "text"),
    [
        (lambda mask: np.full((1, 4), np.nan), FAILED, "shape (1, 4), expected (1, 5) (three"),
        (lambda mask: np.full((1, 5), np.nan), FAILED, "dtype float64, expected float32 (three"),
        (lambda mask: right(mask) * np.nan, WRONG, "2 of 2 samples give NaN"),
        (lambda mask: right(mask) + np.float32(0.5), WRONG, "off by 0.5"),
        (lambda mask: right(mask[:, :2]), WRONG, "1 of 2 samples"),
    ],
    ids=["shape", "dtype", "NaN", "values", "one sample"],
)
def test_shape_dtype_nan_and_values_in_this_order(config, answer, verdict, text):
    result = compared(config, answer)
    assert result.verdict == verdict and text in result.reason
    assert "three frames" in result.reason


def test_a_runtime_that_refuses_an_input_has_failed(config):
    def refuse(mask):
        raise RuntimeInputError("c.tflite takes nothing of the kind")

    result = compared(config, refuse)
    assert result.verdict == FAILED
    assert result.reason == "c.tflite takes nothing of the kind (three frames)"


# What people read


def test_reports_carry_measured_and_unmeasured_values(capsys):
    results = [judged(moved(1, 1, 0.6)), Verdict("b.tflite", FAILED, "it could not be loaded")]
    tree = json.loads(parity_json(results, {"atol": 0.001}))
    assert tree["settings"] == {"atol": 0.001}
    assert tree["results"][0]["max_abs"] == pytest.approx(0.6)
    assert tree["results"][0]["disagreements"][0]["sample"] == "second"
    assert tree["results"][1]["max_abs"] is None
    print_parity(results)
    for text in (parity_markdown(results, {"atol": 0.001}), capsys.readouterr().out):
        assert "6.00e-01" in text and "not run" in text and "66.7%" in text
        assert "it could not be loaded" in text and WRONG in text and "off by 0.6" in text


def test_specs_describe_what_an_artifact_has():
    assert TensorSpec("x", (None, 3), "int8").describe() == "x int8 (any, 3)"
    assert TensorSpec("x", (None, 3), "int8").accepts_shape((9, 3))
    for shape in ((9, 4), (9,), (9, 3, 1)):
        assert not TensorSpec("x", (None, 3), "int8").accepts_shape(shape)

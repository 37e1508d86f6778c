"""The limits are read from one file, and a file that does not say them is an error."""

import pytest

from bridge.errors import BridgeError
from bridge.tolerances import Tolerance, load_tolerance


def test_the_tolerance_is_the_one_promised():
    assert load_tolerance("fp32") == Tolerance(atol=1e-5, rtol=1e-5)


def test_another_file_has_its_say(tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text("fp16: {atol: 1e-2, rtol: 0}\nint8: {atol: 0.5, rtol: 0.25}\n")
    assert load_tolerance("fp16", path) == Tolerance(0.01, 0.0)
    assert load_tolerance("int8", path) == Tolerance(0.5, 0.25)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("int8: {atol: 1, rtol: 1}", "no limits for scheme 'fp32'"),
        ("fp32: {atol: 1}", "needs numbers atol and rtol"),
        ("fp32: {atol: small, rtol: 1}", "needs numbers"),
        ("fp32: 1e-5", "needs numbers"),
        ("", "needs numbers"),
        ("fp32: {", "needs numbers"),
        ("fp32: {atol: -1, rtol: 1}", "not negative"),
        ("fp32: {atol: .inf, rtol: 1}", "finite"),
        ("fp32: {atol: 1, rtol: .nan}", "finite"),
    ],
)
def test_limits_that_are_none_are_refused(tmp_path, text, complaint):
    path = tmp_path / "limits.yaml"
    path.write_text(text)
    with pytest.raises(BridgeError, match=rf"limits\.yaml.*{complaint}"):
        load_tolerance("fp32", path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BridgeError, match=r"absent\.yaml"):
        load_tolerance("fp32", tmp_path / "absent.yaml")

"""The limits are read from one file, and a file that does not say them is an error."""

import pytest

from bridge.errors import BridgeError
from bridge.quantization.schemes import SCHEMES
from bridge.verification.limits import BY_VALUE, Limits, load_limits


def test_the_tolerance_is_the_one_promised():
    assert load_limits("fp32") == Limits(atol=1e-5, rtol=1e-5)


def test_another_file_has_its_say(tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text("fp16: {atol: 1e-2, rtol: 0}\nint8: {atol: 0.5, rtol: 0.25}\n")
    assert load_limits("fp16", BY_VALUE, path) == Limits(0.01, 0.0)
    assert load_limits("int8", BY_VALUE, path) == Limits(0.5, 0.25)


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
        load_limits("fp32", path=path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BridgeError, match=r"absent\.yaml"):
        load_limits("fp32", path=tmp_path / "absent.yaml")


# Of quantized artifacts


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "fp32"])
def test_every_scheme_has_limits_that_mean_something(scheme):
    limits = load_limits(scheme)
    # Nobody ships a file that loses more than a point, whatever the file of limits says.
    assert 0 < limits.accuracy_drop <= 1
    assert 95 <= limits.agreement <= 100
    assert 0 < limits.scaled_rmse < 0.1


def test_the_limits_of_a_scheme_are_read_from_its_entry(tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text("int8: {accuracy_drop: 2, agreement: 90, scaled_rmse: 1e-1}\n")
    assert load_limits("int8", path=path) == Limits(
        accuracy_drop=2.0, agreement=90.0, scaled_rmse=0.1
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("int8: {atol: 1, rtol: 1}", "needs numbers accuracy_drop, agreement and scaled_rmse"),
        ("int8: {accuracy_drop: 1, agreement: 97}", "'scaled_rmse'"),
        ("fp16: {accuracy_drop: 1, agreement: 97, scaled_rmse: 1}", "no limits for scheme 'int8'"),
        ("int8: {accuracy_drop: -1, agreement: 97, scaled_rmse: 1}", "accuracy_drop must be"),
        ("int8: {accuracy_drop: 1, agreement: .nan, scaled_rmse: 1}", "agreement must be finite"),
    ],
)
def test_data_limits_that_are_none_are_refused(tmp_path, text, complaint):
    path = tmp_path / "limits.yaml"
    path.write_text(text)
    with pytest.raises(BridgeError, match=rf"limits\.yaml.*{complaint}"):
        load_limits("int8", path=path)

"""Which tensors lose precision, and which ranges cut numbers off, is shown tensor by tensor."""

import numpy as np
import pytest

from bridge.errors import BridgeError, SignBartError
from bridge.quantization import quantizer
from bridge.quantization.quantizer import quantize
from bridge.quantization.schemes import SCHEMES
from bridge.routes import ROUTES
from signbart_runtime.evaluation.tensor_errors import tensor_errors
from signbart_runtime.tensor_errors import main


def errors(converted, path, inputs, route="litert"):
    return tensor_errors(converted.path(route, ".tflite"), path, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
def test_what_calibration_saw_is_not_cut_off(converted, quantized, calibration, route):
    rows = errors(converted, quantized(route, "int8"), calibration.inputs(), route)
    # An output of every linear layer at least; LayerNorm's and GELU's among their inputs.
    assert len(rows) > 45 and len({row.name for row in rows}) == len(rows)
    assert max(row.cut for row in rows) == 0
    for row in rows:
        step = (row.high - row.low) / 255
        assert row.low - step <= row.lowest <= row.highest <= row.high + step
        assert 0 < row.error < 0.2
    assert np.median([row.error for row in rows]) < 0.05


@pytest.mark.slow
def test_sixteen_bits_lose_less_than_eight(converted, quantized, calibration):
    inputs = list(calibration.inputs())[:10]
    wide, narrow = (
        {row.name: row for row in errors(converted, quantized("litert", scheme), inputs)}
        for scheme in ("int16x8", "int8")
    )
    assert wide.keys() == narrow.keys()
    assert np.median([row.error for row in wide.values()]) < np.median(
        [row.error for row in narrow.values()]
    )


@pytest.mark.slow
def test_the_quantizers_own_moving_average_cuts_off(converted, calibration, tmp_path, monkeypatch):
    """Why this project's calibration takes the lowest and the highest number."""
    from ai_edge_quantizer.utils import qsv_utils

    monkeypatch.setattr(qsv_utils, "min_max_update", qsv_utils.moving_average_update)
    averaged = tmp_path / "averaged.tflite"
    quantize(converted.artifact, SCHEMES["int8"], averaged, calibration)
    rows = errors(converted, averaged, calibration.inputs())
    cut = [row for row in rows if row.cut > 0]
    assert len(cut) > len(rows) / 2
    assert any(row.highest > row.high or row.lowest < row.low for row in cut)


@pytest.mark.slow
def test_files_that_do_not_belong_together_are_refused(converted, quantized, calibration, tmp_path):
    inputs = list(calibration.inputs())[:1]
    for path in (
        quantized("onnx", "int8"),  # of another export
        quantized("litert", "dynamic_int8"),  # fixes no range
        converted.artifact,
    ):
        with pytest.raises(BridgeError, match="has no integer activations in common"):
            errors(converted, path, inputs)
    (tmp_path / "odd.tflite").write_bytes(b"no model")
    for name in ("odd.tflite", "absent.tflite"):
        with pytest.raises(SignBartError, match=name):
            errors(converted, tmp_path / name, inputs)


@pytest.mark.slow
def test_integer_edges_are_compared_too(converted, quantized, judged):
    inputs = [sample.inputs for sample in judged.samples()[:20]]
    assert any(np.isnan(one["keypoints"]).any() for one in inputs)
    rows = errors(converted, quantized("litert", "int8", int8_io=True), inputs)
    assert any("keypoints" in row.name for row in rows)
    assert all(np.isfinite([row.error, row.lowest, row.highest]).all() for row in rows)


@pytest.mark.slow
def test_the_command_shows_the_worst_first(converted, quantized, performances_file, capsys):
    arguments = [str(converted.artifact), str(quantized("litert", "int8"))]
    data = ["--data", str(performances_file), "--clips", "12"]
    assert main([*arguments, *data, "--worst", "3", "--signers", "d"]) == 0
    printed = capsys.readouterr().out
    assert "small_litert_int8.tflite on 12 clips" in printed and "nan" not in printed
    shown = [float(line.split()[-1]) for line in printed.splitlines() if "…" in line]
    assert len(shown) == 3 and shown == sorted(shown, reverse=True)
    with pytest.raises(BridgeError, match="has no clips by z, y"):
        main([*arguments, *data, "--signers", "z", "y"])


def test_the_quantizer_is_shown_lowest_and_highest():
    """The name that the test above exchanges is the one in use."""
    import inspect

    assert "qsv_utils.min_max_update" in inspect.getsource(quantizer._observe)

"""``signbart bench``: any model file's calls, timed side by side."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bridge.artifact.runtimes import open_runtime
from signbart.errors import ArtifactError, SignBartError
from signbart_runtime.bench.__main__ import Row, _cells, main
from signbart_runtime.bench.calls import open_call

SHIPPED = sorted(Path("exports").glob("[ae]*/*.tflite"))


@pytest.fixture
def open_sized(tmp_path) -> Path:
    """An .onnx of somebody else's, without metadata: (batch, frames, 3) float, (frames) int64."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["count"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["real"], ["total"], keepdims=0),
            helper.make_node("Mul", ["points", "total"], ["out"]),
        ],
        "other",
        [
            helper.make_tensor_value_info("points", TensorProto.FLOAT, ["batch", "frames", 3]),
            helper.make_tensor_value_info("count", TensorProto.INT64, ["batch", "frames"]),
        ],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )
    path = tmp_path / "other.onnx"
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path


def test_files_are_timed_in_one_run(open_sized, capsys):
    names = [*map(str, SHIPPED), str(open_sized)]
    assert main([*names, "--rounds", "5", "--threads", "1", "--frames", "7", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = found["files"]
    assert [row["file"] for row in rows] == names and len(names) == 3
    assert rows[0]["ratio"] == 1 and all(0 < r["low"] <= r["median"] <= r["high"] for r in rows)
    assert [row["bytes"] for row in rows] == [Path(name).stat().st_size for name in names]
    assert "cores" in found["machine"]


def test_a_call_is_the_model_on_the_inputs_made_for_it(open_sized):
    (out,) = open_call(open_sized, 1, 7, seed=3)()
    expected = 7 * np.random.default_rng(3).random((1, 7, 3)).astype(np.float32)
    np.testing.assert_array_equal(out, expected)
    # ... and the shipped file's are those of its signature.
    assert open_runtime(SHIPPED[0]).spec.inputs and open_call(SHIPPED[0], 2, None, 0)() is None


def test_open_sizes_have_to_be_said(open_sized):
    with pytest.raises(ArtifactError, match=r"other.onnx leaves sizes open.*--frames"):
        open_call(open_sized, 1, None, 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.tflite", r"no \.tflite at none\.tflite"),
        ("README.md", r"no runtime for '\.md' files; known: \.tflite, \.onnx, \.pte"),
    ],
)
def test_other_files_are_refused(name, message):
    with pytest.raises(ArtifactError, match=message):
        main([name])


@pytest.mark.parametrize(
    ("ending", "message"),
    [(".tflite", r"is a damaged \.tflite file: ."), (".onnx", "cannot be run: .")],
)
def test_damaged_files_are_named(ending, message, tmp_path):
    path = tmp_path / f"damaged{ending}"
    path.write_bytes(b"not a model" * 99)
    with pytest.raises(ArtifactError, match=f"damaged{ending} {message}"):
        main([str(path)])


def test_a_file_is_named_once():
    with pytest.raises(SignBartError, match="named twice"):
        main([str(SHIPPED[0])] * 2)


def test_a_busy_machine_s_ratio_is_not_told():
    assert _cells(Row("a", 1000, 1, 2.0, 1.0, 3.0, 0.5, noisy=True))[-1] == "too noisy"
    assert _cells(Row("a", 1000, 1, 2.0, 1.9, 2.1, 0.5, noisy=False))[-1] == "0.50"

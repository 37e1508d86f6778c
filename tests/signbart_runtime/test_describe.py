"""Operators are read from the file itself, those of runtimes that we do not have included."""

import io
import json
import zipfile
from pathlib import Path

import pytest

from signbart.artifacts.contents import foreign_operators, operators
from signbart.errors import ArtifactError
from signbart_runtime.describe import main

EXAMPLE = Path(__file__).resolve().parents[2] / "exports/example/demo_litert_dynamic_int8.tflite"


def tflite(path, *codes):
    """A .tflite with one graph of one operator of each (builtin name or custom code)."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.operatorCodes, graph.operators = 3, [], []
    graph.tensors, graph.inputs, graph.outputs = [], [], []
    for index, name in enumerate(codes):
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        number = getattr(schema.BuiltinOperator, name, schema.BuiltinOperator.CUSTOM)
        code.builtinCode = number
        code.deprecatedBuiltinCode = min(number, 127)
        code.customCode = name if number == schema.BuiltinOperator.CUSTOM else None
        operator.opcodeIndex = index
        model.operatorCodes.append(code)
        graph.operators += [operator] * (index + 1)
    model.subgraphs = [graph]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())
    return path


def test_operators_are_counted_by_name(tmp_path):
    # GELU lies above 127, where the schema's old and new fields differ.
    path = tflite(tmp_path / "a.tflite", "ADD", "FULLY_CONNECTED", "GELU")
    assert operators(path) == {"ADD": 1, "FULLY_CONNECTED": 2, "GELU": 3}
    assert foreign_operators(path) == []


def test_custom_operators_are_foreign(tmp_path):
    path = tflite(tmp_path / "a.tflite", "ADD", "FlexErf", "Mine")
    assert operators(path) == {"ADD": 1, "custom FlexErf": 2, "custom Mine": 3}
    assert foreign_operators(path) == ["custom FlexErf", "custom Mine"]


@pytest.mark.parametrize(
    "content", [b"", b"TFL3", b"no model at all", b"\x08\0\0\0ONNX" + bytes(9)]
)
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "odd.tflite"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"odd\.tflite is not a \.tflite file"):
        operators(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"absent\.tflite"):
        operators(tmp_path / "absent.tflite")


@pytest.mark.slow
def test_every_artifact_has_every_linear_layer_and_nothing_foreign(artifact):
    counted = operators(artifact)
    assert foreign_operators(artifact) == []
    # 6 an encoder layer, 10 a decoder layer, 2 projections, 1 head; 2 more products an attention.
    linears, attentions = 2 * 6 + 3 * 10 + 2 + 1, 2 + 3 * 2
    if artifact.suffix == ".onnx":
        # ... and one that reads the last frame.
        assert counted["MatMul"] + counted["Gemm"] == linears + 2 * attentions + 1
        assert (counted["Gelu"], counted["LayerNormalization"]) == (5, 2 + 2 * 2 + 3 * 3)
    else:
        # Joined: q, k and v of four self-attentions, k and v of two of the other four attentions.
        assert (counted["FULLY_CONNECTED"], counted["GELU"]) == (linears - 4 * 2 - 2, 5)


def with_metadata(path: Path, **changes: object) -> Path:
    """The shipped example, whose metadata says something else."""
    content = EXAMPLE.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        start = min(member.header_offset for member in archive.infolist())
        text = json.dumps(json.loads(archive.read("metadata.json")) | changes)
    with path.open("wb") as file:
        file.write(content[:start])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("metadata.json", text)
    return path


def test_metadata_that_cannot_be_is_not_said_to_be_none(tmp_path, capsys):
    path = with_metadata(tmp_path / "a.tflite", labels=["hello", "hello"])
    with pytest.raises(ArtifactError, match=r"a\.tflite: classes 0 and 1 look the same"):
        main([str(path)])
    path.write_bytes(path.read_bytes()[: path.read_bytes().index(b"PK\3\4")])
    assert main([str(path)]) == 0
    assert "metadata: none of this project's" in capsys.readouterr().out


def test_metadata_does_not_rule_the_terminal(tmp_path, capsys):
    path = with_metadata(tmp_path / "a.tflite", versions={"torch": "\x1b[2J"})
    assert main([str(path)]) == 0
    assert "versions: torch \\x1b[2J\n" in capsys.readouterr().out

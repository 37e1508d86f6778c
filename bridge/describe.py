"""What is inside an artifact: its operators, and whether a plain runtime has them all."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bridge.errors import ArtifactError

_CUSTOM = "custom "


def operators(path: str | Path) -> Counter[str]:
    """How often each operator of a .tflite or .onnx occurs; others as ``custom FlexErf``, say.

    Read from the file itself: an interpreter refuses the files that this is most needed for.

    Raises:
        ArtifactError: The file is missing, or is neither.
    """
    if Path(path).suffix == ".onnx":
        return _onnx_operators(path)
    from ai_edge_litert import schema_py_generated as schema

    if not Path(path).is_file():
        raise ArtifactError(f"no .tflite at {path}")
    content = Path(path).read_bytes()
    if not schema.Model.ModelBufferHasIdentifier(content, 0):
        raise ArtifactError(f"{path} is not a .tflite file")
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    builtin = {
        value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()
    }
    names = []
    for code in model.operatorCodes:
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        custom = (code.customCode or b"").decode()
        names.append(_CUSTOM + custom if custom else builtin[number])
    return Counter(names[op.opcodeIndex] for graph in model.subgraphs for op in graph.operators)


def _onnx_operators(path: str | Path) -> Counter[str]:
    import onnx

    try:
        graph = onnx.load(str(path)).graph
    except (OSError, ValueError, onnx.onnx_cpp2py_export.checker.ValidationError) as error:
        raise ArtifactError(f"{path} is not an .onnx file: {error}") from None
    return Counter(_CUSTOM * bool(node.domain) + node.op_type for node in graph.node)


def foreign_operators(path: str | Path) -> list[str]:
    """Operators that plain LiteRT or ONNX lacks: TensorFlow's (Flex) and custom ones."""
    return sorted(name for name in operators(path) if name.startswith(_CUSTOM))

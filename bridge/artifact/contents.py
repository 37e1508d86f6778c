"""Which share of a .tflite's multiply-accumulates runs, and is stored, in which number format."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge.errors import ArtifactError

# Input and weights -> name. Int8 weights under float inputs: the runtime quantizes each row of the
# input before it multiplies, so the products are of int8.
_FORMATS = {
    ("INT8", "INT8"): "int8",
    ("FLOAT32", "INT8"): "int8",
    ("INT16", "INT8"): "int16x8",
    ("FLOAT32", "FLOAT32"): "float32",
}


def multiply_accumulates(
    path: str | Path, operators: Sequence[str] = ("FULLY_CONNECTED", "BATCH_MATMUL")
) -> Counter[str]:
    """Multiply-accumulates of one run by number format: ``int8``, ``int16x8``, ``float32``.

    Counted are FULLY_CONNECTED and BATCH_MATMUL, the operators of this project's models that sum
    products; what works element by element is not.

    Args:
        path: The .tflite.
        operators: Count these alone.

    Raises:
        ArtifactError: The file is missing, is no .tflite, or has sizes that are not known.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = _read(path)
    kinds = {value: name for name, value in vars(schema.TensorType).items() if name.isupper()}
    wanted = {getattr(schema.BuiltinOperator, name) for name in operators}
    counted: Counter[str] = Counter()
    for graph in model.subgraphs:
        for operator in graph.operators:
            builtin = _builtin(model, operator)
            if builtin not in wanted:
                continue
            if builtin == schema.BuiltinOperator.FULLY_CONNECTED:
                summed = _size(graph.tensors[operator.inputs[1]], -1, path)
            else:  # (…, M, K) or, with adjX, (…, K, M)
                axis = -2 if operator.builtinOptions.adjX else -1
                summed = _size(graph.tensors[operator.inputs[0]], axis, path)
            given, weights = (kinds[graph.tensors[at].type] for at in operator.inputs[:2])
            made = graph.tensors[operator.outputs[0]]
            results = math.prod(_size(made, axis, path) for axis in range(len(made.shape)))
            counted[_FORMATS.get((given, weights), f"{given} x {weights}")] += results * summed
    return counted


def stored_weights(path: str | Path) -> Counter[str]:
    """In what the weights of each FULLY_CONNECTED are stored, such as ``INT8``.

    Where a DEQUANTIZE stands between, what it reads counts.

    Raises:
        ArtifactError: The file is missing, or is no .tflite.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = _read(path)
    kinds = {value: name for name, value in vars(schema.TensorType).items() if name.isupper()}
    counted: Counter[str] = Counter()
    for graph in model.subgraphs:
        widened = {
            operator.outputs[0]: operator.inputs[0]
            for operator in graph.operators
            if _builtin(model, operator) == schema.BuiltinOperator.DEQUANTIZE
        }
        for operator in graph.operators:
            if _builtin(model, operator) == schema.BuiltinOperator.FULLY_CONNECTED:
                weights = widened.get(operator.inputs[1], operator.inputs[1])
                counted[kinds[graph.tensors[weights].type]] += 1
    return counted


def _read(path: str | Path) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    if not Path(path).is_file():
        raise ArtifactError(f"no .tflite at {path}")
    content = Path(path).read_bytes()
    if not schema.Model.ModelBufferHasIdentifier(content, 0):
        raise ArtifactError(f"{path} is not a .tflite file")
    return schema.ModelT.InitFromPackedBuf(content, 0)


def _builtin(model: Any, operator: Any) -> int:
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def _size(tensor: Any, axis: int, path: str | Path) -> int:
    # An open size is -1 in the signature, where there is one, and 1 in the shape.
    signature = tensor.shapeSignature
    sizes = tensor.shape if signature is None or not len(signature) else signature
    size = int(sizes[axis])
    if size < 1:
        raise ArtifactError(f"{path}: tensor {tensor.name.decode()} has no fixed size")
    return size


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
    try:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
    # A flatbuffer is offsets; damaged ones lead anywhere.
    except Exception as error:
        raise ArtifactError(f"{path} is a damaged .tflite file: {error}") from None
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

    if not Path(path).is_file():
        raise ArtifactError(f"no .onnx at {path}")
    try:
        graph = onnx.load(str(path)).graph
    # protobuf's DecodeError, among others, has no narrower base.
    except Exception as error:
        raise ArtifactError(f"{path} is not an .onnx file: {error}") from None
    return Counter(_CUSTOM * bool(node.domain) + node.op_type for node in graph.node)


def foreign_operators(path: str | Path) -> list[str]:
    """Operators that plain LiteRT or ONNX lacks: TensorFlow's (Flex) and custom ones."""
    return sorted(name for name in operators(path) if name.startswith(_CUSTOM))

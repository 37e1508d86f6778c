"""What is inside an artifact: its operators, and what its products and weights are made of.

Of a .tflite with several signatures it is about the first: the others run the same operators on the
same weights, with a few around them that multiply nothing, or for fewer frames.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bridge.artifact.soundness import require_sound
from bridge.errors import ArtifactError
from signbart.models.io_spec import SIGNATURE

# Operators of this project's models that sum products; what works element by element is not
# counted.
MULTIPLYING = ("FULLY_CONNECTED", "BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D")

# Input and weights -> name. Int8 weights under float inputs: the runtime quantizes each row of the
# input before it multiplies, so the products are of int8.
_FORMATS = {
    ("INT8", "INT8"): "int8",
    ("FLOAT32", "INT8"): "int8",
    ("INT16", "INT8"): "int16x8",
    ("FLOAT32", "FLOAT32"): "float32",
}
_CUSTOM = "custom "


def operators(path: str | Path, *, every_signature: bool = False) -> Counter[str]:
    """How often each operator of a .tflite or .onnx occurs; others as ``custom FlexErf``, say.

    Read from the file itself: an interpreter refuses the files that this is most needed for.

    Args:
        path: The file.
        every_signature: Count those of all signatures.

    Raises:
        ArtifactError: The file is missing, or is neither.
    """
    if Path(path).suffix == ".onnx":
        return _onnx_operators(path)
    model = _read(path)
    names = _names_of(model)
    graphs = model.subgraphs if every_signature else _first_signature(model)
    return Counter(names[operator.opcodeIndex] for graph in graphs for operator in graph.operators)


def foreign_operators(path: str | Path) -> list[str]:
    """Operators that plain LiteRT or ONNX lacks: TensorFlow's (Flex) and custom ones."""
    return sorted(
        name for name in operators(path, every_signature=True) if name.startswith(_CUSTOM)
    )


def multiply_accumulates(
    path: str | Path, operators: Sequence[str] = MULTIPLYING, *, weighted: bool = False
) -> Counter[str]:
    """Multiply-accumulates of one run by number format: ``int8``, ``int16x8``, ``float32``.

    Args:
        path: The .tflite.
        operators: Those of `MULTIPLYING` to count.
        weighted: Count those alone that multiply by stored weights, and not two activations.

    Raises:
        ArtifactError: The file is missing, is no .tflite, or has sizes that are not known.
    """
    counted: Counter[str] = Counter()
    types = _tensor_types()
    for graph, operator, name, stored in products(_read(path), operators):
        if weighted and stored is None:
            continue
        given, weights = (graph.tensors[at] for at in operator.inputs[:2])
        if name == "BATCH_MATMUL":  # (…, M, K) or, with adjX, (…, K, M)
            summed = _size(given, -2 if operator.builtinOptions.adjX else -1, path)
        elif name == "FULLY_CONNECTED":  # (O, I)
            summed = _size(weights, -1, path)
        else:  # (O, H, W, I); of a depthwise one, which sums no channels, (1, H, W, O)
            axes = (1, 2, 3) if name == "CONV_2D" else (1, 2)
            summed = math.prod(_size(weights, axis, path) for axis in axes)
        made = graph.tensors[operator.outputs[0]]
        results = math.prod(_size(made, axis, path) for axis in range(len(made.shape)))
        kinds = types[given.type], types[weights.type]
        counted[_FORMATS.get(kinds, " x ".join(kinds))] += results * summed
    return counted


def stored_weights(
    path: str | Path, operators: Sequence[str] = ("FULLY_CONNECTED",)
) -> Counter[str]:
    """In what the weights of each of these operators are stored, such as ``INT8``.

    Where a DEQUANTIZE stands between, what it reads counts. What multiplies two activations has no
    weights.

    Raises:
        ArtifactError: The file is missing, or is no .tflite.
    """
    types = _tensor_types()
    found = (stored for _, _, _, stored in products(_read(path), operators))
    return Counter(types[stored.type] for stored in found if stored is not None)


def products(model: Any, operators: Sequence[str]) -> Iterator[tuple[Any, Any, str, Any]]:
    """Graph, operator, its name and the stored weights that it multiplies by, if any."""
    names = _names_of(model)
    for graph in _first_signature(model):
        widened = {
            operator.outputs[0]: operator.inputs[0]
            for operator in graph.operators
            if names[operator.opcodeIndex] == "DEQUANTIZE"
        }
        for operator in graph.operators:
            name = names[operator.opcodeIndex]
            if name in operators:
                at = widened.get(operator.inputs[1], operator.inputs[1])
                buffer = model.buffers[graph.tensors[at].buffer]
                constant = buffer.size or (buffer.data is not None and len(buffer.data))
                yield graph, operator, name, graph.tensors[at] if constant else None


def _first_signature(model: Any) -> list[Any]:
    """Its graphs, with those of its loops; all, where the file has no such signature."""
    first = graph_of(model, SIGNATURE)
    if first is None:
        return model.subgraphs
    return [model.subgraphs[at] for at in sorted(reached_graphs(model, [first]))]


def reached_graphs(model: Any, begin: Iterable[int]) -> set[int]:
    """Numbers of these graphs of a .tflite and of all that they run."""
    reached, waiting = set(), [*begin]
    while waiting:
        at = waiting.pop()
        if at not in reached:
            reached.add(at)
            waiting += [number for *_, number in refers_to_graphs(model.subgraphs[at])]
    return reached


def refers_to_graphs(graph: Any) -> Iterator[tuple[Any, str, int]]:
    """Where a graph's loops and branches name other graphs: options, attribute and number."""
    for operator in graph.operators:
        for options in (operator.builtinOptions, operator.builtinOptions2):
            for name, at in vars(options).items() if options is not None else ():
                if name.endswith("SubgraphIndex"):
                    yield options, name, at


def graph_of(model: Any, signature: str) -> int | None:
    """Which of a .tflite's graphs a signature is of; None where it has no such signature."""
    for known in model.signatureDefs or ():
        if known.signatureKey == signature.encode():
            return known.subgraphIndex
    return None


def _read(path: str | Path) -> Any:
    """The file's tables as objects, which are shared: nobody may change them."""
    from ai_edge_litert import schema_py_generated as schema

    if not Path(path).is_file():
        raise ArtifactError(f"no .tflite at {path}")
    content = Path(path).read_bytes()
    if not schema.Model.ModelBufferHasIdentifier(content, 0):
        raise ArtifactError(f"{path} is not a .tflite file")
    require_sound(path)
    try:
        return _unpacked(content)
    # A flatbuffer is offsets; damaged ones lead anywhere.
    except Exception as error:
        raise ArtifactError(f"{path} is a damaged .tflite file: {error}") from None


# A conversion asks a dozen times about a file and about what is quantized from it, and unpacking is
# done in Python, field by field.
@functools.lru_cache(maxsize=2)
def _unpacked(content: bytes) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(content, 0)


def _names_of(model: Any) -> list[str]:
    """The name of each of a .tflite's operator codes."""
    from ai_edge_litert import schema_py_generated as schema

    builtin = _names_in(schema.BuiltinOperator)
    names = []
    for code in model.operatorCodes:
        custom = (code.customCode or b"").decode()
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        names.append(_CUSTOM + custom if custom else builtin[number])
    return names


def _tensor_types() -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return _names_in(schema.TensorType)


def _names_in(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if name.isupper()}


def _size(tensor: Any, axis: int, path: str | Path) -> int:
    # An open size is -1 in the signature, where there is one, and 1 in the shape.
    signature = tensor.shapeSignature
    sizes = tensor.shape if signature is None or not len(signature) else signature
    size = int(sizes[axis])
    if size < 1:
        raise ArtifactError(f"{path}: tensor {tensor.name.decode()} has no fixed size")
    return size


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

"""What is inside an artifact: its operators, and what its products and weights are made of.

Of a .tflite with several signatures it is about the first: the others run the same operators on the
same weights, with a few around them that multiply nothing, or for fewer frames.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from signbart.artifacts.compaction import take_in_buffers
from signbart.artifacts.graphs import (
    CUSTOM,
    MULTIPLYING,
    first_signature,
    names_of,
    products,
    tensor_types,
)
from signbart.artifacts.soundness import require_sound
from signbart.errors import ArtifactError
from signbart.memory import raise_shortage, read_whole

# Input and weights -> name. Int8 weights under float inputs: the runtime quantizes each row of the
# input before it multiplies, so the products are of int8.
_FORMATS = {
    ("INT8", "INT8"): "int8",
    ("FLOAT32", "INT8"): "int8",
    ("INT16", "INT8"): "int16x8",
    ("FLOAT32", "FLOAT32"): "float32",
}


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
    model = read_tables(path)
    names = names_of(model)
    graphs = model.subgraphs if every_signature else first_signature(model)
    return Counter(names[operator.opcodeIndex] for graph in graphs for operator in graph.operators)


def foreign_operators(path: str | Path) -> list[str]:
    """Operators that plain LiteRT or ONNX lacks: TensorFlow's (Flex) and custom ones."""
    return sorted(name for name in operators(path, every_signature=True) if name.startswith(CUSTOM))


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
    types = tensor_types()
    for graph, operator, name, stored in products(read_tables(path), operators):
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
    types = tensor_types()
    found = (stored for _, _, _, stored in products(read_tables(path), operators))
    return Counter(types[stored.type] for stored in found if stored is not None)


def read_tables(path: str | Path) -> Any:
    """A .tflite's tables as objects with all constants, which are shared: nobody may change them.

    Raises:
        ArtifactError: The file is missing, or is no .tflite.
    """
    from ai_edge_litert import schema_py_generated as schema

    if not Path(path).is_file():
        raise ArtifactError(f"no .tflite at {path}")
    content = read_whole(Path(path))
    if not schema.Model.ModelBufferHasIdentifier(content, 0):
        raise ArtifactError(f"{path} is not a .tflite file")
    require_sound(path)
    try:
        return _unpacked(content)
    # A flatbuffer is offsets; damaged ones lead anywhere.
    except Exception as error:
        raise_shortage(path, error)
        raise ArtifactError(f"{path} is a damaged .tflite file: {error}") from None


# A conversion asks a dozen times about a file and about what is quantized from it, and unpacking is
# done in Python, field by field.
@functools.lru_cache(maxsize=2)
def _unpacked(content: bytes) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    take_in_buffers(model, content)
    return model


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
        raise_shortage(path, error)
        raise ArtifactError(f"{path} is not an .onnx file: {error}") from None
    return Counter(CUSTOM * bool(node.domain) + node.op_type for node in graph.node)

"""The graphs of a .tflite as objects, of `compaction.read_model` or `contents.read_tables`.

What multiplies by stored weights, which graph a signature is of and what that runs; and what adds a
graph with a signature of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from signbart.models.io_spec import SIGNATURE

# Operators of this project's models that sum products; what works element by element is not
# counted.
MULTIPLYING = ("FULLY_CONNECTED", "BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D")
CUSTOM = "custom "  # before the name of an operator that is not built in


def products(model: Any, operators: Sequence[str]) -> Iterator[tuple[Any, Any, str, Any]]:
    """Graph, operator, its name and the stored weights that it multiplies by, if any."""
    names = names_of(model)
    for graph in first_signature(model):
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
                constant = buffer.data is not None and len(buffer.data)
                yield graph, operator, name, graph.tensors[at] if constant else None


def first_signature(model: Any) -> list[Any]:
    """The graphs of `SIGNATURE`, with those of its loops; all, where the file has none such."""
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


def names_of(model: Any) -> list[str]:
    """The name of each of a .tflite's operator codes."""
    from ai_edge_litert import schema_py_generated as schema

    builtin = _names_in(schema.BuiltinOperator)
    names = []
    for code in model.operatorCodes:
        custom = (code.customCode or b"").decode()
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        names.append(CUSTOM + custom if custom else builtin[number])
    return names


def tensor_types() -> dict[int, str]:
    """The name of each of the format's types of tensors, such as ``INT8``."""
    from ai_edge_litert import schema_py_generated as schema

    return _names_in(schema.TensorType)


def _names_in(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if name.isupper()}


def signature_of(model: Any, signature: str) -> Any:
    """Its definition in a .tflite that has it."""
    return next(known for known in model.signatureDefs if known.signatureKey == signature.encode())


def places_of(maps: Sequence[Any]) -> dict[bytes, int]:
    """Tensor's name in a signature -> its place among the graph's tensors."""
    return {entry.name: entry.tensorIndex for entry in maps}


def same_code(model: Any, code: Any) -> int:
    """The place of an operator code in `model`, which gets it if it has none such."""
    for at, known in enumerate(model.operatorCodes):
        if vars(known) == vars(code):
            return at
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def builtin_code(model: Any, builtin: int) -> int:
    """Likewise, of a builtin operator that every version of the format has."""
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 1
    return same_code(model, code)


def add_graph(
    model: Any, graph: Any, key: str, inputs: dict[bytes, int], outputs: dict[bytes, int]
) -> None:
    """Adds a graph with the signature of it."""
    from ai_edge_litert import schema_py_generated as schema

    graph.inputs, graph.outputs = list(inputs.values()), list(outputs.values())
    model.subgraphs.append(graph)
    definition = schema.SignatureDefT()
    definition.signatureKey, definition.subgraphIndex = key.encode(), len(model.subgraphs) - 1
    definition.inputs, definition.outputs = [], []
    for ends, entries in ((inputs, definition.inputs), (outputs, definition.outputs)):
        for name, at in ends.items():
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name, at
            entries.append(entry)
    model.signatureDefs.append(definition)

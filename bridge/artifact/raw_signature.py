"""A .tflite's second signature, `io_spec.RAW_SIGNATURE`: raw landmarks in, probabilities out.

Its graph is the file's own first one with preprocessing before and a softmax behind, which is a
small .tflite that a route makes (`around`). Both are joined here, operator by operator: so the
first signature stays as it is to the bit, the weights are there once, and whatever the number
format of the model, what stands around it stays float.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from bridge.errors import ConversionError
from signbart.artifacts.compaction import read_model, write_model
from signbart.artifacts.graphs import (
    add_graph,
    builtin_code,
    graph_of,
    places_of,
    same_code,
    signature_of,
)
from signbart.errors import ArtifactError
from signbart.models.io_spec import RAW_SIGNATURE, SIGNATURE

_PREFIX = b"around/"  # of the names of tensors around the model


def add_raw_signature(path: Path, around: Path) -> None:
    """Gives a .tflite without metadata its second signature.

    Args:
        path: The file, rewritten. Where its inputs or outputs are integers, those of the second
            signature are real numbers nevertheless.
        around: A .tflite whose outputs are, among others, the inputs of `path`, and whose inputs
            may be its outputs, by name. What remains are the new signature's.

    Raises:
        ConversionError: The two do not fit.
    """
    model, added = read_model(path), read_model(around)
    _join(model, added)
    write_model(model, path)


def split_raw_signature(path: Path, core: Path, around: Path) -> bool:
    """The reverse: writes the file without its second signature, and what it was made with.

    Returns:
        Whether there is one; otherwise nothing is written.

    Raises:
        ArtifactError: There is one that `add_raw_signature` did not make.
    """
    model = read_model(path)
    at = graph_of(model, RAW_SIGNATURE)
    if at is None:
        return False
    if at != len(model.subgraphs) - 1:
        raise ArtifactError(f"{path}: its signature '{RAW_SIGNATURE}' is not of signbart convert")
    write_model(_taken_out(model), around)
    model = read_model(path)
    model.subgraphs.pop()
    key = RAW_SIGNATURE.encode()
    model.signatureDefs = [s for s in model.signatureDefs if s.signatureKey != key]
    write_model(model, core)
    return True


def _join(model: Any, added: Any) -> None:
    """Appends the graph of the second signature to `model`."""
    from ai_edge_litert import schema_py_generated as schema

    signature, outer = signature_of(model, SIGNATURE), added.signatureDefs[0]
    core = model.subgraphs[signature.subgraphIndex]
    around = added.subgraphs[outer.subgraphIndex]
    given, made = places_of(signature.inputs), places_of(signature.outputs)
    needs, gives = places_of(outer.inputs), places_of(outer.outputs)
    missing = sorted(name.decode() for name in set(given) - set(gives))
    if missing:
        raise ConversionError(f"what stands around the model gives no {' and no '.join(missing)}")
    _check_shapes(core, {**given, **made}, around, {**gives, **needs})

    # The model's tensors keep their places, so that its operators can be taken as they are.
    tensors = [copy.copy(tensor) for tensor in core.tensors]
    place = {at: len(tensors) + at for at in range(len(around.tensors))}
    first_buffer = len(model.buffers)
    model.buffers += added.buffers
    for tensor in around.tensors:
        moved = copy.copy(tensor)
        moved.name = _PREFIX + tensor.name
        moved.buffer += first_buffer
        tensors.append(moved)
    before, behind = _halves(around, {needs[name] for name in made if name in needs})

    # Where the model has integers, an operator converts; otherwise its tensor is the other's, too.
    feeding, reading, results = [], [], {}
    for name, at in given.items():
        if core.tensors[at].type == around.tensors[gives[name]].type:
            place[gives[name]] = at
        else:
            code = builtin_code(model, schema.BuiltinOperator.QUANTIZE)
            feeding.append(_conversion(code, place[gives[name]], at))
    for name, at in made.items():
        results[name] = at
        if core.tensors[at].type != schema.TensorType.FLOAT32:
            results[name] = len(tensors)
            tensors.append(_float_form(core.tensors[at]))
            code = builtin_code(model, schema.BuiltinOperator.DEQUANTIZE)
            reading.append(_conversion(code, at, results[name]))
        if name in needs:
            place[needs[name]] = results[name]

    codes = [same_code(model, code) for code in added.operatorCodes]
    for operator in around.operators:
        operator.opcodeIndex = codes[operator.opcodeIndex]
        operator.inputs = [at if at < 0 else place[at] for at in operator.inputs]
        operator.outputs = [place[at] for at in operator.outputs]
    inputs = {name: place[at] for name, at in needs.items() if name not in made}
    results |= {name: place[at] for name, at in gives.items() if name not in given}
    graph = schema.SubGraphT()
    graph.name, graph.tensors = RAW_SIGNATURE.encode(), tensors
    graph.operators = [*before, *feeding, *core.operators, *reading, *behind]
    add_graph(model, graph, RAW_SIGNATURE, inputs, results)


def _taken_out(model: Any) -> Any:
    """A model of what `_join` put around the first signature's graph, which has no integers."""
    from ai_edge_litert import schema_py_generated as schema

    signature, outer = signature_of(model, SIGNATURE), signature_of(model, RAW_SIGNATURE)
    core = model.subgraphs[signature.subgraphIndex]
    joined = model.subgraphs[outer.subgraphIndex]
    given, made = places_of(signature.inputs), places_of(signature.outputs)
    own = len(core.tensors)
    computed = set(range(own)) - set(given.values())
    kept = [o for o in joined.operators if not computed & set(map(int, o.outputs))]
    tensors = list(joined.tensors[own:])
    place = {own + at: at for at in range(len(tensors))}
    for at in (*given.values(), *made.values()):
        place[at] = len(tensors)
        tensors.append(joined.tensors[at])
    used = {int(at) for operator in kept for at in operator.inputs}
    for operator in kept:
        operator.inputs = [at if at < 0 else place[at] for at in map(int, operator.inputs)]
        operator.outputs = [place[at] for at in map(int, operator.outputs)]
    for tensor in tensors:
        tensor.name = tensor.name.removeprefix(_PREFIX)
    asked = {name: at for name, at in made.items() if at in used}
    inputs = {**places_of(outer.inputs), **asked}
    outputs = {n: at for n, at in places_of(outer.outputs).items() if n not in made} | given
    graph = schema.SubGraphT()
    graph.name, graph.tensors, graph.operators = SIGNATURE.encode(), tensors, kept
    model.subgraphs, model.signatureDefs = [], []
    inputs, outputs = ({n: place[at] for n, at in ends.items()} for ends in (inputs, outputs))
    add_graph(model, graph, SIGNATURE, inputs, outputs)
    return model


def _check_shapes(core: Any, its: dict[bytes, int], around: Any, theirs: dict[bytes, int]) -> None:
    """Refuses tensors of one name and different shapes."""
    for name in sorted(set(its) & set(theirs)):
        shapes = [list(core.tensors[its[name]].shape), list(around.tensors[theirs[name]].shape)]
        if shapes[0] != shapes[1]:
            raise ConversionError(
                f"{name.decode()} is {shapes[0]} in the model, and {shapes[1]} around it"
            )


def _halves(graph: Any, begins: set[int]) -> tuple[list[Any], list[Any]]:
    """The operators that need none of these tensors, and those that do, each in their order."""
    known, before, behind = set(begins), [], []
    for operator in graph.operators:
        if known & set(map(int, operator.inputs)):
            known |= set(map(int, operator.outputs))
            behind.append(operator)
        else:
            before.append(operator)
    return before, behind


def _conversion(code: int, source: int, target: int) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, [source], [target]
    return operator


def _float_form(tensor: Any) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    real = copy.copy(tensor)
    real.name, real.quantization = _PREFIX + tensor.name, None
    real.type = schema.TensorType.FLOAT32
    return real

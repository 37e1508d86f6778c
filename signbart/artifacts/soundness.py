"""Whether a .tflite's numbers of graphs, tensors, buffers and operators lead anywhere.

LiteRT trusts some of them: a signature of a graph that is not there, or a loop that runs itself,
ends the process. So they are compared before it sees the file.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from signbart.errors import ArtifactError
from signbart.memory import raise_shortage, read_whole


def require_sound(path: str | Path) -> None:
    """Compares every index in a .tflite with how many there are of what it names.

    A file is looked at once, as long as it stays the same.

    Raises:
        ArtifactError: One leads nowhere, or a graph runs itself; says which.
        OSError: The file cannot be read.
    """
    about = Path(path).stat()
    fault = _fault_in(str(path), about.st_mtime_ns, about.st_size)
    if fault:
        raise ArtifactError(f"{path} is a damaged .tflite file: {fault}")


@functools.lru_cache(maxsize=8)
def _fault_in(path: str, _changed: int, _size: int) -> str:
    from ai_edge_litert import schema_py_generated as schema

    content = read_whole(Path(path))
    try:
        model = schema.Model.GetRootAs(content, 0)
        return next(_faults(model, schema), "")
    # A flatbuffer is offsets; damaged ones lead anywhere.
    except Exception as error:
        raise_shortage(path, error)
        return f"{type(error).__name__}: {error}"


def _faults(model: Any, schema: Any) -> Iterator[str]:
    graphs = [model.Subgraphs(at) for at in range(model.SubgraphsLength())]
    codes = [model.OperatorCodes(at) for at in range(model.OperatorCodesLength())]
    known = {number for name, number in vars(schema.BuiltinOperator).items() if name.isupper()}
    if not graphs:
        yield "it has no graph"
    for code in codes:
        if max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) not in known:
            yield "it has an operator of a number that LiteRT does not know"
    for at in range(model.SignatureDefsLength()):
        signature = model.SignatureDefs(at)
        name = (signature.SignatureKey() or b"").decode("utf-8", "replace")
        number = signature.SubgraphIndex()
        if number >= len(graphs):
            yield f"signature '{name}' is of graph {number}, and it has {len(graphs)}"
            return
        tensors = graphs[number].TensorsLength()
        ends = [signature.Inputs(i) for i in range(signature.InputsLength())]
        ends += [signature.Outputs(i) for i in range(signature.OutputsLength())]
        if any(end.TensorIndex() >= tensors for end in ends):
            yield f"signature '{name}' names a tensor that is not there"
    runs: dict[int, set[int]] = {}
    running = _running(schema)
    for number, graph in enumerate(graphs):
        runs[number] = set()
        tensors = graph.TensorsLength()
        if any(graph.Tensors(i).Buffer() >= model.BuffersLength() for i in range(tensors)):
            yield f"graph {number} has a tensor of a buffer that is not there"
        rows = [graph.InputsAsNumpy(), graph.OutputsAsNumpy()]
        for at in range(graph.OperatorsLength()):
            operator = graph.Operators(at)
            rows += [operator.InputsAsNumpy(), operator.OutputsAsNumpy()]
            if operator.OpcodeIndex() >= len(codes):
                yield f"operator {at} of graph {number} is of no kind"
                return
            # Of those with such options alone, for unpacking them takes long.
            if operator.BuiltinOptionsType() in running or operator.BuiltinOptions2Type():
                runs[number] |= _graphs_run_by(schema.OperatorT.InitFromObj(operator))
        # -1 is an input that is left out. An empty vector is the number 0 here.
        used = [row for row in rows if not isinstance(row, int)]
        if any(row.size and not -1 <= row.min() <= row.max() < tensors for row in used):
            yield f"graph {number} uses a tensor that is not there"
    if any(not 0 <= at < len(graphs) for others in runs.values() for at in others):
        yield "a loop or branch is of a graph that is not there"
    elif _runs_itself(runs):
        yield "a graph runs itself"


def _running(schema: Any) -> set[int]:
    """Numbers of the options that name graphs."""
    names = ("WhileOptions", "IfOptions", "CallOptions", "CallOnceOptions")
    return {getattr(schema.BuiltinOptions, name) for name in names}


def _graphs_run_by(operator: Any) -> set[int]:
    parts = [part for part in (operator.builtinOptions, operator.builtinOptions2) if part]
    return {at for part in parts for name, at in vars(part).items() if "subgraph" in name.lower()}


def _runs_itself(runs: Mapping[int, set[int]]) -> bool:
    ending: set[int] = set()
    while more := {at for at, others in runs.items() if at not in ending and others <= ending}:
        ending |= more
    return len(ending) < len(runs)

"""A .tflite whose numbers lead nowhere is refused before LiteRT sees it, whose process some end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from bridge.artifact.runtimes import FloatView, open_runtime
from signbart.artifacts.compaction import read_model, write_model
from signbart.artifacts.contents import operators
from signbart.artifacts.soundness import require_sound
from signbart.errors import ArtifactError

EXAMPLE = Path(__file__).parents[3] / "exports/example/demo_litert_dynamic_int8.tflite"


def no_second_graph(model: Any) -> None:
    del model.subgraphs[1:]


def no_graph(model: Any) -> None:
    model.subgraphs = []


def unknown_output(model: Any) -> None:
    model.signatureDefs[0].outputs[0].tensorIndex = 10**6


def unknown_kind(model: Any) -> None:
    model.subgraphs[0].operators[3].opcodeIndex = 10**6


def unknown_operator(model: Any) -> None:
    model.operatorCodes[0].builtinCode = 9999


def unknown_tensor(model: Any) -> None:
    operator = model.subgraphs[0].operators[3]
    operator.inputs = np.full_like(operator.inputs, 10**6)


def call(graph: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        operator = model.subgraphs[0].operators[0]
        operator.builtinOptionsType = schema.BuiltinOptions.CallOptions
        operator.builtinOptions = schema.CallOptionsT()
        operator.builtinOptions.subgraph = graph

    return change


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (no_graph, "it has no graph"),
        (no_second_graph, "signature 'landmarks' is of graph 1, and it has 1"),
        (unknown_output, "signature 'serving_default' names a tensor that is not there"),
        (unknown_kind, "operator 3 of graph 0 is of no kind"),
        (unknown_operator, "an operator of a number that LiteRT does not know"),
        (unknown_tensor, "graph 0 uses a tensor that is not there"),
        (call(7), "a loop or branch is of a graph that is not there"),
        (call(0), "a graph runs itself"),
    ],
)
def test_what_leads_nowhere_is_named(change, pattern, tmp_path):
    model, path = read_model(EXAMPLE), tmp_path / "odd.tflite"
    change(model)
    write_model(model, path)
    for read in (open_runtime, operators):
        with pytest.raises(ArtifactError, match=rf"odd\.tflite is a damaged .*: .*{pattern}"):
            read(path)


def test_a_file_is_looked_at_again_when_it_changed(tmp_path):
    path = tmp_path / "odd.tflite"
    path.write_bytes(EXAMPLE.read_bytes())
    require_sound(path)
    content = bytearray(EXAMPLE.read_bytes())
    content[0:4] = (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(content + b"\0")
    with pytest.raises(ArtifactError, match=r"odd\.tflite is a damaged"):
        require_sound(path)


def test_what_fails_at_its_first_call_is_named(tmp_path):
    model, path = read_model(EXAMPLE), tmp_path / "odd.tflite"
    at = next(i for i, o in enumerate(model.subgraphs[0].operators) if len(o.inputs) > 2)
    model.subgraphs[0].operators[at].inputs = model.subgraphs[0].operators[at].inputs[:1]
    write_model(model, path)
    with pytest.raises(ArtifactError, match=r"odd\.tflite cannot be run by LiteRT"):
        runtime = FloatView(open_runtime(path))
        runtime({t.name: np.ones([s or 1 for s in t.shape], t.dtype) for t in runtime.spec.inputs})

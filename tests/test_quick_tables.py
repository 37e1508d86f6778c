"""The tests' reader of flatbuffers against the library's own, on a file sound and damaged."""

import random
from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers.table import Table

from tests import quick_tables

EXAMPLE = Path("exports/example/demo_litert_dynamic_int8.tflite")


def own(table: Table, entry: int) -> int:
    """As flatbuffers has it."""
    from flatbuffers import number_types as types

    entries = table.Pos - table.Get(types.SOffsetTFlags, table.Pos)
    if entry < table.Get(types.VOffsetTFlags, entries):
        return table.Get(types.VOffsetTFlags, entries + entry)
    return 0


def read(content: bytes) -> str:
    """Names of all tensors, or the error."""
    try:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        return repr([[tensor.name for tensor in graph.tensors] for graph in model.subgraphs])
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("changes", [0, 1, 10, 100, 1000])
def test_it_reads_and_refuses_alike(changes, monkeypatch):
    content, draw = bytearray(EXAMPLE.read_bytes()), random.Random(changes)
    for _ in range(changes):
        content[draw.randrange(3000)] = draw.randrange(256)
    found = []
    for reader in (quick_tables.offset, own):
        monkeypatch.setattr(Table, "Offset", reader)
        found.append(read(bytes(content)))
    assert found[0] == found[1]

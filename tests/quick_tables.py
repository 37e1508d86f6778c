"""Reads a flatbuffer's offsets by three calls; the library's own reader makes a dozen.

The tests unpack hundreds of .tflite files. What this answers and refuses is what the library does.
"""

import struct

from flatbuffers.table import Table

_signed, _short = struct.Struct("<i").unpack_from, struct.Struct("<H").unpack_from


def offset(table: Table, entry: int) -> int:
    """`Table.Offset`: where a field lies in a table, and 0 where it has its default."""
    content, at = table.Bytes, table.Pos
    entries = at - _signed(content, at)[0]
    if entries < 0 or at < 0:
        raise TypeError(f"bad number {min(entries, at)} for type uint32")
    return _short(content, entries + entry)[0] if entry < _short(content, entries)[0] else 0


def install() -> None:
    """For the rest of the process, and those that are forked from it."""
    Table.Offset = offset

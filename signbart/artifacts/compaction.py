"""Makes a .tflite smaller without changing what it computes.

Converters and the quantizer store one copy of everything for every tensor: shapes, zero points (a
vector of zeros as long as the layer is wide, for each weight and each bias), and names that repeat
the whole path of Python classes. In an int8 file of this model's size that is a fifth of all bytes.
A flatbuffer may refer to one vector from many places, so equal ones are stored once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from signbart.artifacts.soundness import require_sound
from signbart.files import atomic_write

# A component of a name by LiteRT Torch: the class with its module, and behind it the attribute.
_CLASS_AND_ATTRIBUTE = re.compile(r"(?:\w+\.)+_*[A-Z][A-Za-z0-9]*(?:_|$)")
_ALIGNMENT = 16  # of constants, as the file format asks


def compact(path: Path) -> None:
    """Rewrites a .tflite that carries no metadata yet.

    Equal vectors are stored once, tensors between the inputs and outputs get short names that are
    still unique, and what says nothing (empty buffers and quantizations, observed ranges) goes.
    """
    model = read_model(path)
    for graph in model.subgraphs:
        outside = {*graph.inputs, *graph.outputs}
        inner = [tensor for at, tensor in enumerate(graph.tensors) if at not in outside]
        kept = {graph.tensors[at].name for at in outside}
        for tensor, name in zip(inner, _short_names([t.name for t in inner], kept), strict=True):
            tensor.name = name
        for tensor in graph.tensors:
            _drop_what_says_nothing(tensor)
    write_model(model, path)


def read_model(path: Path) -> Any:
    """A .tflite's tables as objects with all constants, the caller's own; see `read_tables`."""
    from ai_edge_litert import schema_py_generated as schema

    require_sound(path)
    content = path.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    take_in_buffers(model, content)
    return model


def write_model(model: Any, path: Path) -> None:
    """Writes a .tflite: equal vectors once, and no constants that nothing reads."""
    _keep_buffers_in_use(model)
    builder = _sharing_builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    with atomic_write(path) as beside:
        beside.write_bytes(builder.Output())


def take_in_buffers(model: Any, content: bytes) -> None:
    """Constants that lie behind the flatbuffer, where the quantizer puts them, come into it."""
    for buffer in model.buffers or ():
        if buffer.offset:
            start = buffer.offset
            buffer.data = np.frombuffer(content[start : start + buffer.size], np.uint8)
            buffer.offset = buffer.size = 0


def _drop_what_says_nothing(tensor: Any) -> None:
    quantization = tensor.quantization
    if quantization is not None:
        quantization.min = quantization.max = None
        if quantization.scale is None or not len(quantization.scale):
            tensor.quantization = None
    if tensor.shapeSignature is not None and list(tensor.shapeSignature) == list(tensor.shape):
        tensor.shapeSignature = None


def _keep_buffers_in_use(model: Any) -> None:
    """Every tensor without constants refers to buffer 0, which the format reserves for that."""
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in model.metadata or ()}
    places = {}
    kept = [model.buffers[0]]
    for old, buffer in enumerate(model.buffers):
        if old in used and old and buffer.data is not None and len(buffer.data):
            places[old] = len(kept)
            kept.append(buffer)
    model.buffers = kept
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = places.get(tensor.buffer, 0)
    for entry in model.metadata or ():
        entry.buffer = places.get(entry.buffer, 0)


def _short_names(names: Sequence[bytes], taken: set[bytes]) -> list[bytes]:
    """Names without Python classes, each different from all others and from `taken`.

    Of a fused operator, whose name lists its parts, the first of those that lie deepest in the
    model stays.
    """
    taken, short = set(taken), []
    for name in names:
        parts = [_without_classes(part) for part in name.decode().split(";")]
        parts = [part for part in parts if part] or ["tensor"]
        deepest = max(part.count("/") for part in parts)
        base = next(part for part in parts if part.count("/") == deepest)
        unique, number = base.encode(), 1
        while unique in taken:
            number += 1
            unique = f"{base}_{number}".encode()
        taken.add(unique)
        short.append(unique)
    return short


def _without_classes(name: str) -> str:
    parts = [_CLASS_AND_ATTRIBUTE.sub("", part) for part in name.split("/")]
    return "/".join(part for part in parts if part)


def _sharing_builder() -> Any:
    """A flatbuffer builder that stores equal vectors and strings once."""
    import flatbuffers

    class SharingBuilder(flatbuffers.Builder):
        def __init__(self):
            super().__init__(1 << 20)
            self._written: dict[tuple[str, bytes], int] = {}

        def CreateNumpyVector(self, x):
            key = (x.dtype.str, x.tobytes())
            if key not in self._written:
                if x.dtype == np.uint8:
                    # 4 bytes of length stand before the first element, which is to be aligned.
                    self.Prep(_ALIGNMENT, x.size)
                self._written[key] = super().CreateNumpyVector(x)
            return self._written[key]

        def CreateString(self, s, *args, **kwargs):
            key = ("text", s if isinstance(s, bytes) else s.encode())
            if key not in self._written:
                self._written[key] = super().CreateString(s, *args, **kwargs)
            return self._written[key]

    return SharingBuilder()

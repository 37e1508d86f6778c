"""Microseconds by operator, measured inside LiteRT by its own profiler.

The Python wheel shows the profiler to nobody, so its library is called through ctypes: the C
interface of ai-edge-litert 2.x (litert/c/litert_profiler.h and its neighbours), as far as it is
needed. Times come in whole microseconds: what takes less counts as 0, and is found in the
difference between the whole call and the sum.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signbart.artifacts.contents import operators
from signbart.errors import ArtifactError

_DTYPES = {0: ("float32", 1), 2: ("int32", 2), 9: ("int8", 9), 7: ("int16", 7)}  # schema -> LiteRT
_CPU = 1
_WRITE = 1  # lock mode
_INVOKE = "Invoke"
_WARM_UP = 20


class _Layout(ctypes.Structure):
    _fields_ = (
        ("rank", ctypes.c_uint32),  # 7 bits; the eighth says whether there are strides
        ("dimensions", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    )


class _TensorType(ctypes.Structure):
    _fields_ = (("element", ctypes.c_int), ("layout", _Layout))


class _Event(ctypes.Structure):
    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("start", ctypes.c_uint64),
        ("microseconds", ctypes.c_uint64),
        ("memory", ctypes.c_uint64 * 6),
        ("metadata", ctypes.c_uint64 * 2),
        ("source", ctypes.c_int),
    )


@dataclass(frozen=True)
class OperatorProfile:
    """Medians over the calls of one model, in microseconds.

    Attributes:
        whole: One call.
        operators: Kind of operator, as the runtime names it -> how many, and their sum.
    """

    whole: float
    operators: dict[str, tuple[int, float]]


def profile(path: Path, rounds: int = 200) -> OperatorProfile:
    """Runs a .tflite on one thread, on random numbers and a full mask.

    Args:
        path: The model.
        rounds: Calls that count, at least 1.

    Raises:
        ArtifactError: The file is missing or is no .tflite.
        RuntimeError: A call of the library failed; names it.
    """
    if path.suffix != ".tflite":
        raise ArtifactError(f"{path} is not a .tflite file")
    operators(path)  # refuses what is no model
    library = ctypes.CDLL(str(_library()))

    def call(name: str, *arguments: object) -> None:
        status = getattr(library, name)(*arguments)
        if status:
            raise RuntimeError(f"{name} of {_library().name} returned {status}")

    def create(name: str, *arguments: object) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        call(name, *arguments, ctypes.byref(handle))
        return handle

    environment = create("LiteRtCreateEnvironment", 0, None)
    model = create("LiteRtCreateModelFromFile", environment, str(path).encode())
    options = create("LiteRtCreateOptions")
    call("LiteRtSetOptionsHardwareAccelerators", options, _CPU)
    payload = ctypes.create_string_buffer(b"enable_profiling = true\n")
    keep = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda pointer: None)
    opaque = create(
        "LiteRtCreateOpaqueOptions",
        b"runtime_options_string",
        ctypes.cast(payload, ctypes.c_void_p),
        keep,
    )
    call("LiteRtAddOpaqueOptions", options, opaque)
    compiled = create("LiteRtCreateCompiledModel", environment, model, options)
    profiler = create("LiteRtCompiledModelGetProfiler", compiled)

    def buffers(side: str, tensors: list[tuple[int, np.ndarray]]):
        made = []
        for index, (element, array) in enumerate(tensors):
            needs = create(
                f"LiteRtGetCompiledModel{side}BufferRequirements",
                compiled,
                ctypes.c_size_t(0),
                ctypes.c_size_t(index),
            )
            kind = _TensorType(element, _Layout(array.ndim))
            kind.layout.dimensions[: array.ndim] = array.shape
            buffer = create(
                "LiteRtCreateManagedTensorBufferFromRequirements",
                environment,
                ctypes.byref(kind),
                needs,
            )
            address = ctypes.c_void_p()
            call("LiteRtLockTensorBuffer", buffer, ctypes.byref(address), _WRITE)
            ctypes.memmove(address, array.ctypes.data, array.nbytes)
            call("LiteRtUnlockTensorBuffer", buffer)
            made.append(buffer)
        return (ctypes.c_void_p * len(made))(*made)

    inputs, outputs = (buffers(*side) for side in _tensors(path))
    sizes = ctypes.c_size_t(len(inputs)), ctypes.c_size_t(len(outputs))

    def run() -> None:
        call(
            "LiteRtRunCompiledModel", compiled, ctypes.c_size_t(0), sizes[0], inputs, sizes[1],
            outputs,
        )  # fmt: skip

    for _ in range(_WARM_UP):
        run()
    call("LiteRtStartProfiler", profiler)
    for _ in range(rounds):
        run()
    call("LiteRtStopProfiler", profiler)
    count = ctypes.c_int()
    call("LiteRtGetNumProfilerEvents", profiler, ctypes.byref(count))
    events = (_Event * count.value)()
    call("LiteRtGetProfilerEvents", profiler, count, events)
    return _medians([(event.tag.decode(), event.microseconds) for event in events])


def _medians(events: list[tuple[str, int]]) -> OperatorProfile:
    """Calls with the usual number of events; others were cut by the profiler's buffer."""
    calls: list[list[tuple[str, int]]] = []
    for event in events:
        if event[0] == _INVOKE:
            calls.append([])
        if calls and not event[0].startswith("LiteRT::"):
            calls[-1].append(event)
    usual, _ = Counter(len(events) for events in calls).most_common(1)[0]
    whole = [events for events in calls if len(events) == usual]
    medians = np.median([[time for _, time in events] for events in whole], axis=0)
    operators: dict[str, tuple[int, float]] = {}
    for (name, _), time in zip(whole[0][1:], medians[1:], strict=True):
        number, total = operators.get(name, (0, 0.0))
        operators[name] = (number + 1, total + float(time))
    return OperatorProfile(float(medians[0]), operators)


def _tensors(path: Path):
    """(side, [(LiteRT's element type, array)]) of inputs and of outputs."""
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0).subgraphs[0]
    rng = np.random.default_rng(0)
    for side, indices in (("Input", graph.inputs), ("Output", graph.outputs)):
        tensors = []
        for index in indices:
            tensor = graph.tensors[index]
            name, element = _DTYPES[tensor.type]
            values = np.ones(tensor.shape) if name != "float32" else rng.random(tensor.shape)
            tensors.append((element, values.astype(name)))
        yield side, tensors


def _library() -> Path:
    import ai_edge_litert

    return Path(ai_edge_litert.__file__).parent / "libLiteRt.so"

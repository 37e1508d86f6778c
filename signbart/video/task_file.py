"""The HolisticLandmarker's model file: whether it is one, and one assembled from an older package.

A ``.task`` is a zip of uncompressed .tflite files. The official one is to be downloaded by hand;
where that cannot be, the parts that MediaPipe's older wheel carries make one. They want four
things for it: the names that Tasks use, the range of the pixels as metadata, a face of 478 points
where the older one has 468, and a model of blendshapes, which is always run and never used.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

from signbart.errors import SignBartError
from signbart.files import atomic_write
from signbart.memory import raise_shortage

ADDRESS = (
    "https://storage.googleapis.com/mediapipe-models/holistic_landmarker/holistic_landmarker/"
    "float16/latest/holistic_landmarker.task"
)
# What carries the parts, under MediaPipe's own licence (Apache-2.0).
WHEEL_COMMAND = (
    "pip download --no-deps --only-binary :all: --python-version 3.11 mediapipe==0.10.21"
)
_FACE, _BLENDSHAPES = "face_landmarks_detector.tflite", "face_blendshapes.tflite"
# Name in the task -> file in the wheel, and (mean, deviation) that bring pixels from 0 … 255 into
# the range that the older graphs fed: -1 … 1 to the two detectors, 0 … 1 to the others.
_SIGNED, _UNSIGNED = (127.5, 127.5), (0.0, 255.0)
_PARTS: dict[str, tuple[str, tuple[float, float]]] = {
    "face_detector.tflite": ("face_detection/face_detection_short_range.tflite", _SIGNED),
    _FACE: ("face_landmark/face_landmark.tflite", _UNSIGNED),
    "hand_landmarks_detector.tflite": ("hand_landmark/hand_landmark_full.tflite", _UNSIGNED),
    "hand_roi_refinement.tflite": ("holistic_landmark/hand_recrop.tflite", _UNSIGNED),
    "pose_detector.tflite": ("pose_detection/pose_detection.tflite", _SIGNED),
    "pose_landmarks_detector.tflite": ("pose_landmark/pose_landmark_full.tflite", _UNSIGNED),
}
_NAMES = {*_PARTS, _BLENDSHAPES}
_LARGEST = 64 * 2**20  # bytes of a part; the largest has 6 MB
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same parts give the same bytes
_IRISES = 10  # points that the newer face has behind the older one's 468
_BUILTIN = {"SLICE": 65, "CONCATENATION": 2, "RESHAPE": 22}  # TensorFlow Lite's numbers


def check_task(path: Path) -> None:
    """Refuses what is no HolisticLandmarker's model file.

    Raises:
        SignBartError: It is missing, or another one; says where to get it.
    """
    remedy = (
        f"download it from {ADDRESS}, or make one of an older package's parts: {WHEEL_COMMAND}, "
        f"then signbart landmarks --assemble-task WHEEL --task {path}"
    )
    if not path.is_file():
        raise SignBartError(f"{path}: no such task file; {remedy}")
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError):
        raise SignBartError(f"{path}: no task file, or a truncated one; {remedy}") from None
    lacking = sorted(_NAMES - names)
    if lacking:
        raise SignBartError(
            f"{path}: not a HolisticLandmarker's task file: it lacks {', '.join(lacking)}; {remedy}"
        )


def assemble_task(wheel: Path, path: Path) -> None:
    """Writes a task file of the parts that MediaPipe's wheel of version 0.10.21 carries.

    Raises:
        SignBartError: The wheel cannot be read or lacks a part, or `path` cannot be written.
    """
    parts = {
        name: _with_range(_read(wheel, part), pixels, points=_IRISES if name == _FACE else 0)
        for name, (part, pixels) in _PARTS.items()
    }
    parts[_BLENDSHAPES] = _blendshapes()
    with atomic_write(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(parts):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), parts[name])


def _read(wheel: Path, part: str) -> bytes:
    name = f"mediapipe/modules/{part}"
    try:
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(name).file_size > _LARGEST:
                raise SignBartError(f"{wheel}: {name} is larger than any model of MediaPipe's")
            return archive.read(name)
    except KeyError:
        raise SignBartError(
            f"{wheel}: holds no {name}; the wheel of version 0.10.21 does: {WHEEL_COMMAND}"
        ) from None
    except (OSError, zipfile.BadZipFile, zlib.error, ValueError) as error:
        raise SignBartError(f"{wheel}: cannot be read as a wheel: {error}") from None


def _with_range(model: bytes, pixels: tuple[float, float], points: int) -> bytes:
    """A part that says which range its pixels have; with `points`, its first ones repeated."""
    from ai_edge_litert import schema_py_generated as schema
    from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata

    try:
        tree = schema.ModelT.InitFromPackedBuf(model, 0)
        graph = tree.subgraphs[0]
    except Exception as error:  # a flatbuffer that is none raises whatever comes first
        raise_shortage("a part of the wheel", error)
        raise SignBartError(f"a part of the wheel is no .tflite file: {error}") from None
    if points:
        _repeat_first(tree, graph, schema, points)
    normalization = metadata.NormalizationOptionsT()
    normalization.mean, normalization.std = [pixels[0]], [pixels[1]]
    unit = metadata.ProcessUnitT()
    unit.optionsType = metadata.ProcessUnitOptions.NormalizationOptions
    unit.options = normalization
    image = metadata.TensorMetadataT()
    image.processUnits = [unit]
    of_graph = metadata.SubGraphMetadataT()
    of_graph.inputTensorMetadata = [image]
    of_graph.outputTensorMetadata = [metadata.TensorMetadataT() for _ in graph.outputs]
    of_model = metadata.ModelMetadataT()
    of_model.subgraphMetadata = [of_graph]
    entry = schema.MetadataT()
    entry.name, entry.buffer = "TFLITE_METADATA", len(tree.buffers)
    tree.buffers.append(_buffer(schema, _packed(of_model, b"M001")))
    others = [one for one in tree.metadata or [] if one.name != b"TFLITE_METADATA"]
    tree.metadata = [*others, entry]
    return _packed(tree, b"TFL3")


def _repeat_first(tree: Any, graph: Any, schema: Any, points: int) -> None:
    """Puts the first `points` of the first output behind all of it, (x, y, z) each.

    Tasks take 478 points of a face without looking how many there are. The last ten, the irises,
    are not used here; but the next frame looks for the face in the box around all of them, which
    zeros would stretch.
    """
    whole = graph.outputs[0]
    length = int(graph.tensors[whole].shape[-1])
    begin = _constant(tree, graph, schema, "irises_begin", [0, 0, 0, 0])
    size = _constant(tree, graph, schema, "irises_size", [1, 1, 1, 3 * points])
    first = _tensor(graph, schema, "irises", [1, 1, 1, 3 * points])
    joined = _tensor(graph, schema, "landmarks_478", [1, 1, 1, length + 3 * points])
    _operator(tree, graph, schema, "SLICE", [whole, begin, size], first)
    options = schema.ConcatenationOptionsT()
    options.axis = 3
    _operator(tree, graph, schema, "CONCATENATION", [whole, first], joined, options)
    graph.outputs = [joined, *graph.outputs[1:]]


def _blendshapes() -> bytes:
    """A model of the right shape, (1, 146, 2) -> (52,), whose numbers mean nothing."""
    from ai_edge_litert import schema_py_generated as schema

    tree, graph = schema.ModelT(), schema.SubGraphT()
    tree.version, tree.buffers, tree.operatorCodes = 3, [_buffer(schema, None)], []
    tree.subgraphs, tree.description = [graph], "no blendshapes"
    graph.tensors, graph.operators = [], []
    points = _tensor(graph, schema, "input_points", [1, 146, 2])
    begin = _constant(tree, graph, schema, "begin", [0, 0, 0])
    size = _constant(tree, graph, schema, "size", [1, 26, 2])
    shape = _constant(tree, graph, schema, "shape", [52])
    some = _tensor(graph, schema, "some", [1, 26, 2])
    output = _tensor(graph, schema, "output", [52])
    _operator(tree, graph, schema, "SLICE", [points, begin, size], some)
    options = schema.ReshapeOptionsT()
    options.newShape = [52]
    _operator(tree, graph, schema, "RESHAPE", [some, shape], output, options)
    graph.inputs, graph.outputs = [points], [output]
    return _packed(tree, b"TFL3")


def _buffer(schema: Any, content: bytes | None) -> Any:
    buffer = schema.BufferT()
    buffer.data = None if content is None else list(content)
    return buffer


def _constant(tree: Any, graph: Any, schema: Any, name: str, values: list[int]) -> int:
    index = _tensor(graph, schema, name, [len(values)])
    graph.tensors[index].type = schema.TensorType.INT32
    graph.tensors[index].buffer = len(tree.buffers)
    content = b"".join(value.to_bytes(4, "little") for value in values)
    tree.buffers.append(_buffer(schema, content))
    return index


def _tensor(graph: Any, schema: Any, name: str, shape: list[int]) -> int:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, 0, 0  # FLOAT32
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _operator(
    tree: Any,
    graph: Any,
    schema: Any,
    name: str,
    inputs: list[int],
    output: int,
    options: Any = None,
) -> None:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = _BUILTIN[name]
    code.version = 1
    tree.operatorCodes.append(code)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(tree.operatorCodes) - 1
    operator.inputs, operator.outputs = inputs, [output]
    if options is not None:
        kind = type(options).__name__.removesuffix("T")
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        operator.builtinOptions = options
    graph.operators.append(operator)


def _packed(tree: Any, identifier: bytes) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), identifier)
    return bytes(builder.Output())

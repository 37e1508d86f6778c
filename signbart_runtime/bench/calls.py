"""One bare call of any model file, whoever made it, for the clock.

Inputs are made from what the file says of them: random numbers from 0 to 1 for floats, ones for
integers, which masks and counts of frames both take.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bridge.artifact.runtimes import SILENT
from signbart.artifacts.soundness import require_sound
from signbart.errors import ArtifactError
from signbart.memory import raise_shortage

Call = Callable[[], object]
_DTYPES = {"tensor(float)": "float32", "tensor(int32)": "int32", "tensor(int64)": "int64"}


def open_call(path: Path, threads: int, frames: int | None, seed: int) -> Call:
    """What runs the file once.

    Args:
        path: A .tflite, .onnx or .pte.
        threads: That the runtime may take; ExecuTorch lets nobody in Python choose, and takes a
            thread a core that the process may run on.
        frames: For each size that the file leaves open, but a batch, which is 1.
        seed: Of the random numbers.

    Raises:
        ArtifactError: It cannot be opened or run, its ending is another, or sizes are open and
            `frames` is None.
    """
    opened = {".tflite": _tflite, ".onnx": _onnx, ".pte": _executorch}.get(path.suffix)
    if opened is None:
        raise ArtifactError(
            f"{path}: no runtime for '{path.suffix}' files; known: .tflite, .onnx, .pte"
        )
    if not path.is_file():
        raise ArtifactError(f"no {path.suffix} at {path}")
    try:
        call = opened(path, threads, _Inputs(path, frames, seed))
        call()
    except (ArtifactError, ModuleNotFoundError):
        raise
    # Each runtime has classes of its own for a file that it cannot run.
    except Exception as error:
        raise_shortage(path, error)
        line = " ".join(str(error).split())[:300]
        raise ArtifactError(f"{path} cannot be run: {line or type(error).__name__}") from None
    return call


class _Inputs:
    """Arrays for a file's inputs."""

    def __init__(self, path: Path, frames: int | None, seed: int):
        self._path, self._frames = path, frames
        self._rng = np.random.default_rng(seed)

    def __call__(self, shape: Sequence[Any], dtype: str) -> np.ndarray:
        sizes = [1 if at == 0 and not _is_fixed(size) else size for at, size in enumerate(shape)]
        if self._frames is None and not all(map(_is_fixed, sizes)):
            raise ArtifactError(
                f"{self._path} leaves sizes open, {tuple(shape)}: say how many frames with --frames"
            )
        sizes = [size if _is_fixed(size) else self._frames for size in sizes]
        if np.issubdtype(np.dtype(dtype), np.floating):
            return self._rng.random(sizes).astype(dtype)
        return np.ones(sizes, dtype)


def _is_fixed(size: Any) -> bool:
    return isinstance(size, int | np.integer) and size > 0


def _tflite(path: Path, threads: int, inputs: _Inputs) -> Call:
    from ai_edge_litert.interpreter import Interpreter

    require_sound(path)
    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    for tensor in interpreter.get_input_details():
        shape = tensor.get("shape_signature", tensor["shape"])
        if not all(map(_is_fixed, shape)):
            interpreter.resize_tensor_input(tensor["index"], inputs(shape, "int8").shape)
    interpreter.allocate_tensors()
    for tensor in interpreter.get_input_details():
        dtype = np.dtype(tensor["dtype"]).name
        interpreter.set_tensor(tensor["index"], inputs(tensor["shape"], dtype))
    return interpreter.invoke


def _onnx(path: Path, threads: int, inputs: _Inputs) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = {
        node.name: inputs(node.shape, _DTYPES.get(node.type, node.type))
        for node in session.get_inputs()
    }
    names = [node.name for node in session.get_outputs()]
    return lambda: session.run(names, given)


def _executorch(path: Path, _: int, inputs: _Inputs) -> Call:
    if importlib.util.find_spec("executorch") is None:
        raise ArtifactError(
            f"{path}: ExecuTorch, which is no part of this project, runs it: pip install executorch"
        )
    import torch
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")
    kinds = {6: torch.float32, 3: torch.int32, 4: torch.int64}  # c10's numbers of dtypes
    given = []
    for at in range(method.metadata.num_inputs()):
        tensor = method.metadata.input_tensor_meta(at)
        dtype = str(kinds[tensor.dtype()]).removeprefix("torch.")
        given.append(torch.from_numpy(inputs(tensor.sizes(), dtype)))
    return lambda: method.execute(given)

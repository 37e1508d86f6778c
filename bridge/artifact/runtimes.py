"""Every way to run a model behind one call: dict of arrays in, dict of arrays out, by name.

Nothing is resampled, padded or cast on the way; what does not fit is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from signbart.artifacts.soundness import require_sound
from signbart.errors import ArtifactError, SignBartError
from signbart.memory import raise_shortage
from signbart.models import io_spec
from signbart.models.io_spec import LANDMARKS, RAW_SIGNATURE, SIGNATURE, IOSpec, TensorSpec

if TYPE_CHECKING:
    import keras
    from torch import nn

    from signbart.configuration.schema import RunConfig

Arrays = Mapping[str, np.ndarray]
# Of ONNX Runtime's log levels that of fatal errors: all others it raises, too, and its log has a
# file's names as they are.
SILENT = 4


class Runtime(Protocol):
    """A model that can be called."""

    name: str
    spec: IOSpec

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Runs the model; raises `RuntimeInputError` where `inputs` do not fit `spec`."""


class TorchRuntime:
    """The reference, in inference mode, on the CPU."""

    def __init__(self, model: nn.Module, config: RunConfig, name: str = "torch"):
        self.name = name
        self.spec = io_spec(config, batch=None, frames=None)
        self._model = model.eval()

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Runs the model; see `Runtime`."""
        self.spec.check_inputs(inputs, self.name)
        return self._run(inputs)

    def _run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        import torch

        with torch.inference_mode():
            tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
            outputs = self._model(**tensors)
        if isinstance(outputs, torch.Tensor):  # a model with one output need not name it
            outputs = {self.spec.outputs[0].name: outputs}
        return {name: output.numpy() for name, output in outputs.items()}


@contextmanager
def faults_of(path: str | Path, runtime: str) -> Iterator[None]:
    """Turns what a runtime raises, whatever it is, into an error that names the file.

    Some graphs fail when they are loaded, some at the first call. ONNX Runtime's classes derive
    from nothing narrower than Exception, and LiteRT raises what it likes.

    Raises:
        ArtifactError: The file cannot be run.
        MemoryShortageError: There is too little; that says nothing of the file.
    """
    try:
        yield
    except SignBartError:
        raise
    except Exception as error:
        raise_shortage(path, error)
        raise ArtifactError(f"{path} cannot be run by {runtime}: {error}") from error


class TFLiteRuntime:
    """A .tflite file, through its named signature.

    Args:
        path: The file.
        num_threads: Threads of the interpreter.
        signature: Which of its signatures.

    Raises:
        ArtifactError: The file is missing or damaged, needs operators that plain LiteRT does not
            have, or has no signature of that name.
    """

    def __init__(self, path: str | Path, num_threads: int = 1, signature: str = SIGNATURE):
        from ai_edge_litert.interpreter import Interpreter

        self.name = Path(path).name
        self._path, self._num_threads = Path(path), num_threads
        if not Path(path).is_file():
            raise ArtifactError(f"no .tflite at {path}")
        require_sound(path)
        with faults_of(path, "LiteRT"):
            self._interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
            signatures = self._interpreter.get_signature_list()
        if signature not in signatures:
            found = ", ".join(signatures) or "none"
            raise ArtifactError(
                f"{path} has no signature '{signature}' (found: {found}), so its inputs cannot be "
                "told apart by name; convert it again"
            )
        with faults_of(path, "LiteRT"):
            self._run = self._interpreter.get_signature_runner(signature)
            self.spec = IOSpec(
                inputs=_tensor_specs(self._run.get_input_details()),
                outputs=_tensor_specs(self._run.get_output_details()),
                signature=signature,
            )

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Runs the model; see `Runtime`."""
        self.spec.check_inputs(inputs, self.name)
        with faults_of(self._path, "LiteRT"):
            outputs = self._run(**inputs)
        # Copies: the interpreter reuses its buffers in the next call.
        return {name: np.array(array) for name, array in outputs.items()}

    def invocation(self, inputs: Arrays) -> Callable[[], None]:
        """The bare inference with these inputs in place, for the clock: no Python around it.

        Of the first signature: that is what an interpreter runs without being asked for one.
        """
        from ai_edge_litert.interpreter import Interpreter

        self.spec.check_inputs(inputs, self.name)
        # One of its own: beside a signature's runner it refuses to be called.
        with faults_of(self._path, "LiteRT"):
            interpreter = Interpreter(model_path=str(self._path), num_threads=self._num_threads)
            interpreter.allocate_tensors()
            details = self._run.get_input_details()
            for name, array in inputs.items():
                interpreter.set_tensor(details[name]["index"], array)
        return interpreter.invoke


class FloatView:
    """A runtime with integer inputs and outputs, called with real numbers.

    For comparisons: programs feed the integers themselves.
    """

    def __init__(self, runtime: Runtime):
        self.name = runtime.name
        self._runtime = runtime
        self._tensors = {t.name: t for t in (*runtime.spec.inputs, *runtime.spec.outputs)}

        def real(tensors: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
            return tuple(TensorSpec(t.name, t.shape, "float32") if t.scale else t for t in tensors)

        self.spec = dataclasses.replace(
            runtime.spec, inputs=real(runtime.spec.inputs), outputs=real(runtime.spec.outputs)
        )

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Runs the model; see `Runtime`."""
        self.spec.check_inputs(inputs, self.name)
        given = {name: self._tensors[name].quantize(array) for name, array in inputs.items()}
        outputs = self._runtime(given)
        return {name: self._tensors[name].dequantize(array) for name, array in outputs.items()}


class OnnxRuntime:
    """An .onnx file in ONNX Runtime, on the CPU.

    Args:
        path: The file.
        num_threads: Threads within an operator.

    Raises:
        ArtifactError: The file is missing or damaged.
    """

    def __init__(self, path: str | Path, num_threads: int = 1):
        import onnxruntime

        self.name = Path(path).name
        if not Path(path).is_file():
            raise ArtifactError(f"no .onnx at {path}")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = SILENT
        options.intra_op_num_threads = num_threads
        self._path = Path(path)
        with faults_of(path, "ONNX Runtime"):
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        self.spec = IOSpec(
            inputs=_onnx_specs(self._session.get_inputs()),
            outputs=_onnx_specs(self._session.get_outputs()),
        )
        if LANDMARKS in {tensor.name for tensor in self.spec.inputs}:  # the file's only one
            self.spec = dataclasses.replace(self.spec, signature=RAW_SIGNATURE)

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Runs the model; see `Runtime`."""
        self.spec.check_inputs(inputs, self.name)
        names = [tensor.name for tensor in self.spec.outputs]
        with faults_of(self._path, "ONNX Runtime"):
            return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))


class KerasRuntime:
    """The Keras twin, in inference mode."""

    def __init__(self, model: keras.Model, config: RunConfig, name: str = "keras"):
        self.name = name
        self.spec = io_spec(config, batch=None, frames=None)
        self._model = model

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Runs the model; see `Runtime`."""
        self.spec.check_inputs(inputs, self.name)
        outputs = self._model(dict(inputs), training=False)
        return {name: output.numpy() for name, output in outputs.items()}


# File ending -> runtime, for what `open_runtime` opens.
_BY_SUFFIX = {".tflite": TFLiteRuntime, ".onnx": OnnxRuntime}


def open_runtime(path: str | Path, signature: str = SIGNATURE) -> Runtime:
    """The runtime that an artifact's ending calls for, its inputs and outputs as they are.

    `signature` is which of a .tflite's is meant; other files have one alone.

    Raises:
        ArtifactError: The ending is none that a runtime exists for, or the file cannot be opened.
    """
    suffix = Path(path).suffix
    if suffix == ".keras":
        from bridge.weights.source import load_twin

        model, config, _ = load_twin(path)
        return KerasRuntime(model, config, Path(path).name)
    if suffix not in _BY_SUFFIX:
        known = ", ".join((*_BY_SUFFIX, ".keras"))
        raise ArtifactError(f"{path}: no runtime for '{suffix}' files; known: {known}")
    if suffix == ".tflite":
        return TFLiteRuntime(path, signature=signature)
    return _BY_SUFFIX[suffix](path)


def _tensor_specs(details: Mapping[str, Mapping]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name,
            tuple(int(size) for size in tensor["shape"]),
            np.dtype(tensor["dtype"]).name,
            *map(_plain_number, tensor["quantization"]),
        )
        for name, tensor in sorted(details.items())
    )


def _plain_number(value: float) -> float:
    """Python's own number, which JSON can hold."""
    return value.item() if isinstance(value, np.generic) else value


_ONNX_DTYPES = {"tensor(float)": "float32", "tensor(int32)": "int32"}


def _onnx_specs(nodes: Sequence) -> tuple[TensorSpec, ...]:
    """Named sizes are open ones; None stands for them."""
    return tuple(
        TensorSpec(
            node.name,
            tuple(size if isinstance(size, int) else None for size in node.shape),
            _ONNX_DTYPES.get(node.type, node.type),
        )
        for node in nodes
    )

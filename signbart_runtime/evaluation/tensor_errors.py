"""Where a quantized .tflite loses precision: its tensors beside its float form's, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bridge.errors import BridgeError
from signbart.models.io_spec import SIGNATURE
from signbart.waiting import track

COLUMNS = ("tensor", "range of the integers", "computed in float32", "cut off", "rmse / rms")


@dataclass(frozen=True)
class TensorError:
    """One integer tensor of a quantized file.

    Attributes:
        name: In both files.
        low: Lowest real number that its integers reach.
        high: Highest one.
        lowest: Lowest number that the float file computed.
        highest: Highest one.
        cut: Share of the float file's numbers beyond [low, high].
        error: Root mean square of the difference, over that of the float file's numbers.
    """

    name: str
    low: float
    high: float
    lowest: float
    highest: float
    cut: float
    error: float

    def cells(self) -> list[str]:
        """Cells of `COLUMNS`."""
        return [
            self.name,
            f"{self.low:.3f} … {self.high:.3f}",
            f"{self.lowest:.3f} … {self.highest:.3f}",
            f"{self.cut:.3%}",
            f"{self.error:.4f}",
        ]


def tensor_errors(
    float_path: Path, quantized_path: Path, inputs: Iterable[Mapping[str, np.ndarray]]
) -> list[TensorError]:
    """Compares the integer activations of a quantized file with the float file's.

    Args:
        float_path: The float .tflite that the other was quantized from.
        quantized_path: The quantized one.
        inputs: Model inputs, one after the other.

    Returns:
        One entry a tensor, in the order of computation.

    Raises:
        BridgeError: The files have no such tensor in common, or one cannot be run.
    """
    from ai_edge_litert.interpreter import Interpreter

    from bridge.artifact.runtimes import open_runtime

    specs = [open_runtime(path).spec for path in (float_path, quantized_path)]
    runners = []
    for path in (float_path, quantized_path):
        interpreter = Interpreter(
            model_path=str(path), num_threads=1, experimental_preserve_all_tensors=True
        )
        runners.append((interpreter, interpreter.get_signature_runner(SIGNATURE)))
    floats = {
        detail["name"]: detail["index"]
        for detail in runners[0][0].get_tensor_details()
        if detail["dtype"] is np.float32
    }
    compared = []
    for detail in runners[1][0].get_tensor_details():
        scales = detail["quantization_parameters"]["scales"]
        name = _float_name(detail["name"], floats)
        if len(scales) == 1 and np.issubdtype(detail["dtype"], np.integer) and name is not None:
            compared.append((name, detail))
    if not compared:
        raise BridgeError(
            f"{quantized_path} has no integer activations in common with {float_path}; the scheme "
            "fixes none, or the files are of different exports"
        )
    sums = {name: np.zeros(4) for name, _ in compared}
    ends = {name: (np.inf, -np.inf) for name, _ in compared}
    for given in track(inputs, f"running {quantized_path.name} and its float form"):
        for spec, (_, run) in zip(specs, runners, strict=True):
            run(**{tensor.name: tensor.quantize(given[tensor.name]) for tensor in spec.inputs})
        for name, detail in compared:
            expected = runners[0][0].get_tensor(floats[name]).astype(np.float64)
            scale, zero = detail["quantization"]
            found = (runners[1][0].get_tensor(detail["index"]).astype(np.float64) - zero) * scale
            known = np.isfinite(expected)  # padded frames of the input may hold anything
            found, expected = found.reshape(expected.shape)[known], expected[known]
            low, high = _reach(detail)
            beyond = (expected < low - scale / 2) | (expected > high + scale / 2)
            difference = found - expected
            squares = (difference**2).sum(), (expected**2).sum()
            sums[name] += (*squares, beyond.sum(), expected.size)
            lowest, highest = ends[name]
            ends[name] = min(lowest, expected.min()), max(highest, expected.max())
    rows = []
    for name, detail in compared:
        squared, power, beyond, count = sums[name]
        rows.append(
            TensorError(
                name,
                *_reach(detail),
                *map(float, ends[name]),
                cut=float(beyond / count),
                error=float(np.sqrt(squared / max(power, np.finfo(np.float64).tiny))),
            )
        )
    return rows


def _float_name(name: str, floats: Mapping[str, int]) -> str | None:
    """The float file's name of a tensor; the quantizer adds a suffix to the inputs it converts."""
    for known in (name, name.removesuffix("_quantized")):
        if known in floats:
            return known
    return None


def _reach(detail: Mapping) -> tuple[float, float]:
    """The lowest and highest real number of an integer tensor."""
    scale, zero = detail["quantization"]
    limits = np.iinfo(detail["dtype"])
    return float((limits.min - zero) * scale), float((limits.max - zero) * scale)

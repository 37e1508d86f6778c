"""A quantized .tflite's stored weights, each held to the number that it was made of.

A rounded number is off by half a step of its own scale at most, so nothing has to be allowed for:
what is further off was not rounded but damaged, or is another layer's. Scales that are five percent
too large change hardly any answer, and are named here.

Converters join, rename and reorder layers, but what one output of a layer is multiplied by stays
one row of numbers. So each row is looked for among the rows that it may have been made of, by
direction, which no scale changes. Legend: O outputs, I inputs of a row.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bridge.quantization.schemes import FLOAT
from bridge.verification.verdict import FAILED, WRONG, Verdict
from signbart.artifacts.contents import read_tables
from signbart.artifacts.graphs import MULTIPLYING, products

if TYPE_CHECKING:
    from torch import nn

_ALIKE = 0.9  # cosine of a row and what it was made of; rounded to int8 it is above 0.999
_PROBED = 24  # rows that tell whose a tensor is
_ROUNDING = 1e-5  # of float32, relative: a converter may scale a row before it is rounded
_QUERIES = ("q_proj", "W_q")  # of attention, where its `scaling` multiplies them
_SHOWN = 3  # layers in a message
_HALF = 2.0**-11, 2.0**-25  # half a step of float16: relative, and of its smallest numbers


@dataclass(frozen=True)
class Rows:
    """What one tensor multiplies by: numbers (O, I), and the largest error (O, I) of each.

    Attributes:
        name: A layer, or a tensor.
        numbers: Float64.
        errors: Float64; zeros where nothing was rounded.
        bias: (O,), or None.
        bias_errors: (O,), or None.
    """

    name: str
    numbers: np.ndarray
    errors: np.ndarray
    bias: np.ndarray | None = None
    bias_errors: np.ndarray | None = None

    @cached_property
    def directions(self) -> np.ndarray:
        """(O, I), each of length 1, or 0."""
        return _directions(self.numbers)


def judge_weights(
    verdict: Verdict, path: Path, *, model: nn.Module | None = None, parent: Path | None = None
) -> Verdict:
    """Adds to a verdict on a quantized .tflite which layers' weights are wrong.

    Args:
        verdict: So far.
        path: The file.
        model: What it was made of, in PyTorch. By it alone convolutions are not judged, and what a
            converter has divided, such as the cells of a GRU, is not found.
        parent: Its float .tflite, in which everything is found.
    """
    if verdict.verdict == FAILED or verdict.scheme == FLOAT or path.suffix != ".tflite":
        return verdict
    known = list(model_rows(model)) if model is not None else []
    if parent is not None:
        known = [part for rows in stored_rows(parent) for part in _by_layer(rows, known)]
    problems = wrong_rows(path, known, complete=parent is not None)
    if not problems:
        return verdict
    more = f", and {len(problems) - _SHOWN} layers more" if len(problems) > _SHOWN else ""
    reason = f"{'; '.join(problems[:_SHOWN])}{more}"
    reason = f"{verdict.reason}; {reason}" if verdict.reason else reason
    return dataclasses.replace(verdict, verdict=WRONG, reason=reason)


def wrong_rows(path: Path, known: list[Rows], *, complete: bool = False) -> list[str]:
    """One sentence a layer whose stored weights or biases are not the `known` ones, rounded.

    Where those are `complete`, a tensor that is like none of them is wrong, too.
    """
    problems = []
    by_width: dict[int, list[Rows]] = {}
    for rows in known:
        by_width.setdefault(rows.numbers.shape[1], []).append(rows)
    for stored in stored_rows(path):
        if stored.errors.any():
            problems += _problems(stored, by_width.get(stored.numbers.shape[1], []), complete)
    return problems


def _problems(stored: Rows, known: list[Rows], complete: bool = False) -> list[str]:
    found = _find(stored, known)
    if found is None:
        return [f"tensor {stored.name}: like no weights of its float form"] if complete else []
    layers, numbers, biases, alike = found
    off = np.abs(stored.numbers - numbers) - _ROUNDING * np.abs(numbers)
    steps = np.max(off / np.maximum(2 * stored.errors, np.finfo(np.float64).tiny), axis=1)
    wrong = ~(alike & (steps <= 0.5 * (1 + 1e-3))) & stored.numbers.any(axis=1)
    if wrong.any():
        at = int(np.argmax(np.where(wrong, np.where(alike, steps, np.inf), -1)))
        layer = Counter(layers[row] for row in np.flatnonzero(wrong)).most_common(1)[0][0]
        how = f"off by up to {steps[at]:.3g} steps of their scale, and rounding is by half a step"
        if not alike[at]:
            how = f"other numbers in row {at}"
        return [
            f"{layer}: weights of {int(wrong.sum())} of {len(wrong)} outputs (tensor {stored.name})"
            f" are {how}"
        ]
    if stored.bias is None or not np.isfinite(biases).any():
        return []
    with np.errstate(invalid="ignore"):  # NaN stands for a bias that is not known
        off = np.abs(stored.bias - biases) - _ROUNDING * (1 + np.abs(biases))
        broken = off > stored.bias_errors * (1 + 1e-3)
    if not broken.any():
        return []
    at = int(np.argmax(np.where(broken, off, -1)))
    return [
        f"{layers[at]}: the bias of output {at} (tensor {stored.name}) is {stored.bias[at]:.6g}, "
        f"expected {biases[at]:.6g}, to within {stored.bias_errors[at]:.3g}"
    ]


def _find(
    stored: Rows, known: list[Rows]
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray] | None:
    """For each row its layer, numbers, bias (NaN: not known), and whether it is alike at all.

    None where the tensor is none of the known ones.
    """
    if not known:
        return None
    probed = np.unique(np.linspace(0, len(stored.numbers) - 1, _PROBED).astype(int))
    directions = stored.directions
    best = np.array([(directions[probed] @ k.directions.T).max(axis=1) for k in known])
    most = best.max(axis=0)
    if (most > _ALIKE).mean() < 0.5:
        return None
    # All that are equally like it: a query's two forms.
    owners = np.flatnonzero(((best > most - 1e-6) & (most > _ALIKE)).any(axis=1))
    chosen = [known[k] for k in owners]
    numbers = np.concatenate([rows.numbers for rows in chosen])
    likeness = directions @ np.concatenate([rows.directions for rows in chosen]).T
    biases = np.concatenate(
        [np.full(len(r.numbers), np.nan) if r.bias is None else r.bias for r in chosen]
    )
    names = [rows.name for rows in chosen for _ in rows.numbers]
    # Of those in its direction the nearest: a query's row stands there scaled and as it is.
    apart = np.square(numbers).sum(axis=1) - 2 * stored.numbers @ numbers.T
    at = np.where(likeness > _ALIKE, apart, np.inf).argmin(axis=1)
    at = np.where(likeness.max(axis=1) > _ALIKE, at, likeness.argmax(axis=1))
    return [names[i] for i in at], numbers[at], biases[at], likeness.max(axis=1) > _ALIKE


def _directions(numbers: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(numbers, axis=1, keepdims=True)
    return numbers / np.where(lengths > 0, lengths, 1)


def _by_layer(rows: Rows, layers: list[Rows]) -> Iterator[Rows]:
    """The same rows, parted by the model's layers that they are of, where they are of any."""
    width = rows.numbers.shape[1]
    found = _find(rows, [layer for layer in layers if layer.numbers.shape[1] == width])
    names = np.array(found[0] if found else [rows.name] * len(rows.numbers))
    for name in dict.fromkeys(names):
        of = names == name
        bias = None if rows.bias is None else rows.bias[of]
        yield Rows(str(name), rows.numbers[of], rows.errors[of], bias)


def model_rows(model: nn.Module) -> Iterator[Rows]:
    """Of every matrix of a PyTorch model; also as exports scale queries and transpose keys.

    Not of kernels: converters fold the norms behind them into them.
    """
    from signbart_torch.models import one_query_attentions

    transposed = {f"{path}.k_proj" for path in one_query_attentions(model)}
    parameters = {name: value.detach().double().numpy() for name, value in model.named_parameters()}
    for name, value in parameters.items():
        layer, _, kind = name.rpartition(".")
        if value.ndim != 2:
            continue
        bias = parameters.get(f"{layer}.bias") if kind == "weight" else None
        if layer in transposed:
            yield Rows(layer, value.T, np.zeros_like(value.T))
        factors = [1.0]
        owner, _, last = layer.rpartition(".")
        if last in _QUERIES:
            factors.append(getattr(model.get_submodule(owner), "scaling", 1.0))
        for factor in factors:
            scaled = None if bias is None else bias * factor
            yield Rows(layer, value * factor, np.zeros_like(value), scaled)


def stored_rows(path: Path) -> Iterator[Rows]:
    """Of every operator of a .tflite that multiplies by stored weights."""
    from ai_edge_litert import schema_py_generated as schema

    model = read_tables(path)
    types = schema.TensorType
    for graph, operator, kind, tensor in products(model, MULTIPLYING):
        if tensor is None:
            continue
        dtype = {types.FLOAT32: "f4", types.FLOAT16: "f2", types.INT8: "i1"}.get(tensor.type)
        if dtype is None:
            continue
        numbers = _constant(model, tensor, dtype).astype(np.float64).reshape(tensor.shape)
        # (O, …, I), but of a depthwise convolution (1, H, W, O).
        axis = -1 if kind == "DEPTHWISE_CONV_2D" else 0
        numbers = np.moveaxis(numbers, axis, 0).reshape(numbers.shape[axis], -1)
        scale = np.ones(1)
        if dtype == "i1":
            scale = np.asarray(tensor.quantization.scale, np.float64).reshape(-1)
            zero = np.asarray(tensor.quantization.zeroPoint, np.float64).reshape(-1)
            numbers = (numbers - zero[:, None]) * scale[:, None]
            errors = np.broadcast_to(scale[:, None] / 2, numbers.shape)
        elif dtype == "f2":
            errors = np.abs(numbers) * _HALF[0] + _HALF[1]
        else:
            errors = np.zeros_like(numbers)
        bias = _bias(model, graph, operator, scale)
        yield Rows(tensor.name.decode(), numbers, errors, *(bias or ()))


def _bias(
    model: Any, graph: Any, operator: Any, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """An operator's bias and its largest error; None without one that is stored as numbers."""
    from ai_edge_litert import schema_py_generated as schema

    if len(operator.inputs) < 3 or operator.inputs[2] < 0:
        return None
    tensor, given = graph.tensors[operator.inputs[2]], graph.tensors[operator.inputs[0]]
    types = schema.TensorType
    dtype = {types.FLOAT32: "f4", types.INT32: "i4", types.INT64: "i8"}.get(tensor.type)
    data = model.buffers[tensor.buffer].data
    if dtype is None or data is None or not len(data):
        return None
    numbers = _constant(model, tensor, dtype).astype(np.float64)
    if dtype == "f4":
        return numbers, np.zeros_like(numbers)
    # As the kernels have it, whatever the tensor itself says.
    steps = float(given.quantization.scale[0]) * np.broadcast_to(scale, numbers.shape)
    return numbers * steps, steps / 2


def _constant(model: Any, tensor: Any, dtype: str) -> np.ndarray:
    return np.frombuffer(np.asarray(model.buffers[tensor.buffer].data).tobytes(), dtype)

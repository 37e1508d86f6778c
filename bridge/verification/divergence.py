"""Where two models part: the first layer whose output the artifact does not reproduce.

Artifacts do not keep PyTorch's layer names, and converters reshape and fuse. So the reference's
layer outputs are looked for among *all* tensors that the artifact computes, by value: the same
numbers in the same order, whatever the shape. What is looked into is the artifact itself, not a
second export of it.

A layer counts as diverging if neither it nor anything that is computed from it is found: converters
may fuse a single layer's output away, but nothing comes back once the numbers have gone wrong.

Every converter to LiteRT adds the projections' biases and the positions as one constant, so that
no tensor tells them apart. There the product without the bias is looked for: if it is right and the
sum is off by the same in every frame, the bias is to blame, and otherwise the positions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from signbart.models.io_spec import LOGITS, SIGNATURE

if TYPE_CHECKING:
    from torch import nn

# As for float32 logits: layers behind a LayerNorm are no larger than they.
LAYER_ATOL, LAYER_RTOL = 1e-5, 1e-5

_PROJECTIONS = {
    "projection.proj_x1": "encoder.embed_positions",
    "projection.proj_y1": "decoder.embed_positions",
}
_PRODUCT = " without bias"  # key of a projection's product, behind the projection's name

# Where the decoder reads the encoder.
_READS_ENCODER = re.compile(r"encoder_attn\.[kv]_proj$")
# What may be right while y is wrong: a query that sees one frame gets that frame, whatever it asks.
_OF_X_ALONE = re.compile(r"encoder_attn(\.(k|v|out)_proj)?$")


@dataclass(frozen=True)
class Divergence:
    """The first layer that the artifact computes otherwise.

    Attributes:
        layer: Attribute path in the reference, for example ``encoder.layers.0.self_attn``.
        after: The last layer before it that agrees; empty where none does.
        nearest: Largest absolute difference to the artifact's most similar tensor of that size;
            None where it has none.
    """

    layer: str
    after: str
    nearest: float | None

    def describe(self) -> str:
        """One sentence."""
        before = f"{self.after} still agrees" if self.after else "no layer before it agrees"
        distance = "it computes no tensor of that size"
        if self.nearest is not None:
            distance = f"its most similar tensor is off by up to {self.nearest:.3g}"
        if self.layer.endswith("attn.out_proj"):
            distance += "; q, k and v are all there: look at which is used as which, and the mask"
        return f"first diverging layer: {self.layer} ({before}; {distance})"


def reference_layers(model: nn.Module, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every submodule's output on `inputs`, by attribute path, in the order of computation.

    The projections' products, without their biases, stand in it too.
    """
    import torch

    outputs: dict[str, np.ndarray] = {}
    handles = []
    for name, module in model.named_modules():

        def keep(_module, _inputs, output, name=name or LOGITS):
            if name.endswith(".q_proj"):
                # BART scales q before it is used; exports fold the scale into the projection.
                output = output * model.get_submodule(name.removesuffix(".q_proj")).scaling
            if name in _PROJECTIONS:
                outputs[name + _PRODUCT] = (output - _module.bias).numpy()
            if isinstance(output, torch.Tensor):
                outputs[name] = output.numpy()
            elif isinstance(output, dict):  # a model's several outputs, by name
                outputs.update({key: value.numpy() for key, value in output.items()})

        handles.append(module.register_forward_hook(keep))
    try:
        with torch.inference_mode():
            model(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def artifact_tensors(
    path: str | Path, inputs: Mapping[str, np.ndarray]
) -> list[np.ndarray] | dict[str, np.ndarray]:
    """Every float tensor that a .tflite or .onnx computes on `inputs`; a .keras's by layer."""
    readers = {".tflite": tflite_tensors, ".onnx": onnx_tensors, ".keras": keras_tensors}
    return readers[Path(path).suffix](path, inputs)


def tflite_tensors(path: str | Path, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Every float tensor that a .tflite computes on `inputs`."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), experimental_preserve_all_tensors=True)
    runner = interpreter.get_signature_runner(SIGNATURE)
    runner(**inputs)
    found = []
    for detail in interpreter.get_tensor_details():
        if detail["dtype"] is not np.float32:
            continue
        try:
            found.append(np.array(interpreter.get_tensor(detail["index"])))
        except ValueError:  # a tensor that a delegate keeps to itself
            continue
    return found


def onnx_tensors(path: str | Path, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Every float tensor that an .onnx computes on `inputs`."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    named = {output.name for output in model.graph.output}
    model.graph.output.extend(
        onnx.ValueInfoProto(name=name)
        for node in model.graph.node
        for name in node.output
        if name and name not in named
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    computed = session.run(None, dict(inputs))
    return [array for array in computed if getattr(array, "dtype", None) == np.float32]


def keras_tensors(path: str | Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every layer's output of a Keras twin on `inputs`, by the attribute path it shares."""
    from bridge.weights.source import load_twin

    model, _, _ = load_twin(path)
    found: dict[str, np.ndarray] = {}
    layers = _named_layers(model)
    originals = {name: layer.call for name, layer in layers.items()}
    for name, layer in layers.items():
        # As in `reference_layers`: q is compared scaled.
        owner = layers.get(name.rpartition(".")[0])
        factor = owner.scaling if name.endswith(".q_proj") else 1.0

        def keep(*args, name=name, call=layer.call, scale=factor, **kwargs):
            output = call(*args, **kwargs)
            if not isinstance(output, tuple):
                found[name] = np.array(output) * np.float32(scale)
            return output

        layer.call = keep
    try:
        outputs = model(dict(inputs), training=False)
    finally:
        for name, layer in layers.items():
            layer.call = originals[name]
    return found | {name: np.array(output) for name, output in outputs.items()}


def _named_layers(layer: Any, prefix: str = "") -> dict[str, Any]:
    """A Keras layer's sublayers by attribute path, as `Module.named_modules` has PyTorch's."""
    import keras

    named = {}
    for name, value in vars(layer).items():
        if isinstance(value, keras.layers.Layer):
            children = {name: value}
        elif isinstance(value, list) and not name.startswith("_"):
            children = {
                f"{name}.{index}": child
                for index, child in enumerate(value)
                if isinstance(child, keras.layers.Layer)
            }
        else:
            continue
        for path, child in children.items():
            named[prefix + path] = child
            named |= _named_layers(child, f"{prefix}{path}.")
    return named


def first_divergence(
    layers: Mapping[str, np.ndarray],
    tensors: Sequence[np.ndarray] | Mapping[str, np.ndarray],
    outputs: Sequence[str] = (LOGITS,),
) -> Divergence | None:
    """Looks for the reference's layers among an artifact's tensors.

    Args:
        layers: From `reference_layers`.
        tensors: From `artifact_tensors`, on the same inputs: nameless ones are searched by value,
            named ones compared with the layer of that name.
        outputs: Which of the layers are the model's outputs.

    Returns:
        None where the outputs, and so everything that matters, are found.
    """
    by_size: dict[int, list[np.ndarray]] = {}
    for tensor in () if isinstance(tensors, Mapping) else tensors:
        by_size.setdefault(tensor.size, []).append(tensor)

    def candidates(name: str) -> list[np.ndarray]:
        if isinstance(tensors, Mapping):
            return [tensors[name]] if name in tensors else []
        return by_size.get(layers[name].size, [])

    distances: dict[str, float | None] = {}
    found = set()
    for name, values in layers.items():
        differences = _differences(values, candidates(name))
        furthest = [float(np.abs(difference).max()) for difference in differences]
        distances[name] = min((d if d == d else np.inf for d in furthest), default=None)
        limits = LAYER_ATOL + LAYER_RTOL * np.abs(values)
        if any((np.abs(difference) <= limits).all() for difference in differences):
            found.add(name)
    two_sided = set(_PROJECTIONS) <= set(layers)  # SignBART alone parts x and y
    for name, following in _PROJECTIONS.items() if two_sided else ():
        sums = _differences(layers[following], candidates(following))
        if name + _PRODUCT in found and not any(map(_same_in_every_frame, sums)):
            found.add(name)
    names = [name for name in layers if not name.endswith(_PRODUCT)]
    if found.issuperset(outputs):
        return None
    # x and y are computed side by side: what is found of y says nothing about x, until the decoder
    # reads the encoder.
    encoder = [name for name in names if name.startswith(("projection.proj_x", "encoder"))]
    readers = [name for name in names if _READS_ENCODER.search(name)]
    if not two_sided:
        # One head says nothing about another; heads are named after their outputs.
        wrong = next(name for name in outputs if name not in found)
        side = [n for n in names if not n.startswith(tuple(set(outputs) - {wrong}))]
    elif found.intersection([encoder[-1], *readers]):
        side = [name for name in names if name not in encoder]
    else:
        side = encoder
    for at, layer in enumerate(side):
        dependents = {name for name in side[at + 1 :] if not _OF_X_ALONE.search(name)}
        if layer not in found and not found & (dependents - _siblings(layer)):
            break
    agreeing = [name for name in side[:at] if name in found]
    return Divergence(layer, agreeing[-1] if agreeing else "", distances[layer])


def _differences(values: np.ndarray, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
    with np.errstate(invalid="ignore"):  # infinity stands in padded frames, and in wrong artifacts
        return [t.reshape(values.shape) - values for t in tensors if t.size == values.size]


def _same_in_every_frame(difference: np.ndarray) -> bool:
    """Whether (B, T, D) is one (D,), but for rounding."""
    first = difference[:1, :1]
    return bool((np.abs(difference - first) <= LAYER_ATOL + LAYER_RTOL * np.abs(first)).all())


def _siblings(name: str) -> set[str]:
    """Layers listed behind `name` that do not depend on it: q, k and v of one attention."""
    parent, _, projection = name.rpartition(".")
    parts = ("q_proj", "k_proj", "v_proj")
    return {f"{parent}.{part}" for part in parts} if projection in parts else set()

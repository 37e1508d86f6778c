"""What models compute on the way: PyTorch's layers by name, and every tensor of an artifact."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from signbart.models.io_spec import LOGITS, SIGNATURE

if TYPE_CHECKING:
    from torch import nn

PROJECTIONS = {
    "projection.proj_x1": "encoder.embed_positions",
    "projection.proj_y1": "decoder.embed_positions",
}
PRODUCT = " without bias"  # key of a projection's product, behind the projection's name

# Key of what an export computes in place of a projection of every frame, behind its name: see
# `OneQueryAttention`.
ONE_QUERY = " of one query"

# The frame that SignBART's last layer asks with; no layer of its own, but a step that goes wrong.
LAST_FRAME = "decoder.last_frame"
_DECODER_LAYER = re.compile(r"decoder\.layers\.\d+")


def reference_layers(model: nn.Module, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every submodule's output on `inputs`, by attribute path, in the order of computation.

    The projections' products, without their biases, the `LAST_FRAME`, and what exports compute of
    one query stand in it too.
    """
    import torch

    from signbart_torch.models import one_query_attentions
    from signbart_torch.models.signbart.attention import OneQueryAttention

    outputs: dict[str, np.ndarray] = {}
    handles = []
    if (last := _last_layer(dict(model.named_modules()))) is not None:
        handles.append(
            model.get_submodule(last).register_forward_pre_hook(
                lambda _, given: outputs.update({LAST_FRAME: given[0].numpy()})
            )
        )
    for path in one_query_attentions(model):
        attention = copy.deepcopy(model.get_submodule(path))
        attention.__class__ = OneQueryAttention

        def keep_products(_module, given, _output, path=path, attention=attention):
            for part, product in zip(("k_proj", "v_proj"), attention.products(*given), strict=True):
                outputs[f"{path}.{part}{ONE_QUERY}"] = product.numpy()

        handles.append(model.get_submodule(path).register_forward_hook(keep_products))
    for name, module in model.named_modules():

        def keep(_module, _inputs, output, name=name or LOGITS):
            if name.endswith(".q_proj"):
                # BART scales q before it is used; exports fold the scale into the projection.
                output = output * model.get_submodule(name.removesuffix(".q_proj")).scaling
            if name in PROJECTIONS:
                outputs[name + PRODUCT] = (output - _module.bias).numpy()
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


def _last_layer(names: Iterable[str]) -> str | None:
    """Path of the decoder's last layer, which alone reads one frame; None without a decoder."""
    layers = [name for name in names if _DECODER_LAYER.fullmatch(name)]
    return layers[-1] if layers else None


def artifact_tensors(
    path: str | Path, inputs: Mapping[str, np.ndarray]
) -> list[np.ndarray] | dict[str, np.ndarray]:
    """Every float tensor that a .tflite or .onnx computes on `inputs`; a .keras's by layer."""
    readers = {".tflite": tflite_tensors, ".onnx": onnx_tensors, ".keras": keras_tensors}
    return readers[Path(path).suffix](path, inputs)


def tflite_tensors(path: str | Path, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Every tensor of real numbers that a .tflite computes on `inputs`, dequantized."""
    from ai_edge_litert.interpreter import Interpreter

    from bridge.artifact.runtimes import open_runtime

    interpreter = Interpreter(model_path=str(path), experimental_preserve_all_tensors=True)
    runner = interpreter.get_signature_runner(SIGNATURE)
    runner(**{t.name: t.quantize(inputs[t.name]) for t in open_runtime(path).spec.inputs})
    found = []
    for detail in interpreter.get_tensor_details():
        scale, zero_point = detail["quantization"]
        if detail["dtype"] is not np.float32 and not scale:
            continue
        try:
            array = np.array(interpreter.get_tensor(detail["index"]))
        except ValueError:  # a tensor that a delegate keeps to itself
            continue
        if scale:
            array = ((array.astype(np.float64) - zero_point) * scale).astype(np.float32)
        found.append(array)
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
    last = _last_layer(layers)
    for name, layer in layers.items():
        # As in `reference_layers`: q is compared scaled.
        owner = layers.get(name.rpartition(".")[0])
        factor = owner.scaling if name.endswith(".q_proj") else 1.0

        def keep(*args, name=name, call=layer.call, scale=factor, **kwargs):
            if name == last:
                found[LAST_FRAME] = np.array(args[0])
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

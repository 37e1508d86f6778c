"""PyTorch -> .onnx -> .tflite through onnx2tf.

Two exports of one model: the .onnx that is shipped has any batch and any length; the one that
onnx2tf reads has fixed shapes, for its graph rewriting needs to know them, and the graph that suits
LiteRT.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from onnxscript import optimizer
from torch import nn

from bridge.routes import via_keras
from signbart.files import temporary_folder
from signbart.models import kind_of
from signbart.models.io_spec import IOSpec
from signbart.models.raw_spec import RawSignature
from signbart_torch.models import example_inputs, onnx_graph
from signbart_torch.models.raw_graph import Around, RawGraph

if TYPE_CHECKING:
    import onnx

# From 20 on GELU is one operator. At 17 and 18 it becomes Erf, and that FlexErf in the .tflite,
# which plain LiteRT refuses.
OPSET = 20
_MANY = 2**16  # of what has no limit of its own
_FOLDED = 2**24  # bytes of constants that are computed beforehand
_CHANNELS_FIRST, _CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]  # NHWC -> NCHW, and back


def export(model: nn.Module, spec: IOSpec, paths: Mapping[str, Path]) -> None:
    """Writes the .onnx and the float .tflite, or the one that is wanted; see `Route.export`."""
    import onnx

    if ".onnx" in paths:
        _export_onnx(model, spec, paths[".onnx"], dynamic=True)
        onnx.checker.check_model(str(paths[".onnx"]), full_check=True)
    if ".tflite" not in paths:
        return
    with temporary_folder(paths[".onnx"].parent) as folder:
        fixed = folder / "fixed.onnx"
        _export_onnx(model, spec, fixed, dynamic=False)
        paths[".tflite"].write_bytes(_to_tflite(fixed, spec, folder / "onnx2tf"))


# From the Keras layer, which TensorFlow converts without onnx2tf's guesses about axes.
export_around = via_keras.export_around


def export_raw(model: nn.Module, raw: RawSignature, path: Path) -> None:
    """Writes the .onnx that takes raw landmarks: a graph of one clip, with weights of its own."""
    import onnx

    around = Around(raw.config, raw.frames, raw.temperature)
    program = torch.onnx.export(
        RawGraph(onnx_graph(model, dynamic=False), around).eval(),
        kwargs=example_inputs(raw.spec),
        dynamo=True,
        opset_version=OPSET,
        input_names=[tensor.name for tensor in raw.spec.inputs],
        output_names=[tensor.name for tensor in raw.spec.outputs],
        verbose=False,
    )
    program.save(str(path))
    onnx.checker.check_model(str(path), full_check=True)


def _export_onnx(model: nn.Module, spec: IOSpec, path: Path, *, dynamic: bool) -> None:
    """Exports with the names of `spec`; `dynamic` leaves the batch open and, if it can, frames."""
    shapes, kind = None, kind_of(model.config)
    batch, frames = spec.inputs[0].shape[:2]
    if dynamic:
        batch = 2  # an example of 1 would be taken for a constant
        axes = {0: torch.export.Dim("batch", min=1, max=_MANY)}
        if kind.open_length:
            frames = max(frames, 2)
            axes[1] = torch.export.Dim("frames", min=1, max=spec.longest or _MANY)
        shapes = {tensor.name: axes for tensor in spec.inputs}
    example = example_inputs(kind.io_spec(model.config, batch, frames))
    with torch.inference_mode():
        outputs = model(**example)
    program = torch.onnx.export(
        onnx_graph(model, dynamic=dynamic),
        kwargs=example,
        dynamo=True,
        opset_version=OPSET,
        input_names=list(example),
        # In the order in which the model gives them, which need not be that of `spec`.
        output_names=[t.name for t in spec.outputs] if len(spec.outputs) == 1 else list(outputs),
        dynamic_shapes=shapes,
        verbose=False,
    )
    if not dynamic:
        # The causal mask of more than 90 frames is beyond the exporter's own limit: it would be
        # computed in the graph, from constants alone, at which onnx2tf breaks off.
        optimizer.optimize(program.model, input_size_limit=_FOLDED, output_size_limit=_FOLDED)
    program.save(str(path))


def _to_tflite(onnx_path: Path, spec: IOSpec, folder: Path) -> bytes:
    """onnx2tf builds a Keras model, TensorFlow converts it: onnx2tf's .tflite has no signature."""
    import onnx
    import onnx2tf
    import tensorflow as tf

    graph = onnx.load(str(onnx_path)).graph
    names = [tensor.name for tensor in spec.inputs]
    replacements = onnx_path.with_suffix(".json")
    replacements.write_text(json.dumps(_permutations(graph)), encoding="utf-8")

    network = onnx2tf.convert(
        input_onnx_file_path=str(onnx_path),
        output_folder_path=str(folder),
        # Otherwise it transposes inputs, taking them for images.
        keep_shape_absolutely_input_names=names,
        param_replacement_file=str(replacements),
        not_use_onnxsim=True,
        # Neither its SavedModel nor its two .tflite, which take longer than all that is wanted.
        disable_model_save=True,
        verbosity="error",
    )

    @tf.function
    def serve(**inputs):
        outputs = tf.nest.flatten(network([inputs[name] for name in network.input_names]))
        # onnx2tf does not keep their names.
        return dict(zip((output.name for output in graph.output), outputs, strict=True))

    signature = {t.name: tf.TensorSpec(t.shape, t.dtype, t.name) for t in spec.inputs}
    function = serve.get_concrete_function(**signature)
    # TensorFlow saves what it is given before it converts: the variables, and not all layers. Given
    # nothing, the .tflite would have no signature.
    module = tf.Module()
    module.weights = function.variables
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    return converter.convert()


def _permutations(graph: onnx.GraphProto) -> dict[str, Any]:
    """Every TRANSPOSE as the graph has it, in onnx2tf's parameter replacement format.

    Left alone, onnx2tf guesses a permutation from the shapes of input and output, and takes that
    of a square matrix for none: as many frames as features would give NaN.

    Those between channels that are last and a two-dimensional convolution become none, for
    TensorFlow's convolutions have them last. With them onnx2tf takes a depthwise convolution for a
    grouped CONV_2D.
    """
    producers = {name: node.op_type for node in graph.node for name in node.output}
    consumers = defaultdict(set)
    for node in graph.node:
        for name in node.input:
            consumers[name].add(node.op_type)
    operations = []
    for node in graph.node:
        if node.op_type != "Transpose":
            continue
        (perm,) = (list(a.ints) for a in node.attribute if a.name == "perm")
        into = perm == _CHANNELS_FIRST and consumers[node.output[0]] == {"Conv"}
        back = perm == _CHANNELS_LAST and producers.get(node.input[0]) == "Conv"
        operations.append(
            {
                "op_name": node.name,
                "param_target": "attributes",
                "param_name": "perm",
                "values": sorted(perm) if into or back else perm,
            }
        )
    return {"format_version": 1, "operations": operations}

"""PyTorch -> .onnx -> .tflite through onnx2tf.

Two exports of one model: the .onnx that is shipped has any batch and any length; the one that
onnx2tf reads has fixed shapes, for its graph rewriting needs to know them, and the graph that suits
LiteRT.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bridge.spec import ATTENTION_MASK, KEYPOINTS, LOGITS, IOSpec
from signbart_torch.export_graph import for_export

if TYPE_CHECKING:
    from signbart_torch.model import SignBart

# From 20 on GELU is one operator. At 17 and 18 it becomes Erf, and that FlexErf in the .tflite,
# which plain LiteRT refuses.
OPSET = 20


def export(model: SignBart, spec: IOSpec, paths: Mapping[str, Path]) -> None:
    """Writes the float .tflite and the .onnx; see `bridge.routes.Route.export`."""
    import onnx

    _export_onnx(model, spec, paths[".onnx"], dynamic=True)
    onnx.checker.check_model(str(paths[".onnx"]), full_check=True)
    with tempfile.TemporaryDirectory() as folder:
        fixed = Path(folder) / "fixed.onnx"
        _export_onnx(model, spec, fixed, dynamic=False)
        paths[".tflite"].write_bytes(_to_tflite(fixed, spec, Path(folder) / "saved_model"))


def _export_onnx(model: SignBart, spec: IOSpec, path: Path, *, dynamic: bool) -> None:
    """Exports with the names of `spec`; `dynamic` leaves batch and number of frames open."""
    shapes = None
    batch = 1
    if dynamic:
        batch = 2  # an example of 1 would be taken for a constant
        axes = {
            0: torch.export.Dim("batch", min=1, max=2**16),
            1: torch.export.Dim("frames", min=1, max=model.config.max_position_embeddings),
        }
        shapes = {KEYPOINTS: axes, ATTENTION_MASK: axes}
    example = {
        tensor.name: torch.ones((batch, *tensor.shape[1:]), dtype=getattr(torch, tensor.dtype))
        for tensor in spec.inputs
    }
    program = torch.onnx.export(
        model if dynamic else for_export(model),
        kwargs=example,
        dynamo=True,
        opset_version=OPSET,
        input_names=list(example),
        output_names=[LOGITS],
        dynamic_shapes=shapes,
        verbose=False,
    )
    program.save(str(path))


def _to_tflite(onnx_path: Path, spec: IOSpec, folder: Path) -> bytes:
    """Converts with onnx2tf, and again with TensorFlow: onnx2tf's own .tflite has no signature."""
    import onnx2tf
    import tensorflow as tf

    names = [tensor.name for tensor in spec.inputs]
    onnx2tf.convert(
        input_onnx_file_path=str(onnx_path),
        output_folder_path=str(folder),
        # Otherwise it transposes inputs, taking them for images.
        keep_shape_absolutely_input_names=names,
        not_use_onnxsim=True,
        output_signaturedefs=True,
        verbosity="error",
    )
    loaded = tf.saved_model.load(str(folder))
    graph = loaded.signatures["serving_default"]
    signature = [tf.TensorSpec(t.shape, t.dtype, t.name) for t in spec.inputs]

    class Serving(tf.Module):
        @tf.function(input_signature=signature)
        def serve(self, keypoints, attention_mask):
            outputs = graph(keypoints=keypoints, attention_mask=attention_mask)
            return {LOGITS: next(iter(outputs.values()))}

    module = Serving()
    module.loaded = loaded  # keeps the variables alive
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.serve.get_concrete_function()], module
    )
    return converter.convert()

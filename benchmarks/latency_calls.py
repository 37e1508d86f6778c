"""One call of each contestant of `benchmarks.latency`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signbart.configuration.schema import RunConfig
from signbart.models.io_spec import ATTENTION_MASK, KEYPOINTS, LOGITS

if TYPE_CHECKING:
    from torch import nn

Call = Callable[[], object]
SEED = 0


def random_model(config: RunConfig) -> nn.Module:
    """The configuration's model with random weights, those of its norms included.

    A new model's norms multiply by 1 and add 0, and its biases too are 0: converters leave out what
    changes nothing, and a trained model's file has it.
    """
    import torch

    from signbart_torch.models import new_model

    torch.manual_seed(SEED)
    model = new_model(config.model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval()


def random_inputs(config: RunConfig) -> dict[str, np.ndarray]:
    """One clip of random numbers, (1, T, K, D), without padding."""
    shape = (1, config.data.max_frames, config.model.num_keypoints, config.coordinates)
    rng = np.random.default_rng(SEED)
    return {
        KEYPOINTS: rng.random(shape, np.float32),
        ATTENTION_MASK: np.ones(shape[:2], np.int32),
    }


def torch_call(config: RunConfig, inputs: dict[str, np.ndarray], threads: int) -> Call:
    """PyTorch, eagerly."""
    import torch

    torch.set_num_threads(threads)
    model = random_model(config)
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}

    def call() -> object:
        with torch.inference_mode():
            return model(**tensors)

    return call


def compiled_call(config: RunConfig, inputs: dict[str, np.ndarray], threads: int) -> Call:
    """PyTorch, by ``torch.compile``."""
    import torch

    torch.set_num_threads(threads)
    model = torch.compile(random_model(config))
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}

    def call() -> object:
        with torch.no_grad():
            return model(**tensors)

    return call


def onnx_call(path: Path, inputs: dict[str, np.ndarray], threads: int) -> Call:
    """ONNX Runtime on an .onnx."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run([LOGITS], inputs)


def keras_call(config: RunConfig, inputs: dict[str, np.ndarray], threads: int) -> Call:
    """The Keras twin, by ``tf.function``."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from bridge.weights.port import build_twin

    twin = build_twin(random_model(config))
    compiled = tf.function(lambda given: twin(given, training=False))
    tensors = {name: tf.constant(array) for name, array in inputs.items()}
    return lambda: compiled(tensors)[LOGITS].numpy()


def tflite_call(path: Path, inputs: dict[str, np.ndarray], threads: int) -> Call:
    """LiteRT on a .tflite: one ``invoke``, inputs in place."""
    from bridge.artifact.runtimes import TFLiteRuntime

    return TFLiteRuntime(path, threads).invocation(inputs)

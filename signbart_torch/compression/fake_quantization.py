"""What int8 does to a model, in float: every layer computes on the grid its .tflite will have.

Only Linears and depthwise convolutions change, as only FULLY_CONNECTED and DEPTHWISE_CONV_2D become
int8 in a .tflite; embeddings, LayerNorm, softmax and GELU stay float there and here. `grids` has
the grids, `fake_quantized_layers` what computes on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torchao.core.config import AOBaseConfig
from torchao.quantization import quantize_
from torchao.quantization.qat import FakeQuantizedLinear
from torchao.quantization.transform_module import register_quantize_module_handler

from signbart.errors import ConfigError
from signbart_torch.compression.fake_quantized_layers import (
    DynamicDepthwise,
    FakeQuantizedOneQuery,
    fake_quantized,
)
from signbart_torch.models import bias_follows, joined_projections, one_query_attentions
from signbart_torch.models.conv_signbart.layers import DepthwiseConv
from signbart_torch.models.signbart.attention import Attention

_MEASURING_BATCH = 25


class FakeQuantization:
    """Prepares a model for quantization-aware training, and keeps its grids current.

    It changes what the model computes, not its parameters: `state_dict` stays a plain model's.

    Args:
        calibration: ``keypoints`` (N, T, K, D) and ``attention_mask`` (N, T), as
            `training.calibration.calibration_inputs` returns them, for static int8. None is
            dynamic int8, whose ranges are measured token by token at run time.
    """

    def __init__(self, calibration: tuple[np.ndarray, np.ndarray] | None = None):
        self.calibration = calibration
        self.count = 0  # layers that `prepare` swapped
        self.layers = "Linear"

    @property
    def scheme(self) -> str:
        """The arithmetic's name: ``dynamic_int8`` or ``int8``."""
        return "dynamic_int8" if self.calibration is None else "int8"

    def prepare(self, model: nn.Module) -> None:
        """Swaps every Linear and depthwise convolution for a fake-quantized one.

        Raises:
            ConfigError: One was not swapped, and would be int8 in the .tflite alone.
        """
        before = [name for name, part in model.named_modules() if _holds_weights(part)]
        if any(isinstance(part, DepthwiseConv) for part in model.modules()):
            self.layers = "Linear and depthwise"
        static = _Int8Config(static=self.calibration is not None)
        quantize_(model, static, filter_fn=lambda part, name: _holds_weights(part))
        swapped = {name for name, _ in _quantized(model)}
        missed = [name for name in before if name not in swapped]
        if missed or not before:
            raise ConfigError(
                f"{len(swapped)} of {len(before)} {self.layers} layers are fake-quantized; missed: "
                f"{', '.join(missed) or 'all'}"
            )
        self.count = len(swapped)
        for name in bias_follows(model):
            model.get_submodule(name).bias_follows = True
        for name in one_query_attentions(model):
            # Its parts and their order stay, and with them the state.
            model.get_submodule(name).__class__ = FakeQuantizedOneQuery

    @torch.no_grad()
    def refresh(self, model: nn.Module) -> None:
        """Measures the activations' ranges anew, as the quantizer will: in float, min and max."""
        if self.calibration is None:
            return
        quantizers = [
            quantizer
            for _, layer in _quantized(model)
            for quantizer in (layer.activation_fake_quantizer, layer.output_fake_quantizer)
        ]
        for quantizer in quantizers:
            quantizer.start_measuring()
        for _, layer in _quantized(model):
            layer.weight_fake_quantizer.enabled = False
        was_training, device = model.training, next(model.parameters()).device
        model.eval()
        for at in range(0, len(self.calibration[0]), _MEASURING_BATCH):
            rows = slice(at, at + _MEASURING_BATCH)
            model(*(torch.from_numpy(array[rows]).to(device) for array in self.calibration))
        model.train(was_training)
        for _, layer in _quantized(model):
            layer.weight_fake_quantizer.enabled = True
        for attention, names in joined_projections(model):
            _share_range(attention, names)
        for quantizer in quantizers:
            quantizer.stop_measuring()


def _share_range(attention: Attention, names: Sequence[str]) -> None:
    """Projections that are one product in the .tflite have one output grid, q as it is scaled."""
    factors = [attention.scaling if name == "q_proj" else 1.0 for name in names]
    quantizers = [getattr(attention, name).output_fake_quantizer for name in names]
    bounds = [
        torch.stack([bound * factor for bound in quantizer.range])
        for quantizer, factor in zip(quantizers, factors, strict=True)
    ]
    low, high = torch.stack(bounds).amin(dim=0)[0], torch.stack(bounds).amax(dim=0)[1]
    for quantizer, factor in zip(quantizers, factors, strict=True):
        quantizer.range = (low / factor, high / factor)


def _holds_weights(part: nn.Module) -> bool:
    return isinstance(part, nn.Linear | DepthwiseConv)


def _quantized(
    model: nn.Module,
) -> Iterator[tuple[str, FakeQuantizedLinear | DynamicDepthwise]]:
    for name, part in model.named_modules():
        if isinstance(part, FakeQuantizedLinear | DynamicDepthwise):
            yield name, part


@dataclass
class _Int8Config(AOBaseConfig):
    """For torchao's `quantize_`, which walks the model and swaps its layers."""

    static: bool


@register_quantize_module_handler(_Int8Config)
def _swap(layer: nn.Linear | DepthwiseConv, config: _Int8Config) -> nn.Module:
    return fake_quantized(layer, static=config.static)

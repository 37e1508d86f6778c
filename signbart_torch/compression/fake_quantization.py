"""What int8 does to a model, in float: every Linear computes on the grid its .tflite will have.

Only the Linears change, as only FULLY_CONNECTED becomes int8 in a .tflite; embeddings, LayerNorm,
softmax and GELU stay float there and here. The grids are those of ai-edge-quantizer and LiteRT,
which torchao's own int8 fake quantizers miss by half a step (they divide by 127.5 and use -128).

Rounding passes gradients on as if it were not there (the straight-through estimator,
arXiv:1308.3432).

Legend: B batch, T frames, I inputs and O outputs of a Linear.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchao.core.config import AOBaseConfig
from torchao.quantization import quantize_
from torchao.quantization.qat import FakeQuantizedLinear, FakeQuantizerBase
from torchao.quantization.transform_module import register_quantize_module_handler

from signbart.errors import ConfigError
from signbart_torch.models.signbart.attention import Attention
from signbart_torch.models.signbart.export_graph import joined_projections

_INT8_MIN, _INT8_MAX = -128, 127
_STEPS = _INT8_MAX - _INT8_MIN
# ai-edge-quantizer's smallest range; it keeps an all-zero channel from dividing by zero.
_SMALLEST_RANGE = 1e-9
_MEASURING_BATCH = 25


class FakeQuantization:
    """Prepares a model for quantization-aware training, and keeps its grids current.

    It changes what the model computes, not its parameters: `state_dict` stays a plain model's.

    Args:
        calibration: ``keypoints`` (N, T, K, 2) and ``attention_mask`` (N, T), as
            `training.calibration.calibration_inputs` returns them, for static int8. None is
            dynamic int8, whose ranges are measured token by token at run time.
    """

    layers = "Linear"

    def __init__(self, calibration: tuple[np.ndarray, np.ndarray] | None = None):
        self.calibration = calibration
        self.count = 0  # Linears that `prepare` swapped

    @property
    def scheme(self) -> str:
        """The arithmetic's name: ``dynamic_int8`` or ``int8``."""
        return "dynamic_int8" if self.calibration is None else "int8"

    def prepare(self, model: nn.Module) -> None:
        """Swaps every Linear for a fake-quantized one with the same parameters.

        Raises:
            ConfigError: A Linear was not swapped, and would be int8 in the .tflite alone.
        """
        before = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
        quantize_(model, _Int8Config(static=self.calibration is not None))
        swapped = {name for name, _ in _quantized(model)}
        missed = [name for name in before if name not in swapped]
        if missed or not before:
            raise ConfigError(
                f"{len(swapped)} of {len(before)} Linear layers are fake-quantized; missed: "
                f"{', '.join(missed) or 'all'}"
            )
        self.count = len(swapped)
        for name, linear in _quantized(model):
            linear.bias_follows = name.startswith("projection.")

    @torch.no_grad()
    def refresh(self, model: nn.Module) -> None:
        """Measures the activations' ranges anew, as the quantizer will: in float, min and max."""
        if self.calibration is None:
            return
        quantizers = [
            quantizer
            for _, linear in _quantized(model)
            for quantizer in (linear.activation_fake_quantizer, linear.output_fake_quantizer)
        ]
        for quantizer in quantizers:
            quantizer.start_measuring()
        for _, linear in _quantized(model):
            linear.weight_fake_quantizer.enabled = False
        was_training, device = model.training, next(model.parameters()).device
        model.eval()
        for at in range(0, len(self.calibration[0]), _MEASURING_BATCH):
            rows = slice(at, at + _MEASURING_BATCH)
            model(*(torch.from_numpy(array[rows]).to(device) for array in self.calibration))
        model.train(was_training)
        for _, linear in _quantized(model):
            linear.weight_fake_quantizer.enabled = True
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


def _quantized(model: nn.Module) -> Iterator[tuple[str, FakeQuantizedLinear]]:
    for name, part in model.named_modules():
        if isinstance(part, FakeQuantizedLinear):
            yield name, part


def weight_scale(weight: Tensor) -> Tensor:
    """(O, I) -> (O, 1): the int8 step of each output channel, symmetric, -127 … 127."""
    return weight.abs().amax(dim=1, keepdim=True).clamp(min=_SMALLEST_RANGE) / _INT8_MAX


class _FakeQuantizer(FakeQuantizerBase):
    """One that lets everything pass while it is not `enabled`."""

    def __init__(self):
        super().__init__()
        self.enabled = True

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class WeightFakeQuantizer(_FakeQuantizer):
    """int8 per output channel, symmetric."""

    def forward(self, weight: Tensor) -> Tensor:
        """(O, I) -> (O, I) on the grid."""
        return _RoundWeight.apply(weight) if self.enabled else weight


class _RoundWeight(torch.autograd.Function):
    """Divides as the quantizer does: times 1 / scale would round some ties to the other side."""

    @staticmethod
    def forward(ctx, weight: Tensor) -> Tensor:
        scale = weight_scale(weight)
        return (weight / scale).round_().mul_(scale)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient  # the largest weight is on the grid, so nothing was clipped


class _RoundBias(torch.autograd.Function):
    """int32, in steps of input scale times weight scale."""

    @staticmethod
    def forward(ctx, bias: Tensor, step: Tensor) -> Tensor:
        return (bias / step).round_().mul_(step)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class TokenFakeQuantizer(_FakeQuantizer):
    """Dynamic int8, asymmetric, a range for each token, as XNNPACK quantizes at run time."""

    def forward(self, states: Tensor) -> Tensor:
        """(B, T, I) or (B, I) -> the same shape on each token's grid."""
        return _RoundTokens.apply(states) if self.enabled else states


class _RoundTokens(torch.autograd.Function):
    @staticmethod
    def forward(ctx, states: Tensor) -> Tensor:
        low = states.amin(dim=-1, keepdim=True).clamp_(max=0.0)
        spread = states.amax(dim=-1, keepdim=True).clamp_(min=0.0).sub_(low)
        # A token of zeros alone: whatever the step, it stays zero.
        spread = spread.masked_fill_(spread == 0, _STEPS)
        inverse_scale = _STEPS / spread
        zero_point = (_INT8_MIN - low * inverse_scale).round_()
        integers = (states * inverse_scale).round_().add_(zero_point)
        return integers.clamp_(_INT8_MIN, _INT8_MAX).sub_(zero_point).mul_(spread.div_(_STEPS))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient  # at most half a step was clipped, where the zero point was rounded


class TensorFakeQuantizer(_FakeQuantizer):
    """Static int8, asymmetric, one range for the tensor, measured beforehand."""

    def __init__(self):
        super().__init__()
        self._measuring = False
        # Plain attributes and no buffers: ranges are measured again and never saved.
        self.range: tuple[Tensor, Tensor] | None = None
        self.scale: Tensor | None = None
        self.zero_point: Tensor | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(scale={self.scale}, zero_point={self.zero_point})"

    def start_measuring(self) -> None:
        """Lets everything pass and records its range, until `stop_measuring`."""
        self._measuring, self.range = True, None

    def stop_measuring(self) -> None:
        """Fixes the grid: the quantizer's `tensor_zp_scale_from_min_max`, 0 always in range."""
        low, high = (bound.float() for bound in self.range)
        low, high = low.clamp(max=0.0), high.clamp(min=0.0)
        self.scale = (high - low).clamp(min=_SMALLEST_RANGE) / _STEPS
        self.zero_point = (_INT8_MIN - low / self.scale).round().to(torch.int32)
        self._measuring = False

    def forward(self, states: Tensor) -> Tensor:
        """Any shape -> the same on the grid; what lies outside is clipped, and gets no gradient."""
        if self._measuring:
            low, high = torch.aminmax(states)
            if self.range is not None:
                low, high = torch.minimum(low, self.range[0]), torch.maximum(high, self.range[1])
            self.range = (low, high)
            return states
        if not self.enabled:
            return states
        return torch.fake_quantize_per_tensor_affine(
            states, self.scale, self.zero_point, _INT8_MIN, _INT8_MAX
        )


class DynamicLinear(FakeQuantizedLinear):
    """Input and weight on int8 grids; the output is float."""

    bias_follows = False  # see `StaticLinear`; to a float output it makes no difference

    def quantize(self) -> None:
        """Installs the fake quantizers."""
        self.activation_fake_quantizer = TokenFakeQuantizer()
        self.weight_fake_quantizer = WeightFakeQuantizer()


class StaticLinear(FakeQuantizedLinear):
    """Input, weight and output on int8 grids, and the bias on its int32 one.

    The bias's steps are some hundred times finer than the output's. They matter to agreement alone:
    a product that they push over a rounding border changes what every later layer rounds.

    Attributes:
        bias_follows: Whether the bias is added in float behind the quantized product. Converters
            move it into a constant that is added next: the positions, behind the projections.
    """

    bias_follows = False

    def quantize(self) -> None:
        """Installs the fake quantizers."""
        self.activation_fake_quantizer = TensorFakeQuantizer()
        self.weight_fake_quantizer = WeightFakeQuantizer()
        self.output_fake_quantizer = TensorFakeQuantizer()

    def forward(self, states: Tensor) -> Tensor:
        """(…, I) -> (…, O)."""
        states = self.activation_fake_quantizer(states)
        weight = self.weight_fake_quantizer(self.weight)
        if self.bias_follows:
            return self.output_fake_quantizer(F.linear(states, weight)) + self.bias
        bias = self.bias
        if self.weight_fake_quantizer.enabled:
            step = self.activation_fake_quantizer.scale * weight_scale(self.weight.detach())[:, 0]
            bias = _RoundBias.apply(bias, step)
        return self.output_fake_quantizer(F.linear(states, weight, bias))


@dataclass
class _Int8Config(AOBaseConfig):
    """For torchao's `quantize_`, which walks the model and swaps its Linears."""

    static: bool


@register_quantize_module_handler(_Int8Config)
def _swap(linear: nn.Linear, config: _Int8Config) -> FakeQuantizedLinear:
    kind = StaticLinear if config.static else DynamicLinear
    # On "meta" nothing is allocated or drawn at random; the parameters are the old ones.
    swapped = kind(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
    swapped.weight, swapped.bias = linear.weight, linear.bias
    swapped.quantize()
    return swapped.train(linear.training)

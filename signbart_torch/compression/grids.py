"""int8 grids, in float: those of ai-edge-quantizer and LiteRT.

torchao's own int8 fake quantizers miss them by half a step (they divide by 127.5 and use -128).
Rounding passes gradients on as if it were not there (the straight-through estimator,
arXiv:1308.3432).

Legend: B batch, T frames, I inputs and O outputs of a layer.
"""

import torch
from torch import Tensor
from torchao.quantization.qat import FakeQuantizerBase

_INT8_MIN, _INT8_MAX = -128, 127
_STEPS = _INT8_MAX - _INT8_MIN
# ai-edge-quantizer's smallest range; it keeps an all-zero channel from dividing by zero.
_SMALLEST_RANGE = 1e-9


def weight_scale(weight: Tensor) -> Tensor:
    """(O, I) -> (O, 1): the int8 step of each output channel, symmetric, -127 … 127."""
    return weight.abs().amax(dim=1, keepdim=True).clamp(min=_SMALLEST_RANGE) / _INT8_MAX


class FakeQuantizer(FakeQuantizerBase):
    """One that lets everything pass while it is not `enabled`."""

    def __init__(self):
        super().__init__()
        self.enabled = True

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class WeightFakeQuantizer(FakeQuantizer):
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


class RoundBias(torch.autograd.Function):
    """int32, in steps of input scale times weight scale."""

    @staticmethod
    def forward(ctx, bias: Tensor, step: Tensor) -> Tensor:
        """(O,) in whole steps (O,)."""
        return (bias / step).round_().mul_(step)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        """Straight through."""
        return gradient, None


class TokenFakeQuantizer(FakeQuantizer):
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


class TensorFakeQuantizer(FakeQuantizer):
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

"""Layers that compute on int8 grids, in float, with the parameters of ordinary ones.

Legend: B batch, T frames, I inputs and O outputs of a Linear, W channels of a convolution.
"""

from torch import Tensor, nn
from torch.nn import functional as F
from torchao.quantization.qat import FakeQuantizedLinear

from signbart_torch.compression.grids import (
    RoundBias,
    TensorFakeQuantizer,
    TokenFakeQuantizer,
    WeightFakeQuantizer,
    weight_scale,
)
from signbart_torch.models.conv_signbart.layers import DepthwiseConv, convolve
from signbart_torch.models.signbart.attention import OneQueryAttention


class DynamicLinear(FakeQuantizedLinear):
    """Input and weight on int8 grids; the output is float."""

    bias_follows = False  # see `StaticLinear`; to a float output it makes no difference

    def quantize(self) -> None:
        """Installs the fake quantizers."""
        self.activation_fake_quantizer = TokenFakeQuantizer()
        self.weight_fake_quantizer = WeightFakeQuantizer()

    def transposed(self, states: Tensor) -> Tensor:
        """(…, O) -> (…, I), without a bias: the weights' columns are what has a grid each."""
        weight = self.weight_fake_quantizer(self.weight.t())
        return F.linear(self.activation_fake_quantizer(states), weight)


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
            bias = RoundBias.apply(bias, step)
        return self.output_fake_quantizer(F.linear(states, weight, bias))

    def transposed(self, states: Tensor) -> Tensor:
        """(…, O) -> (…, I), without a bias: the weights' columns are what has a grid each."""
        weight = self.weight_fake_quantizer(self.weight.t())
        product = F.linear(self.activation_fake_quantizer(states), weight)
        return self.output_fake_quantizer(product)


class FakeQuantizedOneQuery(OneQueryAttention):
    """`OneQueryAttention` whose projections are fake-quantized, k's with its weights transposed."""

    def ask_keys(self, queries: Tensor) -> Tensor:
        """(B, H, D) -> (B, H, D)."""
        return self.k_proj.transposed(queries)


class DynamicDepthwise(DepthwiseConv):
    """Weights on their int8 grid; products are of float, as in a .tflite of ``dynamic_int8``.

    BatchNorm is folded in, so that its running statistics stay as they are.
    """

    def __init__(self, conv: DepthwiseConv):
        nn.Module.__init__(self)
        self.weight, self.norm = conv.weight, conv.norm
        self.weight_fake_quantizer = WeightFakeQuantizer()

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """(B, T, W), zero in padded frames -> (B, T, W)."""
        weight, bias = self.folded()
        return convolve(states, self._rounded(weight), bias)

    def _rounded(self, weight: Tensor) -> Tensor:
        return self.weight_fake_quantizer(weight.flatten(1)).view_as(weight)


class StaticDepthwise(DynamicDepthwise):
    """Input, weights and output on int8 grids, and the bias on its int32 one."""

    def __init__(self, conv: DepthwiseConv):
        super().__init__(conv)
        self.activation_fake_quantizer = TensorFakeQuantizer()
        self.output_fake_quantizer = TensorFakeQuantizer()

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """(B, T, W), zero in padded frames -> (B, T, W)."""
        weight, bias = self.folded()
        states = self.activation_fake_quantizer(states)
        if self.weight_fake_quantizer.enabled:
            step = weight_scale(weight.detach().flatten(1))[:, 0]
            bias = RoundBias.apply(bias, self.activation_fake_quantizer.scale * step)
        return self.output_fake_quantizer(convolve(states, self._rounded(weight), bias))


def fake_quantized(layer: nn.Linear | DepthwiseConv, *, static: bool) -> nn.Module:
    """The layer that computes on the grids, with the same parameters.

    Args:
        layer: An ordinary one.
        static: For ``int8``, and not ``dynamic_int8``.
    """
    if isinstance(layer, DepthwiseConv):
        swapped = (StaticDepthwise if static else DynamicDepthwise)(layer)
        return swapped.train(layer.training)
    kind = StaticLinear if static else DynamicLinear
    # On "meta" nothing is allocated or drawn at random; the parameters are the old ones.
    swapped = kind(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
    swapped.weight, swapped.bias = layer.weight, layer.bias
    swapped.quantize()
    return swapped.train(layer.training)

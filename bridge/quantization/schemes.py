"""The quantization schemes, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.errors import BridgeError

FLOAT = "fp32"


@dataclass(frozen=True)
class Scheme:
    """A way to store weights and to compute with them.

    Attributes:
        name: As in file names and in ``bridge/verification/limits.yaml``.
        description: One line for help texts and model cards.
        calibrated: Whether it needs recordings, to fix the ranges of activations beforehand.
        arithmetic: Number format of the products of a kind's `quantized_operators`, as
            `artifact.contents` names it.
        weights: Number format that its weights are stored in, as LiteRT names it.
        stored_only: Operators whose products stay float32 all the same, for no kernel of XNNPACK
            computes them in `arithmetic`; LiteRT's own takes longer than XNNPACK's in float.
    """

    name: str
    description: str
    calibrated: bool = False
    arithmetic: str = "float32"
    weights: str = "INT8"
    stored_only: tuple[str, ...] = ()

    def computed(self, operators: Sequence[str]) -> list[str]:
        """Those of a kind's `quantized_operators` whose products are of `arithmetic`."""
        return [name for name in operators if name not in self.stored_only]


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme(FLOAT, "weights and activations float32", weights="FLOAT32"),
        Scheme("fp16", "weights stored as float16, computed in float32", weights="FLOAT16"),
        Scheme(
            "dynamic_int8",
            "weights int8, activations quantized row by row as they come",
            arithmetic="int8",
            # One block of ConvSignBART, 48 frames: 20 µs so, 38 with LiteRT's own int8.
            stored_only=("DEPTHWISE_CONV_2D",),
        ),
        Scheme("weight_only_int8", "weights stored as int8, computed in float32"),
        Scheme(
            "int8",
            "weights and activations int8, ranges fixed by calibration",
            calibrated=True,
            arithmetic="int8",
        ),
        Scheme(
            "int16x8",
            "weights int8, activations int16, ranges fixed by calibration; slow on CPUs",
            calibrated=True,
            arithmetic="int16x8",
        ),
    )
}


def select_schemes(names: Sequence[str]) -> list[Scheme]:
    """Schemes by name, each once, in the order of `SCHEMES`; ``all`` stands for every one.

    Args:
        names: Each a name, or several separated by commas.

    Raises:
        BridgeError: There is no such scheme.
    """
    wanted = {part.strip() for name in names for part in name.split(",")}
    unknown = sorted(wanted - {"all", *SCHEMES})
    if unknown:
        raise BridgeError(
            f"no quantization scheme '{unknown[0]}'; known: {', '.join(SCHEMES)}, or all"
        )
    return [scheme for scheme in SCHEMES.values() if wanted & {"all", scheme.name}]

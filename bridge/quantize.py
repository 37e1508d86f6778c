"""Quantizes the float .tflite of any route; the one place that uses ai-edge-quantizer.

Every scheme works on FULLY_CONNECTED, where this model has its weights and nine tenths of its
multiply-accumulates. What lies between (LayerNorm, softmax, GELU, and the products of attention)
stays in float32: XNNPACK has no int8 kernels for it and would leave the graph in dozens of pieces.
docs/quantization.md has the measurements.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.arguments import add_quantization_arguments, at_least
from bridge.errors import BridgeError, ConversionError
from bridge.spec import SIGNATURE
from signbart.console import run_command

if TYPE_CHECKING:
    from bridge.calibration import Calibration

FLOAT = "fp32"


@dataclass(frozen=True)
class Scheme:
    """A way to store weights and to compute with them.

    Attributes:
        name: As in file names and in ``configs/parity.yaml``.
        description: One line for help texts and model cards.
        calibrated: Whether it needs recordings, to fix the ranges of activations beforehand.
        arithmetic: Number format of FULLY_CONNECTED's products, as `bridge.arithmetic` names it.
        weights: Number format that its weights are stored in, as LiteRT names it.
    """

    name: str
    description: str
    calibrated: bool = False
    arithmetic: str = "float32"
    weights: str = "INT8"


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme(FLOAT, "weights and activations float32", weights="FLOAT32"),
        Scheme("fp16", "weights stored as float16, computed in float32", weights="FLOAT16"),
        Scheme(
            "dynamic_int8",
            "weights int8, activations quantized row by row as they come",
            arithmetic="int8",
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
        names: Each a name, or several parted by commas.

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


def quantize(
    source: Path,
    scheme: Scheme,
    target: Path,
    calibration: Calibration | None = None,
    *,
    int8_io: bool = False,
) -> None:
    """Writes `source` in another number format.

    Args:
        source: A float .tflite with the signature `spec.SIGNATURE`.
        scheme: Any but `FLOAT`.
        target: The file to write; without metadata, compacted.
        calibration: What the model is shown, for the schemes that need it.
        int8_io: For ``int8`` and ``int16x8``: inputs and outputs that are float otherwise become
            integers too.

    Raises:
        ConversionError: The quantizer refuses the file, or left a FULLY_CONNECTED as it was.
    """
    from ai_edge_quantizer import quantizer

    from bridge.arithmetic import multiply_accumulates, stored_weights
    from bridge.compaction import compact

    if scheme.name == FLOAT:
        raise BridgeError("fp32 is what is quantized, and no scheme to quantize to")
    if scheme.calibrated and calibration is None:
        raise BridgeError(f"scheme {scheme.name} needs calibration data")
    if int8_io and not scheme.calibrated:
        raise BridgeError(f"integer inputs and outputs need int8 or int16x8, not {scheme.name}")
    manager = _recipe(scheme, int8_io)
    try:
        observed = _observe(source, manager, calibration) if scheme.calibrated else None
        made = quantizer.Quantizer(str(source), manager.get_quantization_recipe()).quantize(
            observed, enable_progress_bar=False, enable_progress_report=False
        )
    # It raises ValueError, RuntimeError and whatever the interpreter below it does.
    except Exception as error:
        raise ConversionError(
            f"ai-edge-quantizer refused {scheme.name}: {type(error).__name__}: {error}"
        ) from error
    target.write_bytes(made.quantized_model)
    compact(target)
    before, after = multiply_accumulates(source), multiply_accumulates(target)
    linear = multiply_accumulates(source, ["FULLY_CONNECTED"]).total()
    if scheme.arithmetic != "float32" and after[scheme.arithmetic] != linear:
        raise ConversionError(
            f"{scheme.name}: {after[scheme.arithmetic]:,} of FULLY_CONNECTED's {linear:,} "
            f"multiply-accumulates run in {scheme.arithmetic}; the quantizer left some in float"
        )
    stored = stored_weights(target)
    if set(stored) != {scheme.weights}:
        kinds = ", ".join(f"{count} as {kind}" for kind, count in stored.most_common())
        raise ConversionError(
            f"{scheme.name}: weights of FULLY_CONNECTED are stored {kinds}, not all as "
            f"{scheme.weights}; the quantizer left some in float"
        )
    if sum(before.values()) != sum(after.values()):
        raise ConversionError(f"{scheme.name}: the quantizer changed the graph's size")


def _recipe(scheme: Scheme, int8_io: bool) -> Any:
    """The quantizer's settings for a scheme: a `RecipeManager`."""
    from ai_edge_quantizer import qtyping, recipe_manager
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    operator = qtyping.TFLOperationName
    linear = {"regex": ".*", "operation_name": operator.FULLY_CONNECTED}
    manager = recipe_manager.RecipeManager()
    if scheme.name == "fp16":
        halves = qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(
                num_bits=16, dtype=qtyping.TensorDataType.FLOAT
            ),
            compute_precision=qtyping.ComputePrecision.FLOAT,
        )
        manager.add_quantization_config(
            **linear, op_config=halves, algorithm_key=AlgorithmName.FLOAT_CASTING
        )
    elif scheme.name == "dynamic_int8":
        manager.add_dynamic_config(**linear, num_bits=8)
    elif scheme.name == "weight_only_int8":
        manager.add_weight_only_config(**linear, num_bits=8)
    else:
        bits = {"activation_num_bits": 16 if scheme.name == "int16x8" else 8, "weight_num_bits": 8}
        manager.add_static_config(**linear, **bits)
        for edge in (operator.INPUT, operator.OUTPUT):
            if int8_io:
                manager.add_static_config(".*", edge, **bits)
            else:  # otherwise it becomes integer with its neighbour
                manager.add_quantization_config(
                    ".*", edge, None, algorithm_key=AlgorithmName.NO_QUANTIZE
                )
    return manager


def _observe(source: Path, manager: Any, calibration: Calibration) -> dict[str, Any]:
    """The lowest and highest value of each activation.

    The quantizer's own calibration keeps a moving average of minima and maxima, which leaves out
    what only some clips reach; activations are then clipped, and this model's logits go wrong.
    """
    from ai_edge_quantizer import calibrator
    from ai_edge_quantizer.utils import qsv_utils

    observer = calibrator.Calibrator(
        str(source), num_threads=1, qsv_update_func=qsv_utils.min_max_update
    )
    # A list: it is gone through twice, the first time to count.
    observer.calibrate({SIGNATURE: list(calibration.inputs())}, manager)
    return observer.get_model_qsvs()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0 if the quantized file still agrees with the float one, 1 if not."""
    schemes = "\n".join(f"  {s.name:16} {s.description}" for s in SCHEMES.values())
    parser = argparse.ArgumentParser(
        prog="python -m bridge.quantize",
        description="Quantize a float .tflite that bridge/convert.py made, and judge the result by "
        "the float one. (bridge/convert.py --quantize does the same from a checkpoint, and judges "
        "by PyTorch.)",
        epilog=f"schemes:\n{schemes}\n\nexit status: 0 quantized and good, 1 not, 2 bad input",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="IN.tflite", help="a float .tflite with its metadata")
    parser.add_argument(
        "--scheme", required=True, choices=[name for name in SCHEMES if name != FLOAT]
    )
    parser.add_argument(
        "--output", metavar="OUT.tflite", help="default: IN with the scheme for fp32 in its name"
    )
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="labelled recordings to judge by (default: those of --calibration-data that "
        "calibration does not take)",
    )
    add_quantization_arguments(parser)
    parser.add_argument("--seed", type=at_least(0), default=0, help="default: %(default)s")
    options = parser.parse_args(arguments)

    from bridge.parity_report import print_parity
    from bridge.quantization_job import QuantizationOptions, quantize_artifact

    source = Path(options.model)
    name = options.scheme + ("_io" if options.int8_io else "")
    target = source.with_name(f"{source.stem.removesuffix(f'_{FLOAT}')}_{name}.tflite")
    parity, path, judged_on = quantize_artifact(
        source,
        SCHEMES[options.scheme],
        Path(options.output) if options.output else target,
        QuantizationOptions(
            calibration_data=options.calibration_data,
            calibration_clips=options.calibration_clips,
            allow_random_calibration=options.allow_random_calibration,
            int8_io=options.int8_io,
        ),
        data=options.data,
        seed=options.seed,
    )
    print(f"judged on {judged_on}")
    print_parity([parity])
    if path is not None:
        print(f"{path}: {path.stat().st_size:,} bytes")
    return 0 if parity.passed else 1


def command() -> None:
    """The console script."""
    run_command(main)


if __name__ == "__main__":
    command()

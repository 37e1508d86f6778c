"""Quantizes the float .tflite of any route; the one place that uses ai-edge-quantizer.

Every scheme works on the operators that hold a model's weights (`ModelKind.quantized_operators`):
with SignBART FULLY_CONNECTED, nine tenths of its multiply-accumulates. What lies between
(LayerNorm, softmax, GELU, and the products of attention) stays in float32: XNNPACK has no int8
kernels for it and would leave the graph in dozens of pieces. docs/quantization.md has the
measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.errors import BridgeError, ConversionError
from bridge.quantization.schemes import FLOAT, Scheme
from signbart.extras import explain_missing
from signbart.files import temporary_folder
from signbart.memory import raise_shortage
from signbart.models.io_spec import SIGNATURE

if TYPE_CHECKING:
    from signbart.training.calibration import Calibration

LOOP = "WHILE"  # LiteRT's
UNCALIBRATED = "dynamic_int8 and weight_only_int8 need no calibration"


def quantize(
    source: Path,
    scheme: Scheme,
    target: Path,
    calibration: Calibration | None = None,
    *,
    operators: Sequence[str] = ("FULLY_CONNECTED",),
    int8_io: bool = False,
) -> None:
    """Writes `source` in another number format.

    Its second signature, where it has one, gets the quantized model; what stands around that stays
    float, and needs no calibration.

    Args:
        source: A float .tflite with the signature `io_spec.SIGNATURE`.
        scheme: Any but `FLOAT`.
        target: The file to write; without metadata, compacted.
        calibration: What the model is shown, for the schemes that need it.
        operators: LiteRT operators that hold the model's weights; all of them are quantized.
        int8_io: For ``int8`` and ``int16x8``: inputs and outputs that are float otherwise become
            integers too.

    Raises:
        ConversionError: The quantizer refuses the file, or left one of `operators` as it was.
    """
    try:
        from ai_edge_quantizer import quantizer
    except ModuleNotFoundError as error:
        raise ConversionError(explain_missing(error.name) or str(error)) from None

    from bridge.artifact.raw_signature import add_raw_signature, split_raw_signature
    from signbart.artifacts import contents
    from signbart.artifacts.compaction import compact
    from signbart.artifacts.contents import multiply_accumulates, stored_weights

    if scheme.name == FLOAT:
        raise BridgeError("fp32 is what is quantized, and no scheme to quantize to")
    if scheme.calibrated and calibration is None:
        raise BridgeError(f"scheme {scheme.name} needs calibration data")
    if int8_io and not scheme.calibrated:
        raise BridgeError(f"integer inputs and outputs need int8 or int16x8, not {scheme.name}")
    manager = _recipe(scheme, operators, int8_io)
    with temporary_folder(target.parent) as folder:
        core, around = folder / "core.tflite", folder / "around.tflite"
        try:
            is_split = split_raw_signature(source, core, around)
            model = core if is_split else source
            observed = _observe(model, manager, calibration) if scheme.calibrated else None
            made = quantizer.Quantizer(str(model), manager.get_quantization_recipe()).quantize(
                observed, enable_progress_bar=False, enable_progress_report=False
            )
        # It raises ValueError, RuntimeError and whatever the interpreter below it does.
        except Exception as error:
            raise_shortage(source, error)
            said = f"ai-edge-quantizer refused {scheme.name}: {type(error).__name__}: {error}"
            if scheme.calibrated and LOOP in contents.operators(source):
                # It never sees what the graph inside a loop computes.
                said += f"; it calibrates no model with a loop ({LOOP}), and {UNCALIBRATED}"
            raise ConversionError(said) from error
        target.write_bytes(made.quantized_model)
        compact(target)
        if is_split:
            add_raw_signature(target, around)
    named = " and ".join(operators)
    computed = scheme.computed(operators)
    weighted, after = (
        multiply_accumulates(path, computed, weighted=True) for path in (source, target)
    )
    if scheme.arithmetic != "float32" and after[scheme.arithmetic] != weighted.total():
        raise ConversionError(
            f"{scheme.name}: {after[scheme.arithmetic]:,} of the {weighted.total():,} "
            f"multiply-accumulates of {' and '.join(computed)} run in {scheme.arithmetic}; the "
            "quantizer left some in float"
        )
    stored = stored_weights(target, operators)
    if set(stored) != {scheme.weights}:
        kinds = ", ".join(f"{count} as {kind}" for kind, count in stored.most_common()) or "nowhere"
        raise ConversionError(
            f"{scheme.name}: weights of {named} are stored {kinds}, not all as {scheme.weights}; "
            "the quantizer left some in float"
        )
    if multiply_accumulates(source).total() != multiply_accumulates(target).total():
        raise ConversionError(f"{scheme.name}: the quantizer changed the graph's size")


def _recipe(scheme: Scheme, operators: Sequence[str], int8_io: bool) -> Any:
    """The quantizer's settings for a scheme: a `RecipeManager`."""
    from ai_edge_quantizer import qtyping, recipe_manager
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    operation = qtyping.TFLOperationName
    bits = {"activation_num_bits": 16 if scheme.name == "int16x8" else 8, "weight_num_bits": 8}
    halves = qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(
            num_bits=16, dtype=qtyping.TensorDataType.FLOAT
        ),
        compute_precision=qtyping.ComputePrecision.FLOAT,
    )
    manager = recipe_manager.RecipeManager()
    for name in operators:
        where = {"regex": ".*", "operation_name": operation[name]}
        if scheme.name == "fp16":
            manager.add_quantization_config(
                **where, op_config=halves, algorithm_key=AlgorithmName.FLOAT_CASTING
            )
        elif scheme.name == "weight_only_int8" or name in scheme.stored_only:
            manager.add_weight_only_config(**where, num_bits=8)
        elif scheme.name == "dynamic_int8":
            manager.add_dynamic_config(**where, num_bits=8)
        else:
            manager.add_static_config(**where, **bits)
    for edge in (operation.INPUT, operation.OUTPUT) if scheme.calibrated else ():
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

"""What to quantize to, on what, and a .tflite with all of its signatures quantized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.artifact.lengths import add_lengths, split_lengths
from bridge.errors import BridgeError
from bridge.quantization.quantizer import quantize
from bridge.quantization.schemes import FLOAT, Scheme
from signbart.artifacts.contents import multiply_accumulates
from signbart.files import temporary_folder
from signbart.recordings.data_source import DataSource, read_recordings
from signbart.training.calibration import MIN_CLIPS, Calibration, calibrate_on, calibrate_on_noise

if TYPE_CHECKING:
    from signbart.configuration.schema import RunConfig
    from signbart.recordings.clip import ClipSet


@dataclass(frozen=True)
class QuantizationOptions:
    """What to quantize to, and what to show the quantizer.

    Attributes:
        schemes: Names of `schemes.SCHEMES`, ``all`` for every one.
        calibration_data: Recordings to calibrate on; by default those of the comparison that were
            trained on.
        calibration_clips: How many of them.
        allow_random_calibration: Calibrate on random numbers where there are no recordings.
        test_signers: Signers that were not trained on; None: as the checkpoint says.
        int8_io: Integer inputs and outputs, for ``int8`` and ``int16x8``.
    """

    schemes: Sequence[str] = (FLOAT,)
    calibration_data: str | DataSource | None = None
    calibration_clips: int = MIN_CLIPS
    allow_random_calibration: bool = False
    test_signers: Sequence[str] | None = None
    int8_io: bool = False


def calibrate(
    options: QuantizationOptions,
    config: RunConfig,
    trained_on: ClipSet | None,
    data: str | DataSource | None,
    seed: int,
) -> Calibration:
    """What quantizers are shown: clips of `trained_on`, from `data`, or what `options` name.

    Raises:
        SignBartError: There is nothing to calibrate on, or it does not fit.
    """
    count = options.calibration_clips
    if trained_on is None and options.calibration_data is not None:
        trained_on, data = read_recordings(options.calibration_data), options.calibration_data
    if trained_on is not None:
        return calibrate_on(trained_on, config, count=count, seed=seed, source=str(data))
    if options.allow_random_calibration:
        return calibrate_on_noise(config, count=count, seed=seed)
    raise BridgeError(
        "int8 and int16x8 are calibrated on recordings: give --calibration-data (or, to signbart "
        "convert, --data, of which it takes those that were trained on). "
        "(--allow-random-calibration takes random numbers, for trying things out: such ranges fit "
        "no real clip)"
    )


def quantize_file(
    source: Path,
    scheme: Scheme,
    target: Path,
    calibrations: Mapping[int | None, Calibration | None],
    *,
    operators: Sequence[str],
    int8_io: bool,
) -> dict[str, Any]:
    """Quantizes a float .tflite, each length by itself; see `quantizer.quantize`.

    `calibrations` are by the frames of shorter signatures, and None for all others. Activations get
    ranges of their own for each length; weights become the same integers, and are there once.

    Returns:
        Its `quantization_record`.
    """
    with temporary_folder() as folder:
        whole, quantized = folder / "whole.tflite", {}
        parts = {None: whole, **split_lengths(source, whole, folder)}
        for frames, part in parts.items():
            quantized[frames] = folder / f"quantized_{frames}.tflite"
            shown = calibrations[frames] if scheme.calibrated else None
            quantize(part, scheme, quantized[frames], shown, operators=operators, int8_io=int8_io)
        add_lengths(quantized[None], {n: part for n, part in quantized.items() if n is not None})
        target.write_bytes(quantized[None].read_bytes())
    return quantization_record(target, scheme, calibrations[None])


def quantization_record(
    path: Path, scheme: Scheme, calibration: Calibration | None
) -> dict[str, Any]:
    """What a quantized .tflite's metadata say of how it was made."""
    products = multiply_accumulates(path)
    return {
        "scheme": scheme.name,
        "description": scheme.description,
        "multiply_accumulates": dict(products),
        "shares": {name: round(count / products.total(), 4) for name, count in products.items()},
        "calibration": dict(calibration.record) if scheme.calibrated and calibration else None,
    }

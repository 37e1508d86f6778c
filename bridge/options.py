"""Command-line options that several commands of the bridge share. Loads nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bridge.verification import MIN_SAMPLES
from signbart.console import at_least
from signbart.recordings.options import SignerNames, add_reading_arguments, data_source
from signbart.training.calibration import MIN_CLIPS as MIN_CALIBRATION_CLIPS

if TYPE_CHECKING:
    from bridge.conversion.evidence import QuantizationOptions


def add_comparison_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what is compared on."""
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="recordings to compare on, beside random inputs (default: synthetic ones, where they "
        "have the layout's landmarks)",
    )
    parser.add_argument(
        "--samples",
        type=at_least(MIN_SAMPLES),
        default=MIN_SAMPLES,
        help=f"inputs per length, at least {MIN_SAMPLES} (default: %(default)s)",
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="default: %(default)s")
    add_reading_arguments(parser)


def add_published_arguments(parser: argparse.ArgumentParser) -> None:
    """What a published .pth does not say of itself."""
    parser.add_argument("--config", metavar="YAML", help="configuration of a published .pth")
    parser.add_argument("--labels", metavar="JSON", help="label2id.json of a published .pth")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of that configuration, for example --set data.layout=kp75",
    )


def add_quantization_arguments(
    parser: argparse.ArgumentParser, *, default: str = "those of --data that were trained on"
) -> None:
    """What quantizers are shown; `default` says which recordings where none are given."""
    parser.add_argument(
        "--calibration-data",
        metavar="PATH",
        help=f"recordings that fix the ranges of int8 and int16x8 (default: {default})",
    )
    parser.add_argument(
        "--calibration-clips",
        type=at_least(MIN_CALIBRATION_CLIPS),
        default=MIN_CALIBRATION_CLIPS,
        metavar="N",
        help=f"how many of them, at least {MIN_CALIBRATION_CLIPS} (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-random-calibration",
        action="store_true",
        help="without recordings calibrate on random numbers: to try things out, not to ship",
    )
    parser.add_argument(
        "--int8-io",
        action="store_true",
        help="integer inputs and outputs for int8 and int16x8 (default: float32)",
    )


def quantization_options(
    options: argparse.Namespace,
    schemes: Sequence[str] = (),
    test_signers: Sequence[str] | None = None,
) -> QuantizationOptions:
    """What a command line with `add_quantization_arguments` asks for."""
    from bridge.conversion.evidence import QuantizationOptions

    return QuantizationOptions(
        schemes=schemes,
        calibration_data=data_source(options, options.calibration_data),
        calibration_clips=options.calibration_clips,
        allow_random_calibration=options.allow_random_calibration,
        test_signers=test_signers,
        int8_io=options.int8_io,
    )


def add_raw_frames_argument(parser: argparse.ArgumentParser) -> None:
    """How long a recording the signature of raw landmarks takes."""
    parser.add_argument(
        "--raw-frames",
        type=at_least(0),
        metavar="N",
        help="most frames that signature landmarks takes, the one for recordings as they are; 0 "
        "leaves it out (default: 256, or data.max_frames where that is more)",
    )


def add_test_signers_argument(parser: argparse.ArgumentParser) -> None:
    """Who was not trained on, where the checkpoint does not say."""
    parser.add_argument(
        "--test-signers",
        nargs="+",
        action=SignerNames,
        metavar="SIGNER",
        help="signers of --data that were not trained on: they judge quantized artifacts, never "
        "calibrate them; @FILE reads them from a file, one a line (default: those of the "
        "checkpoint)",
    )

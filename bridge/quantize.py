"""``python -m bridge.quantize``: a float .tflite in another number format, judged by it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bridge.options import add_quantization_arguments, quantization_options
from bridge.quantization.schemes import FLOAT, SCHEMES
from signbart.checksums import add_checksum_argument
from signbart.console import at_least, program_name, run_command
from signbart.recordings.options import add_reading_arguments, data_source


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0 if the quantized file still agrees with the float one, 1 if not."""
    schemes = "\n".join(
        f"  {s.name:16} {s.description}" for s in SCHEMES.values() if s.name != FLOAT
    )
    parser = argparse.ArgumentParser(
        prog=program_name("python -m bridge.quantize"),
        description="Quantize a float .tflite that signbart convert made, and judge the result by "
        "the float one.\n(signbart convert --quantize does the same from a checkpoint, and judges "
        "by PyTorch.)",
        epilog=f"schemes:\n{schemes}\n\n"
        "exit status: 0 quantized and within its limits, 1 not, 2 bad input",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="IN.tflite", help="a float .tflite with its metadata")
    parser.add_argument(
        "--scheme", required=True, choices=[name for name in SCHEMES if name != FLOAT]
    )
    parser.add_argument(
        "--output",
        metavar="OUT.tflite",
        help="default: as IN, with the scheme instead of fp32 in its name",
    )
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="labelled recordings to judge by (default: those of --calibration-data that "
        "calibration does not take)",
    )
    add_quantization_arguments(parser, default="none: these two schemes need them")
    parser.add_argument("--seed", type=at_least(0), default=0, help="default: %(default)s")
    add_reading_arguments(parser)
    add_checksum_argument(parser)
    options = parser.parse_args(arguments)

    from bridge.conversion.single_file import quantize_artifact
    from bridge.verification.report import print_parity

    source = Path(options.model)
    name = options.scheme + ("_io" if options.int8_io else "")
    target = source.with_name(f"{source.stem.removesuffix(f'_{FLOAT}')}_{name}.tflite")
    artifact = quantize_artifact(
        source,
        SCHEMES[options.scheme],
        Path(options.output) if options.output else target,
        quantization_options(options),
        data=data_source(options, options.data),
        seed=options.seed,
        checksum=options.checksum,
    )
    print(f"judged on {artifact.inputs}")
    print_parity(artifact.verdicts)
    if artifact.path is not None:
        print(f"{artifact.path}: {artifact.path.stat().st_size:,} bytes")
    return 0 if artifact.parity.passed else 1


if __name__ == "__main__":
    run_command(main)

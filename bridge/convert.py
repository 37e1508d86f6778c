"""``python bridge/convert.py``: the work is done by `bridge.conversion.pipeline.convert`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    # Run as `python bridge/convert.py`: Python put bridge/ first on the path, and the project's
    # root belongs there.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bridge.options import (
    add_comparison_arguments,
    add_published_arguments,
    add_quantization_arguments,
    add_raw_frames_argument,
    add_test_signers_argument,
    quantization_options,
)
from bridge.quantization.schemes import FLOAT, SCHEMES
from bridge.routes import ROUTES
from bridge.weights.source import published_options
from signbart.checksums import add_checksum_argument
from signbart.console import at_least, next_command, program_name, run_command
from signbart.engines.options import add_engine_arguments, engine_of
from signbart.recordings.options import data_source

# Lines of the log that a failure shows.
_LOG_TAIL = 15


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0 if every artifact is within its limits, 1 if not."""
    table = "\n".join(
        f"  {route.name:8} {route.description} (also {', '.join(route.aliases)})"
        for route in ROUTES.values()
    )
    schemes = "\n".join(f"  {scheme.name:16} {scheme.description}" for scheme in SCHEMES.values())
    parser = argparse.ArgumentParser(
        prog=program_name("python bridge/convert.py"),
        description="Convert a checkpoint to .tflite and compare the result with PyTorch.",
        epilog=f"routes:\n{table}\n\nschemes:\n{schemes}\n\n"
        "exit status: 0 converted and within the limits (docs/verification.md), 1 not, 2 bad input",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="FILE",
        help=".safetensors, .keras, .weights.h5, or a published .pth",
    )
    parser.add_argument(
        "--output", required=True, metavar="FOLDER", help="folder to write, such as exports/NAME"
    )
    parser.add_argument(
        "--route",
        action="append",
        metavar="NAME",
        help="one of those below, or all; may be repeated (default: litert)",
    )
    parser.add_argument(
        "--quantize",
        action="append",
        metavar="SCHEMES",
        help="schemes, see below, separated by commas, or all (default: fp32)",
    )
    add_published_arguments(parser)
    parser.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="divides the logits before the softmax (default: what training fitted, else 1; "
        "signbart calibrate fits it on signers left out)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="probability from which on a stream's answer is a sign; signbart calibrate finds one "
        "(default: the file carries none, and each program takes its own)",
    )
    add_comparison_arguments(parser)
    add_quantization_arguments(parser)
    add_test_signers_argument(parser)
    parser.add_argument(
        "--jobs",
        type=at_least(1),
        metavar="N",
        help="routes at a time, in processes of their own if more than one (default: as many as "
        "there are cores; with --engine ray as many as there is room for)",
    )
    add_engine_arguments(parser, "routes")
    add_raw_frames_argument(parser)
    parser.add_argument(
        "--lengths",
        type=_numbers,
        default=[],
        metavar="FRAMES",
        help="further signatures of each .tflite, for clips of at most so many frames, separated "
        "by commas: short clips then take less time; the weights are stored once",
    )
    parser.add_argument(
        "--card-notes",
        metavar="FILE",
        help="Markdown that becomes a part of MODEL_CARD.md: whose recordings they were, how well "
        "strangers are recognised; see exports/README.md",
    )
    add_checksum_argument(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="show the converters' output")
    options = parser.parse_args(arguments)

    from bridge.conversion.pipeline import convert
    from bridge.verification.report import print_parity

    conversions = convert(
        options.checkpoint,
        options.output,
        routes=options.route or ["litert"],
        quantization=quantization_options(
            options, options.quantize or [FLOAT], options.test_signers
        ),
        config=options.config,
        overrides=options.overrides,
        labels=options.labels,
        temperature=options.temperature,
        threshold=options.threshold,
        data=data_source(options, options.data),
        samples=options.samples,
        seed=options.seed,
        verbose=options.verbose,
        jobs=options.jobs or (None if options.engine == "ray" else os.cpu_count() or 1),
        engine=engine_of(options),
        raw_frames=options.raw_frames,
        lengths=options.lengths,
        card_notes=options.card_notes,
        checksum=options.checksum,
    )
    preprocessing = conversions[0].preprocessing
    print(
        f"layout {preprocessing['layout']}, {len(preprocessing['joint_idx'])} keypoints, "
        f"normalisation {preprocessing['normalization']}"
        + (" (a published file does not say: check them)" if options.config else "")
    )
    for conversion in conversions:
        text = f"{conversion.route} {conversion.scheme}: {conversion.seconds:.1f} s"
        if conversion.path:
            text += f", {conversion.path.stat().st_size:,} bytes, {conversion.path}"
        print(text)
    for scheme, inputs in {c.scheme == FLOAT: c.inputs for c in conversions}.items():
        print(f"{'compared' if scheme else 'quantized: judged'} on {inputs}")
    print_parity([verdict for conversion in conversions for verdict in conversion.verdicts])
    output = Path(options.output)
    failed = [conversion for conversion in conversions if not conversion.parity.passed]
    for conversion in failed:
        if conversion.repro:
            print(f"the worst input alone: {conversion.repro}")
    if failed:
        log = output / "convert.log"
        if not options.verbose and log.is_file():
            print(f"the end of the converters' output, all of it in {log}:")
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL:]:
                print(f"  {line}")
        return 1
    print("next:")
    print(f"  cat {output / 'MODEL_CARD.md'}")
    first, last = (shlex.quote(str(conversions[at].path)) for at in (0, -1))
    print(f"  {next_command('signbart_runtime.classify')} {first} CLIP")
    again = ["--reference", options.checkpoint]
    again += published_options(options.config, options.overrides, options.labels)
    print(f"  {next_command('bridge.parity')} {shlex.join(again)} {last} --data RECORDINGS")
    return 0


def _numbers(text: str) -> list[int]:
    """Whole numbers separated by commas; which ones can be, the model says."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}' must be numbers of frames separated by commas, such as 32,64"
        ) from None


if __name__ == "__main__":
    run_command(main)

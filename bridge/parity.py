"""``python -m bridge.parity``: do artifacts still agree with their checkpoint?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bridge.options import (
    add_comparison_arguments,
    add_published_arguments,
    add_test_signers_argument,
)
from signbart.checksums import add_checksum_argument
from signbart.console import not_negative, program_name, run_command
from signbart.recordings.options import data_source


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0 if every artifact passes, 1 if not."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m bridge.parity"),
        description="Compare artifacts with the PyTorch checkpoint that they were made from.",
    )
    parser.add_argument("--reference", required=True, metavar="CKPT", help="that checkpoint")
    parser.add_argument(
        "artifacts", nargs="+", metavar="ARTIFACT", help=".tflite, .onnx or .keras files"
    )
    add_comparison_arguments(parser)
    parser.add_argument("--inputs", metavar="NPZ", help="compare on the arrays of this file alone")
    parser.add_argument(
        "--atol", type=not_negative, metavar="X", help="absolute limit instead of the scheme's own"
    )
    parser.add_argument(
        "--rtol", type=not_negative, metavar="X", help="relative limit instead of the scheme's own"
    )
    add_published_arguments(parser)
    add_test_signers_argument(parser)
    add_checksum_argument(parser)
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        help="write parity.json, parity.md and pictures here; the worst input of an artifact that "
        "disagrees is always saved (without this in parity/)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)

    from bridge.verification.artifacts import compare_artifacts
    from bridge.verification.report import parity_json, print_parity, save_repro, write_reports
    from bridge.verification.verdict import WRONG
    from bridge.weights.source import read_source

    source = read_source(
        options.reference,
        config=options.config,
        overrides=options.overrides,
        labels=options.labels,
        checksum=options.checksum,
    )
    paths = [Path(path) for path in options.artifacts]
    found = compare_artifacts(
        source,
        paths,
        data=data_source(options, options.data),
        inputs=options.inputs,
        samples=options.samples,
        seed=options.seed,
        test_signers=options.test_signers,
        atol=options.atol,
        rtol=options.rtol,
        checksum=options.checksum,
    )
    again = [
        f"--{name}={value}"
        for name in ("atol", "rtol")
        if (value := getattr(options, name)) is not None
    ]
    folder = Path(options.output or "parity")
    repros = [
        save_repro(options.reference, path, verdict, tried, folder, [*source.options, *again])
        for path, verdict, tried in zip(found.paths, found.verdicts, found.tried, strict=True)
        if verdict.verdict == WRONG
    ]
    if options.output:
        write_reports(found.verdicts, found.settings, folder, found.settings["atol"])
    if options.json:
        print(parity_json(found.verdicts, found.settings), end="")
    else:
        print_parity(found.verdicts)
        for repro in repros:
            print(f"the worst input alone: {repro}")
    return 0 if all(verdict.passed for verdict in found.verdicts) else 1


if __name__ == "__main__":
    run_command(main)

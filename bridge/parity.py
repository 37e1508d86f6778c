"""Do two runtimes agree? Names, then shapes, dtypes, NaN and infinity, and only then values.

Legend: C classes, T frames, K keypoints.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.errors import BridgeError
from bridge.options import (
    add_comparison_arguments,
    add_published_arguments,
    add_test_signers_argument,
    not_negative,
)
from bridge.verification.compare import WRONG, Parity, compare_artifact, diagnose
from bridge.verification.report import save_repro
from bridge.weights.source import published_options
from signbart.console import program_name, run_command

if TYPE_CHECKING:
    from bridge.verification.clips import JudgedClips


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0 if every artifact passes, 1 if not."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m bridge.parity"),
        description="Compare artifacts with the PyTorch checkpoint that they were made from.",
    )
    parser.add_argument("--reference", required=True, metavar="CKPT", help="the checkpoint")
    parser.add_argument(
        "artifacts", nargs="+", metavar="ARTIFACT", help=".tflite, .onnx or .keras files"
    )
    add_comparison_arguments(parser)
    parser.add_argument("--inputs", metavar="NPZ", help="compare on the arrays of this file alone")
    parser.add_argument("--atol", type=not_negative, help="instead of verification/limits.yaml's")
    parser.add_argument("--rtol", type=not_negative, help="instead of verification/limits.yaml's")
    add_published_arguments(parser)
    add_test_signers_argument(parser)
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        help="write parity.json, parity.md and pictures here; the worst input of an artifact that "
        "disagrees is always saved (without this in parity/)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)

    from bridge.artifact.runtimes import TorchRuntime
    from bridge.verification.clips import clips_to_judge, compare_on_clips
    from bridge.verification.limits import load_data_tolerance, load_tolerance
    from bridge.verification.report import parity_json, print_parity, write_reports
    from bridge.verification.samples import (
        describe_samples,
        make_samples,
        read_recordings,
        read_sample,
    )
    from bridge.weights.source import load_reference
    from signbart.configuration.reading import load_config

    given = load_config(options.config, options.overrides) if options.config else None
    model, config, class_names = load_reference(options.reference, given)
    tolerance = load_tolerance("fp32")
    atol = tolerance.atol if options.atol is None else options.atol
    rtol = tolerance.rtol if options.rtol is None else options.rtol
    recordings = read_recordings(options.data)
    if options.inputs:
        samples = [read_sample(options.inputs)]
    else:
        samples = make_samples(
            config,
            clips=recordings,
            samples=options.samples,
            seed=options.seed,
        )
    reference = TorchRuntime(model, config)
    results, repros = [], []
    again = published_options(options.config, options.overrides)
    again += [
        f"--{name}={value}"
        for name in ("atol", "rtol")
        if (value := getattr(options, name)) is not None
    ]
    judged_on: dict[tuple[int, int], JudgedClips] = {}
    for path in map(Path, options.artifacts):
        scheme = scheme_of(path)
        if scheme != "fp32" and options.atol is None and options.rtol is None:
            shown = calibration_of(path)
            if shown not in judged_on:
                count, seed = shown
                _, judged_on[shown] = clips_to_judge(
                    options.reference,
                    config,
                    class_names,
                    reference,
                    samples,
                    options.data,
                    recordings,
                    options.test_signers,
                    count=count,
                    seed=seed,
                )
            clips = judged_on[shown]
            result = compare_on_clips(path, scheme, clips, load_data_tolerance(scheme))
            tried = clips.samples()
        else:
            result, tried = compare_artifact(reference, path, samples, atol=atol, rtol=rtol)
            result = diagnose(model, path, result, tried)
        if not result.passed:
            result = _name_other_origin(result, path, options.reference)
        results.append(result)
        if result.verdict == WRONG:
            folder = Path(options.output or "parity")
            repros.append(save_repro(options.reference, path, result, tried, folder, again))
    settings = {"atol": atol, "rtol": rtol, "inputs": len(samples), "seed": options.seed}
    if judged_on:
        sources = dict.fromkeys(clips.source for clips in judged_on.values())
        settings["quantized judged on"] = " and ".join(sources)
    settings |= {
        "reference": options.reference,
        "inputs from": describe_samples(samples, options.data),
    }
    if options.output:
        write_reports(results, settings, Path(options.output), atol)
    if options.json:
        print(parity_json(results, settings), end="")
    else:
        print_parity(results)
        for repro in repros:
            print(f"the worst input alone: {repro}")
    return 0 if all(result.passed for result in results) else 1


def scheme_of(path: Path) -> str:
    """The quantization scheme that an artifact names; fp32 where it names none."""
    from bridge.artifact.metadata import read_metadata

    try:
        return str(read_metadata(path).get("scheme", "fp32"))
    except BridgeError:
        return "fp32"


def calibration_of(path: Path) -> tuple[int, int]:
    """How many clips an artifact was calibrated on, and the seed of their choice; 0, 0 of none."""
    from bridge.artifact.metadata import read_metadata

    record = read_metadata(path).get("quantization", {}).get("calibration")
    if not record or record["random"]:
        return 0, 0
    return record["clips"], record["seed"]


def _name_other_origin(result: Parity, path: Path, checkpoint: str) -> Parity:
    """Adds to the reason that the artifact says it was made from another checkpoint."""
    from bridge.artifact.metadata import read_metadata
    from signbart.files import file_sha256

    try:
        origin = read_metadata(path)["checkpoint_sha256"]
    except (BridgeError, KeyError):
        return result
    if origin == file_sha256(checkpoint):
        return result
    reason = f"{result.reason}; it was made from another checkpoint (SHA-256 {origin[:12]}…)"
    return dataclasses.replace(result, reason=reason)


if __name__ == "__main__":
    run_command(main)

"""What is inside an artifact: its operators, and whether a plain runtime has them all."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from signbart.artifacts.contents import foreign_operators, operators
from signbart.checksums import add_checksum_argument, checksum_holds
from signbart.console import printable, program_name, run_command
from signbart.errors import ArtifactError, NoMetadataError
from signbart.training.confidence import temperature_of, threshold_of


def describe(path: str | Path, *, checksum: bool = True) -> dict[str, Any]:
    """What a .tflite or .onnx is: size, signature, operators, and what it says of itself.

    Returns:
        JSON containers; ``metadata`` is None where the file carries none of this project's, and
        ``checksum`` whether it carries one, which is then right; None where it was not to be
        looked at.

    Raises:
        SignBartError: The file is missing, damaged, of another kind, or its folder is incomplete.
    """
    from bridge.artifact.runtimes import open_runtime
    from signbart.artifacts.completeness import require_complete
    from signbart.artifacts.contents import multiply_accumulates
    from signbart.artifacts.metadata import read_metadata

    path = Path(path)
    if path.suffix not in (".tflite", ".onnx"):
        raise ArtifactError(f"{path}: expected a .tflite or .onnx file")
    require_complete(path)
    holds = checksum_holds(path) if checksum and path.is_file() else None
    counted = operators(path)
    foreign = foreign_operators(path)
    # A plain runtime refuses what it lacks operators for; then the file's own word must do.
    spec = None if foreign else open_runtime(path).spec
    try:
        metadata = read_metadata(path)
    except NoMetadataError:
        metadata = None
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "signature": spec and spec.signature,
        "inputs": [tensor.describe() for tensor in spec.inputs] if spec else [],
        "outputs": [tensor.describe() for tensor in spec.outputs] if spec else [],
        "operators": dict(counted.most_common()),
        "foreign_operators": foreign,
        "multiply_accumulates": (
            dict(multiply_accumulates(path)) if path.suffix == ".tflite" and not foreign else {}
        ),
        "checksum": holds,
        "metadata": metadata,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart_runtime.describe"),
        description="Print what is inside an artifact: labels, tensors, preprocessing, operators.",
    )
    parser.add_argument("artifact", metavar="FILE", help=".tflite or .onnx")
    parser.add_argument("--json", action="store_true", help="print everything, as JSON")
    add_checksum_argument(parser)
    options = parser.parse_args(arguments)

    found = describe(options.artifact, checksum=options.checksum)
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    for line in _lines(found, options.artifact):
        print(printable(line))
    return 0


def _lines(found: dict[str, Any], path: str) -> Iterator[str]:
    """What `describe` returned, for people; `path` is for messages."""
    yield f"{found['file']}: {found['bytes']:,} bytes, signature {found['signature']}"
    for side in ("inputs", "outputs"):
        yield f"{side}: {'; '.join(found[side])}"
    counted = ", ".join(f"{name} {count}" for name, count in found["operators"].items())
    yield f"{sum(found['operators'].values())} operators: {counted}"
    yield f"beyond a plain runtime: {', '.join(found['foreign_operators']) or 'none'}"
    products = found["multiply_accumulates"]
    if products:
        shares = ", ".join(
            f"{name} {count / sum(products.values()):.1%}" for name, count in products.items()
        )
        yield f"{sum(products.values()):,} multiply-accumulates: {shares}"
    says = {True: "right", False: "none: damage would not be noticed", None: "not looked at"}
    yield f"checksum: {says[found['checksum']]}"
    metadata = found["metadata"]
    if metadata is None:
        yield "metadata: none of this project's; labels and preprocessing are unknown"
        return
    yield (
        f"route {metadata['route']}, scheme {metadata['scheme']}, {len(metadata['labels'])} labels:"
    )
    yield f"  {', '.join(metadata['labels'])}"
    preprocessing = metadata["preprocessing"]
    if preprocessing is None:
        yield "preprocessing: not known, its checkpoint does not say"
    else:
        yield (
            f"layout {preprocessing['layout']}, {len(preprocessing['joint_idx'])} keypoints, up to "
            f"{preprocessing['max_frames']} frames, normalisation {preprocessing['normalization']}"
        )
    raw = metadata.get("raw")
    if raw:
        temperature = temperature_of(metadata, path)
        yield (
            f"signature {raw['signature']}: landmarks as recorded, up to {raw['frames']} frames, "
            f"probabilities at temperature {temperature:g}"
        )
    if lengths := metadata.get("lengths"):
        shorter = ", ".join(
            signature
            for known in (lengths, (raw or {}).get("lengths", {}))
            for signature in [*known][:-1]
        )
        yield f"for shorter clips: {shorter}"
    threshold = threshold_of(metadata, path)
    if threshold is not None:
        yield f"in a stream a sign from {threshold:g} on"
    yield f"checkpoint SHA-256 {metadata['checkpoint_sha256']}"
    calibration = metadata.get("quantization", {}).get("calibration")
    if calibration:
        kind = "random inputs" if calibration["random"] else f"clips ({calibration['data']})"
        yield f"calibrated on {calibration['clips']} {kind}, seed {calibration['seed']}"
    yield "versions: " + ", ".join(f"{k} {v}" for k, v in metadata["versions"].items())


if __name__ == "__main__":
    run_command(main)

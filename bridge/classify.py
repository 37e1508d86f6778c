"""``python -m bridge.classify``: what one recording says, by any model.

From a .tflite neither PyTorch nor TensorFlow is loaded: the answer is there within a second.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from signbart.console import program_name, run_command
from signbart.recordings.options import add_reading_arguments, reading_options

_SHOWN = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m bridge.classify"),
        description="Say which sign a recording shows.",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a model: .tflite, .onnx, .keras, .safetensors, …"
    )
    parser.add_argument(
        "clip",
        metavar="CLIP",
        help="a .pkl with 'keypoints', an .npy of (T, K, 2 or 3), x.npz[12], one clip of a file "
        "with several, or another form of docs/data.md",
    )
    add_reading_arguments(parser, signers=False)
    parser.add_argument("--json", action="store_true", help="every class, as JSON")
    options = parser.parse_args(arguments)

    from bridge.artifact.opened import open_model

    scores = open_model(options.model).classify(options.clip, **reading_options(options))
    if options.json:
        predictions = [{"label": label, "score": round(score, 6)} for label, score in scores]
        record = {"model": options.model, "clip": options.clip, "predictions": predictions}
        print(json.dumps(record, ensure_ascii=False, indent=2))
        return 0
    width = max(len(label) for label, _ in scores[:_SHOWN])
    for label, score in scores[:_SHOWN]:
        print(f"{label:<{width}}  {score:7.2%}")
    return 0


if __name__ == "__main__":
    run_command(main)

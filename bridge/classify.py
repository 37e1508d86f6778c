"""``python -m bridge.classify``: what one recording says, by any model.

From a .tflite neither PyTorch nor TensorFlow is loaded: the answer is there within a second.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from signbart.console import run_command
from signbart.recordings.options import add_reading_arguments, reading_options

_SHOWN = 5


def classify(
    model: str | Path,
    clip: str,
    **reading: Any,
) -> list[tuple[str, float]]:
    """Every class with its score, the likeliest first.

    Args:
        model: A .tflite, or whatever else `evaluation.open_model` opens without further options.
        clip: The recording; see `signbart.recordings.reading.read_single_clip`.
        reading: How its landmarks are to be understood; further arguments of that function.

    Returns:
        Labels and scores: the softmax of the logits, which sums up to 1.

    Raises:
        SignBartError: The model or the recording cannot be read, or they do not fit each other.
    """
    from bridge.artifact.opened import open_model
    from bridge.verification.clips import predict, prepared_inputs
    from signbart.recordings.reading import read_single_clip

    recording = read_single_clip(clip, **reading)
    opened = open_model(model)
    (logits,) = predict(opened.runtime, *prepared_inputs(recording, opened.config))
    scores = np.exp(logits - logits.max(), dtype=np.float64)
    scores /= scores.sum()
    order = np.argsort(-logits, kind="stable")
    return [(opened.class_names[at], float(scores[at])) for at in order]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bridge.classify", description="Say which sign a recording shows."
    )
    parser.add_argument("model", metavar="MODEL", help="a .tflite made by bridge/convert.py")
    parser.add_argument(
        "clip",
        metavar="CLIP",
        help="a .pkl with 'keypoints', an .npy of (T, K, 2 or 3), x.npz[12], one clip of a file "
        "with several, or another form of docs/data.md",
    )
    add_reading_arguments(parser, signers=False)
    parser.add_argument("--json", action="store_true", help="every class, as JSON")
    options = parser.parse_args(arguments)

    scores = classify(options.model, options.clip, **reading_options(options))
    if options.json:
        predictions = [{"label": label, "score": round(score, 6)} for label, score in scores]
        record = {"model": options.model, "clip": options.clip, "predictions": predictions}
        print(json.dumps(record, ensure_ascii=False, indent=2))
        return 0
    width = max(len(label) for label, _ in scores[:_SHOWN])
    for label, score in scores[:_SHOWN]:
        print(f"{label:<{width}}  {score:7.2%}")
    return 0


def command() -> None:
    """The console script."""
    run_command(main)


if __name__ == "__main__":
    command()

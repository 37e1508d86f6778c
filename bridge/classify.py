"""``python -m bridge.classify``: what one recording says, by any model.

From a .tflite neither PyTorch nor TensorFlow is loaded: the answer is there within a second.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from bridge.errors import BridgeError
from signbart.console import at_least, program_name, run_command
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
        nargs="?",
        metavar="CLIP",
        help="a .pkl with 'keypoints', an .npy of (T, K, 2 or 3), x.npz[12], one clip of a file "
        "with several, or another form of docs/data.md; with --task a video",
    )
    add_reading_arguments(parser, signers=False)
    parser.add_argument(
        "--task", metavar="FILE", help="holistic_landmarker.task, where CLIP is a video"
    )
    parser.add_argument(
        "--camera",
        type=at_least(0),
        metavar="NUMBER",
        help="instead of CLIP: the label of the last seconds before this camera, until Ctrl-C",
    )
    parser.add_argument(
        "--window", type=float, default=2.0, metavar="S", help="of the camera (default: 2 s)"
    )
    parser.add_argument(
        "--every", type=float, default=0.5, metavar="S", help="of the camera (default: 0.5 s)"
    )
    parser.add_argument("--json", action="store_true", help="every class, as JSON")
    options = parser.parse_args(arguments)
    if (options.clip is None) == (options.camera is None):
        raise BridgeError("name a CLIP, or with --camera the number of a camera")

    from bridge.artifact.opened import open_model
    from signbart.video.frames import is_video

    model = open_model(options.model)
    reading = reading_options(options)
    if options.camera is not None:
        from signbart.video.running import follow_camera

        follow_camera(
            options.camera,
            options.task,
            model.classify,
            changes=reading["changes"],
            window=options.window,
            every=options.every,
        )
        return 0
    if is_video(Path(options.clip)):
        from signbart.video.clips import clip_of_video

        scores = model.classify(clip_of_video(options.clip, options.task, **reading))
    else:
        scores = model.classify(options.clip, **reading)
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

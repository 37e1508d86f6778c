"""``python -m bridge.classify``: what one recording says, by any model.

From a .tflite neither PyTorch nor TensorFlow is loaded: the answer is there within a second.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.errors import BridgeError
from signbart.console import at_least, program_name, run_command
from signbart.recordings.options import add_reading_arguments, reading_options

if TYPE_CHECKING:
    from bridge.artifact.opened import OpenedModel
    from signbart.recordings.clip import Clip

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
    if options.camera is not None:
        return _follow_camera(model, options)
    if is_video(Path(options.clip)):
        scores = model.classify(_clip_of_video(options))
    else:
        scores = model.classify(options.clip, **reading_options(options))
    if options.json:
        predictions = [{"label": label, "score": round(score, 6)} for label, score in scores]
        record = {"model": options.model, "clip": options.clip, "predictions": predictions}
        print(json.dumps(record, ensure_ascii=False, indent=2))
        return 0
    width = max(len(label) for label, _ in scores[:_SHOWN])
    for label, score in scores[:_SHOWN]:
        print(f"{label:<{width}}  {score:7.2%}")
    return 0


def _clip_of_video(options: argparse.Namespace) -> Clip:
    """A video's landmarks; on stderr what was found."""
    from signbart.video.extraction import as_clip, landmarks_of_video
    from signbart.video.holistic import describe_found

    if options.task is None:
        raise BridgeError(
            f"{options.clip}: a video; pass --task holistic_landmarker.task, see docs/data.md"
        )
    reading = reading_options(options)
    given = [name for name in ("source_layout", "image_size") if reading[name] is not None]
    if given:
        raise BridgeError(f"--{given[0].replace('_', '-')}: a video's landmarks are known")
    landmarks = landmarks_of_video(Path(options.clip), Path(options.task))
    print(describe_found(landmarks), file=sys.stderr)
    return as_clip(landmarks, options.clip, reading["changes"])


def _follow_camera(model: OpenedModel, options: argparse.Namespace) -> int:
    """Says what the last seconds show; on a terminal in one line."""
    from signbart.video.extraction import as_clip
    from signbart.video.frames import read_camera
    from signbart.video.holistic import Landmarker, native_noise
    from signbart.video.running import running_scores

    if options.task is None:
        raise BridgeError("--camera needs --task holistic_landmarker.task, see docs/data.md")
    ending = "\r" if sys.stdout.isatty() else "\n"
    try:
        with native_noise(None), Landmarker(Path(options.task)) as landmarker:
            for now, scores in running_scores(
                read_camera(options.camera),
                landmarker,
                lambda landmarks: model.classify(
                    as_clip(landmarks, "the camera", reading_options(options)["changes"])
                ),
                window=options.window,
                every=options.every,
            ):
                text = f"{scores[0][0]}  {scores[0][1]:.0%}" if scores else "nobody is seen"
                print(f"{now:6.1f} s  {text:<40}", end=ending, flush=True)
    except KeyboardInterrupt:
        print()
    return 0


if __name__ == "__main__":
    run_command(main)

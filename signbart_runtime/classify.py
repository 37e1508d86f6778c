"""``python -m signbart_runtime.classify``: what a recording or a stream of signs is, by any model.

From a .tflite neither PyTorch nor TensorFlow is loaded: the answer is there within a second.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bridge.errors import BridgeError
from signbart.checksums import add_checksum_argument
from signbart.console import at_least, program_name, run_command
from signbart.recordings.options import add_reading_arguments, reading_options
from signbart.streaming.options import (
    add_rule_arguments,
    check_rule,
    describe_threshold,
    fps_of,
    require_idle,
    rule_of,
)

if TYPE_CHECKING:
    from signbart.recordings.clip import Clip, ClipSet
    from signbart.streaming.rule import StreamRule
    from signbart_runtime.evaluation.opened import OpenedModel

_SHOWN = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart_runtime.classify"),
        description="Say which sign a recording shows, or each of several.",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a model: .tflite, .onnx, .keras, .safetensors, …"
    )
    parser.add_argument(
        "clips",
        nargs="*",
        metavar="CLIP",
        help="a .pkl with 'keypoints', an .npy of (T, K, 2 or 3), one clip of a file with several, "
        "x.npz[12], or another form of docs/data.md; with --task a video. Several CLIPs get a line "
        "each",
    )
    add_reading_arguments(parser, signers=False)
    parser.add_argument(
        "--task", metavar="FILE", help="holistic_landmarker.task, for a video or --camera"
    )
    parser.add_argument(
        "--camera",
        type=at_least(0),
        metavar="NUMBER",
        help="instead of CLIP: print the signs that are made before this camera, until Ctrl-C",
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="CLIP is long: print the signs in it, each with its beginning and its end",
    )
    add_rule_arguments(parser)
    add_checksum_argument(parser)
    parser.add_argument(
        "--json", action="store_true", help="print every class, or every event, as JSON"
    )
    options = parser.parse_args(arguments)
    if bool(options.clips) == (options.camera is not None):
        raise BridgeError("name a CLIP, or with --camera the number of a camera")
    if options.stream and len(options.clips) > 1:
        raise BridgeError(f"--stream: of one CLIP at a time, and not of {len(options.clips)}")
    streams = options.stream or options.camera is not None
    check_rule(options, streams=streams)
    if options.camera is not None and (options.json or options.fps is not None):
        what = "--json" if options.json else "--fps"
        raise BridgeError(f"{what} is of recordings, not of a camera: leave it out")

    from signbart_runtime.evaluation.opened import open_model

    model = open_model(options.model, checksum=options.checksum)
    reading = reading_options(options)
    require_idle(options, model.class_names)
    rule = rule_of(options, model.threshold)
    if streams:
        print(f"note: {describe_threshold(options, rule, model.threshold)}", file=sys.stderr)
    if options.camera is not None:
        from signbart.recordings.clip import ClipSet
        from signbart.video.running import follow_camera
        from signbart_runtime.evaluation.stream import probabilities

        follow_camera(
            options.camera,
            options.task,
            lambda clip: probabilities(model, ClipSet((clip,), ("",)))[0],
            model.class_names,
            changes=reading["changes"],
            rule=rule,
        )
        return 0
    if options.stream:
        return _print_events(model, options, reading, rule)
    _print_answers(model, options, reading)
    return 0


def _print_answers(
    model: OpenedModel, options: argparse.Namespace, reading: Mapping[str, Any]
) -> None:
    """The likeliest signs of one recording; of several the likeliest of each, on a line."""
    several, records = len(options.clips) > 1, []
    for clip, recording in zip(options.clips, _recordings(options, reading), strict=True):
        scores = model.classify(recording)
        if options.json:
            predictions = [{"label": label, "score": round(score, 6)} for label, score in scores]
            records.append({"model": options.model, "clip": clip, "predictions": predictions})
        elif several:
            label, score = scores[0]
            print(f"{clip}: {label} {score:.2%}", flush=True)
        else:
            width = max(len(label) for label, _ in scores[:_SHOWN])
            for label, score in scores[:_SHOWN]:
                print(f"{label:<{width}}  {score:7.2%}")
    if options.json:
        print(json.dumps(records if several else records[0], ensure_ascii=False, indent=2))


def _recordings(
    options: argparse.Namespace, reading: Mapping[str, Any]
) -> Iterator[Clip | ClipSet]:
    """Each CLIP, read or seen when it is its turn."""
    from signbart.recordings.reading import read_single_clips
    from signbart.video.frames import is_video

    for video, clips in groupby(options.clips, key=lambda clip: is_video(Path(clip))):
        if not video:
            yield from read_single_clips(clips, **reading)
            continue
        from signbart.video.clips import clip_of_video

        for clip in clips:
            yield clip_of_video(clip, options.task, **reading)


def _print_events(
    model: OpenedModel, options: argparse.Namespace, reading: Mapping[str, Any], rule: StreamRule
) -> int:
    """The signs in a long recording; the exit status."""
    from signbart.recordings.reading import read_single_clip
    from signbart.streaming.rule import describe_event, spot
    from signbart.video.clips import stream_of_video
    from signbart.video.frames import is_video
    from signbart_runtime.evaluation.stream import window_probabilities

    (source,), names, remedy = options.clips, None, "give --window"
    if is_video(Path(source)):
        if options.fps is not None:
            raise BridgeError("--fps: a video has its own; leave it out")
        clip, shown = stream_of_video(source, options.task, **reading)
    else:
        clips = read_single_clip(source, **reading)
        (clip,), names, fps = clips.clips, clips.landmark_names, fps_of(options)
        if options.fps is None:
            print(f"note: {fps:g} frames a second are supposed; --fps says it", file=sys.stderr)
        shown, remedy = [at / fps for at in range(len(clip.landmarks))], "give --window or --fps"
    # The last frame is shown as long as the others in the mean.
    seconds = shown[-1] * len(shown) / max(1, len(shown) - 1)
    frames = [*zip(shown, np.asarray(clip.landmarks), strict=True)]
    times, found = window_probabilities(model, frames, rule, source=source, landmark_names=names)
    if not times:
        raise BridgeError(
            f"{source}: {len(shown)} frames in {seconds:.1f} s, and no window of {rule.window:g} "
            f"s; leave --stream out, or {remedy}"
        )
    events = spot(times, found, rule, model.class_names)
    if options.json:
        record = {
            "model": options.model,
            "clip": source,
            "rule": dataclasses.asdict(rule),
            "events": [dataclasses.asdict(event) for event in events],
        }
        print(json.dumps(record, ensure_ascii=False, indent=2))
        return 0
    for event in events:
        print(describe_event(event))
    if not events:
        print(f"no sign is seen in {seconds:.1f} s")
    return 0


if __name__ == "__main__":
    run_command(main)

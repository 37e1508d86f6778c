"""``python -m benchmarks.raw_signature``: what preprocessing in the graph costs, and how exact.

Latency: a call of each signature by the interpreter's runners, in turns, one thread; beside it
NumPy's preprocessing of the same recording. Agreement: the signature of raw landmarks against
NumPy's preprocessing and PyTorch, on random recordings with holes and on every clip of a data set.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from bridge.artifact.metadata import carried_config, carried_raw, read_metadata
from bridge.artifact.raw_signature import RawSignature
from bridge.artifact.runtimes import TorchRuntime, open_runtime
from bridge.errors import BridgeError
from bridge.verification.raw import RawReference
from bridge.weights.source import read_source
from signbart.console import at_least, run_command, track
from signbart.models.io_spec import (
    ATTENTION_MASK,
    FRAMES_USED,
    KEYPOINTS,
    NUM_FRAMES,
    PROBABILITIES,
    RAW_SIGNATURE,
    raw_input,
)
from signbart.preprocessing import as_model_input, pad, preprocess
from signbart.recordings.data_source import read_recordings
from signbart.recordings.options import add_reading_arguments, data_source

_WARM_UP = 20
_LOST = (0.0, 0.1, 0.5)  # shares of landmarks that are missing


def latency(path: Path, raw: RawSignature, frames: int, rounds: int) -> dict[str, float]:
    """Milliseconds of a call, the 10th percentile of `rounds`, of each contestant."""
    config = raw.config
    inputs = next(random_recordings(raw, 1, length=frames))
    landmarks = np.nan_to_num(inputs["landmarks"][0, :frames])
    keypoints, mask = pad([preprocess(landmarks, config)], config.data.max_frames)
    given = {KEYPOINTS: as_model_input(keypoints, config), ATTENTION_MASK: mask}
    bare, whole = open_runtime(path), open_runtime(path, RAW_SIGNATURE)
    contestants: dict[str, Callable[[], object]] = {
        "model alone": lambda: bare(given),
        "raw landmarks": lambda: whole(inputs),
        "NumPy preprocessing": lambda: pad([preprocess(landmarks, config)]),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(_WARM_UP + rounds):
        for name, call in contestants.items():
            begun = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begun)
    return {name: 1e3 * float(np.percentile(t[_WARM_UP:], 10)) for name, t in times.items()}


def random_recordings(
    raw: RawSignature, count: int, seed: int = 0, length: int | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Inputs of every number of frames from 1 to the most, or of `length`.

    Points wander about; some are missing, NaN or zero, and some leave the image. What stands behind
    the recording is NaN.
    """
    rng = np.random.default_rng(seed)
    _, most, landmarks, coordinates = raw.spec.inputs[0].shape
    in_image = raw.config.data.landmark_layout.unit == "image"
    for _ in range(count):
        frames = length or int(rng.integers(1, most + 1))
        shape = (frames, landmarks, coordinates)
        points = rng.uniform(-0.1, 1.1, (1, *shape[1:]))
        points = points + rng.normal(scale=0.02, size=shape).cumsum(axis=0)
        if in_image:
            lost = rng.random(shape[:2]) < rng.choice(_LOST)
            points[lost] = rng.choice([0.0, np.nan])
        yield raw_input(raw.spec, points.astype(np.float32), behind=np.nan)


def largest_difference(
    path: Path, reference: RawReference, inputs: Iterator[dict[str, np.ndarray]]
) -> tuple[int, float, float]:
    """How many inputs there were, and the largest difference of scores and of probabilities."""
    run = open_runtime(path, RAW_SIGNATURE)
    count, scores, shares = 0, 0.0, 0.0
    for given in inputs:
        wanted, found = reference(given), run(given)
        if found[FRAMES_USED] != given[NUM_FRAMES]:
            raise BridgeError(f"{path} used {found[FRAMES_USED]} of {given[NUM_FRAMES]} frames")
        for name in wanted.keys() - {PROBABILITIES, FRAMES_USED}:
            scores = max(scores, float(np.abs(wanted[name] - found[name]).max()))
        shares = max(shares, float(np.abs(wanted[PROBABILITIES] - found[PROBABILITIES]).max()))
        count += 1
    return count, scores, shares


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.raw_signature",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("artifacts", nargs="+", type=Path, metavar="ARTIFACT")
    parser.add_argument("--reference", metavar="CKPT", help="the checkpoint, for agreement")
    parser.add_argument("--data", metavar="PATH", help="recordings for agreement, all of them")
    parser.add_argument(
        "--random", type=at_least(0), default=1000, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--rounds", type=at_least(1), default=500, help="of latency (default: %(default)s)"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="default: %(default)s")
    add_reading_arguments(parser)
    options = parser.parse_args(arguments)

    source = read_source(options.reference) if options.reference else None
    clips = read_recordings(data_source(options, options.data))
    for path in options.artifacts:
        raw = carried_raw(metadata := read_metadata(path), carried_config(metadata, path))
        if raw is None:
            raise BridgeError(f"{path} has no signature {RAW_SIGNATURE}; convert it again")
        if path.suffix == ".tflite":
            frames = min(raw.frames, 2 * raw.config.data.max_frames)
            times = latency(path, raw, frames, options.rounds)
            ratio = times["raw landmarks"] / times["model alone"]
            said = ", ".join(f"{name} {ms:.3f} ms" for name, ms in times.items())
            print(f"{path.name}: {said}; {frames} frames; {ratio:.2f} times the model alone")
        if source is None:
            continue
        reference = RawReference(TorchRuntime(source.model, source.config), raw)
        given = random_recordings(raw, options.random, options.seed)
        tried = {"random recordings": track(given, "random", options.random)}
        if clips is not None:
            kept = clips.to_layout(raw.config.data.landmark_layout).clips
            width = raw.spec.inputs[0].shape[3]
            arrays = (np.asarray(clip.landmarks)[..., :width] for clip in kept)
            fitting = (raw_input(raw.spec, a) for a in arrays if len(a) <= raw.frames)
            tried[f"clips of {Path(options.data).name}"] = track(fitting, "clips", len(kept))
        for name, inputs in tried.items():
            count, scores, shares = largest_difference(path, reference, iter(inputs))
            print(
                f"{path.name}: {count:,} {name}: largest difference {scores:.2e} of scores, "
                f"{shares:.2e} of probabilities"
            )
    return 0


if __name__ == "__main__":
    run_command(main)

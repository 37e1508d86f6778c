"""``python -m benchmarks.lengths``: what a short clip costs by each signature that holds it.

Calls by the interpreter's runners, in turns, one thread, on one random recording; and how far the
answers of the shorter signatures are from the longest one's.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bridge.artifact.runtimes import FloatView, open_runtime
from bridge.errors import BridgeError
from signbart.artifacts.lengths import carried_lengths, lengths_of
from signbart.artifacts.metadata import carried_config, carried_raw, read_metadata
from signbart.console import at_least, run_command
from signbart.models.io_spec import (
    ATTENTION_MASK,
    KEYPOINTS,
    RAW_SIGNATURE,
    SIGNATURE,
    class_output,
    raw_input,
)
from signbart.preprocessing import as_model_input, pad, preprocess

_WARM_UP = 20
Arrays = Mapping[str, np.ndarray]


def inputs_of(path: Path, frames: int, seed: int) -> dict[str, dict[str, Arrays]]:
    """The longest signature -> each signature that holds the clip, the shortest first -> inputs.

    Raises:
        BridgeError: The file has one length alone, or none holds the clip.
    """
    metadata = read_metadata(path)
    config, shorter = carried_config(metadata, path), carried_lengths(metadata, path)
    if not shorter or frames > config.data.max_frames:
        raise BridgeError(
            f"{path} has signatures for {shorter or 'no further'} frames beside its "
            f"{config.data.max_frames}, and the clip has {frames}; convert with --lengths"
        )
    raw = carried_raw(metadata, config)
    layout, rng = config.data.landmark_layout, np.random.default_rng(seed)
    shape = (frames, layout.num_keypoints, 3 if layout.unit == "metres" else 2)
    steps = rng.normal(scale=0.02, size=shape).cumsum(axis=0)
    landmarks = (rng.uniform(0.2, 0.8, shape[1:]) + steps).astype(np.float32)
    holding = [length for length in shorter if length >= frames]
    found: dict[str, dict[str, Arrays]] = {SIGNATURE: {}}
    for name, length in lengths_of(SIGNATURE, config.data.max_frames, holding).items():
        keypoints, mask = pad([preprocess(landmarks, config)], length)
        keypoints = as_model_input(keypoints, config)
        found[SIGNATURE][name] = {KEYPOINTS: keypoints, ATTENTION_MASK: mask}
    if raw is not None:
        found[RAW_SIGNATURE] = {
            name: raw_input(dataclasses.replace(raw, frames=length).spec, landmarks)
            for name, length in lengths_of(
                RAW_SIGNATURE, raw.frames, (n for n in holding if n < raw.frames)
            ).items()
        }
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lengths",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("artifacts", nargs="+", type=Path, metavar="ARTIFACT", help=".tflite")
    parser.add_argument(
        "--frames", type=at_least(1), default=32, help="of the clip (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=at_least(1), default=500, help="of latency (default: %(default)s)"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="default: %(default)s")
    options = parser.parse_args(arguments)

    for path in options.artifacts:
        for longest, given in inputs_of(path, options.frames, options.seed).items():
            runtimes = {name: FloatView(open_runtime(path, name)) for name in given}
            outputs = {name: run(given[name]) for name, run in runtimes.items()}
            times: dict[str, list[float]] = {name: [] for name in given}
            for _ in range(_WARM_UP + options.rounds):
                for name, run in runtimes.items():
                    begun = time.perf_counter()
                    run(given[name])
                    times[name].append(time.perf_counter() - begun)
            ms = {name: 1e3 * float(np.percentile(t[_WARM_UP:], 10)) for name, t in times.items()}
            scores = class_output(outputs[longest])
            for name in given:
                off = float(np.abs(outputs[name][scores] - outputs[longest][scores]).max())
                print(
                    f"{path.name}: {options.frames} frames by {name}: {ms[name]:.3f} ms, "
                    f"{ms[name] / ms[longest]:.2f} of {longest}; {scores} off by {off:.2e}"
                )
    return 0


if __name__ == "__main__":
    run_command(main)

"""What a converted model has to agree on: poses, random numbers, garbage in the padding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bridge.arguments import MIN_SAMPLES
from bridge.spec import ATTENTION_MASK, KEYPOINTS

if TYPE_CHECKING:
    from signbart.clips import ClipSet
    from signbart.config import RunConfig

# What padded frames are filled with: values that must never reach the logits.
_GARBAGE = (np.nan, np.inf, -np.inf, 1e30, -7.5, 0.5)


@dataclass(frozen=True)
class Sample:
    """One input and where it came from."""

    inputs: Mapping[str, np.ndarray]
    description: str


def make_samples(
    config: RunConfig, *, clips: ClipSet | None = None, samples: int = MIN_SAMPLES, seed: int = 0
) -> list[Sample]:
    """Inputs that a converted model has to agree on.

    For each length 1, 2, T/2, T-1, T: `samples` inputs, every second one from a recording, the
    others random; and as many whose mask has holes and does not start at the first frame. Padded
    frames hold NaN, infinities and large numbers.

    Args:
        config: The run's configuration.
        clips: Recordings; by default synthetic ones where the layout can be had from them, and
            random inputs only where it cannot.
        samples: Inputs a length, at least `MIN_SAMPLES`.
        seed: Of the random inputs and of the choice of clips.
    """
    from signbart.layouts import get_layout
    from signbart.preprocessing import pad, preprocess

    samples = max(samples, MIN_SAMPLES)
    rng = np.random.default_rng(seed)
    clips = clips if clips is not None else _synthetic_clips(config, seed)
    recordings = []
    if clips is not None:
        clips = clips.to_layout(get_layout(config.data.layout))
        for index in rng.permutation(len(clips))[: 6 * samples]:
            clip = clips.clips[index]
            recordings.append((preprocess(clip.landmarks, config), clip.source))

    frames, joints = config.data.max_frames, config.model.num_keypoints
    lengths = sorted({1, min(2, frames), max(frames // 2, 1), max(frames - 1, 1), frames})
    made = []
    for length in [*lengths, None]:
        for number in range(samples):
            if recordings and number % 2 == 0:
                points, source = recordings[len(made) // 2 % len(recordings)]
                # Repeated where it is too short: what counts is that real poses come in.
                points = np.resize(points, (frames, joints, 2))
            else:
                points, source = rng.random((frames, joints, 2), np.float32), f"random {number}"
            keypoints, mask = pad([points[: length or frames]], frames)
            text = f"{source}, {length} of {frames} frames"
            if length is None:
                mask[0] = rng.random(frames) < 0.6
                mask[0, 0], mask[0, rng.integers(min(1, frames - 1), frames)] = 0, 1
                text = f"{source}, mask with holes"
            garbage = np.float32(_GARBAGE[number % len(_GARBAGE)])
            keypoints[mask == 0] = garbage
            made.append(
                Sample({KEYPOINTS: keypoints, ATTENTION_MASK: mask}, f"{text}, {garbage:g} behind")
            )
    return made


def _synthetic_clips(config: RunConfig, seed: int) -> ClipSet | None:
    """Synthetic recordings in the run's layout; None where they do not have its landmarks."""
    if config.data.layout != "kp90":
        return None
    from signbart.synthetic import make_clips

    return make_clips(num_classes=4, num_signers=2, repetitions=2, seed=seed)


def read_recordings(path: str | None) -> ClipSet | None:
    """The recordings at `path`, bad ones left out; None without a path."""
    if path is None:
        return None
    from signbart.clips import read_clips

    return read_clips(path, skip_bad=True)

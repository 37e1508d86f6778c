"""What a converted model has to agree on: poses, random numbers, garbage in the padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bridge.errors import BridgeError
from bridge.verification import MIN_SAMPLES
from signbart.archives import UNREADABLE, open_npz
from signbart.errors import ArtifactError
from signbart.models.io_spec import ATTENTION_MASK, KEYPOINTS, LANDMARKS, NUM_FRAMES

if TYPE_CHECKING:
    from signbart.configuration.schema import RunConfig
    from signbart.recordings.clip import ClipSet
    from signbart.recordings.data_source import DataSource

# What padded frames are filled with: values that must never reach the logits.
GARBAGE = (np.nan, np.inf, -np.inf, 1e30, -7.5, 0.5)


@dataclass(frozen=True)
class Sample:
    """One input and where it came from."""

    inputs: Mapping[str, np.ndarray]
    description: str
    recorded: bool = False  # whether its poses are a recording's, and not random


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
        samples: Inputs per length, at least `MIN_SAMPLES`.
        seed: Of the random inputs and of the choice of clips.
    """
    from signbart.preprocessing import as_model_input, pad, preprocess
    from signbart.synthetic.signs import synthetic_clips

    if samples < MIN_SAMPLES:
        raise BridgeError(f"{samples} inputs per length are too few; at least {MIN_SAMPLES}")
    rng = np.random.default_rng(seed)
    layout = config.data.landmark_layout
    clips = synthetic_clips(layout, seed) if clips is None else clips.to_layout(layout)
    recordings = []
    if clips is not None:
        for index in rng.permutation(len(clips))[: 6 * samples]:
            clip = clips.clips[index]
            recordings.append((preprocess(clip.landmarks, config), clip.source))

    frames, shape = config.data.max_frames, (config.num_keypoints, config.coordinates)
    lengths = sorted({1, min(2, frames), max(frames // 2, 1), max(frames - 1, 1), frames})
    made = []
    for length in [*lengths, None]:
        for number in range(samples):
            recorded = bool(recordings) and number % 2 == 0
            if recorded:
                points, source = recordings[len(made) // 2 % len(recordings)]
                # Repeated where it is too short: what counts is that real poses come in.
                points = np.resize(points, (frames, *shape))
            else:
                points, source = rng.random((frames, *shape), np.float32), f"random {number}"
            keypoints, mask = pad([points[: length or frames]], frames)
            text = f"{source}, {length} of {frames} frames"
            if length is None:
                mask[0] = rng.random(frames) < 0.6
                mask[0, 0], mask[0, rng.integers(min(1, frames - 1), frames)] = 0, 1
                text = f"{source}, mask with holes"
            garbage = np.float32(GARBAGE[number % len(GARBAGE)])
            keypoints[mask == 0] = garbage
            # Numbered: the worst input is found again by its description.
            text = f"{text}, {garbage:g} behind, input {len(made)}"
            keypoints = as_model_input(keypoints, config)
            made.append(Sample({KEYPOINTS: keypoints, ATTENTION_MASK: mask}, text, recorded))
    return made


def describe_samples(samples: Sequence[Sample], data: str | DataSource | None) -> str:
    """How many inputs came from where, for reports."""
    recorded = sum(sample.recorded for sample in samples)
    source = f"recordings ({data})" if data else "synthetic recordings"
    parts = [f"{len(samples) - recorded} random"]
    if recorded:
        parts.insert(0, f"{recorded} from {source}")
    return ", ".join(parts)


def open_samples(
    samples: Sequence[Sample], longest: int | None, *, open_length: bool = True
) -> list[Sample]:
    """The samples, and more for a model with open sizes.

    These are a batch of three and, if its length is open too, one frame, an odd length, and more
    frames than training used, up to the `longest` that positions exist for.
    """
    first = samples[0].inputs
    frames = first[ATTENTION_MASK].shape[1]
    batch = {name: np.concatenate([s.inputs[name] for s in samples[-3:]]) for name in first}
    made = [*samples, Sample(batch, "batch of three: " + samples[-1].description)]
    if not open_length:
        return made
    whole = next(sample for sample in samples if sample.inputs[ATTENTION_MASK].all())
    lengths = {1, frames // 3 + 1}
    if longest is not None:
        lengths |= {min(frames + 1, longest), longest}
    for length in sorted(lengths):
        inputs = {
            name: np.resize(array, (1, length, *array.shape[2:]))
            for name, array in whole.inputs.items()
        }
        made.append(Sample(inputs, f"{length} frames without padding"))
    return made


def read_sample(path: str | Path) -> Sample:
    """One input from an .npz whose arrays have the inputs' names, of either signature.

    Raises:
        ArtifactError: The file cannot be read, or lacks an input.
    """
    try:
        with open_npz(Path(path), ArtifactError) as arrays:
            raw = LANDMARKS in arrays
            names = (LANDMARKS, NUM_FRAMES) if raw else (KEYPOINTS, ATTENTION_MASK)
            inputs = {name: arrays[name] for name in names}
    except UNREADABLE as error:
        raise ArtifactError(
            f"{path} does not hold the arrays {KEYPOINTS} and {ATTENTION_MASK}: {error}"
        ) from None
    # What is no array NumPy gives as bytes.
    if not all(isinstance(array, np.ndarray) and array.size for array in inputs.values()):
        raise ArtifactError(f"{path}: its arrays are empty, or none; give at least one input")
    return Sample(inputs, str(path))

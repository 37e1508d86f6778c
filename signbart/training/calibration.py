"""Clips that show a quantizer the ranges of a model's activations.

They have to look like what the model will be given: real recordings, of every class and signer
alike, some of them shorter than the model's input, so that padding is seen too.

Legend: N clips, T frames, K keypoints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from signbart.errors import ClipError

if TYPE_CHECKING:
    import numpy as np

    from signbart.configuration.schema import RunConfig
    from signbart.recordings.clip import ClipSet

# Help texts quote it, and should not wait for NumPy: it is imported in the functions.
MIN_CLIPS = 100
# Every so many clips one is cut short: longer recordings are resampled to exactly `max_frames`, and
# would never show the model a padded frame.
_CUT_EVERY = 4


def balanced_choice(
    labels: Sequence[int], signers: Sequence[str], count: int, seed: int
) -> np.ndarray:
    """Picks clips of every class, and within it of every signer, as evenly as they allow.

    Args:
        labels: (N,) class of each clip.
        signers: (N,) signer of each clip.
        count: How many are wanted.
        seed: Decides among equals.

    Returns:
        (min(count, N),) different indices, in the order of choice: any beginning is balanced too.
    """
    import numpy as np

    waiting: dict[int, dict[str, list[int]]] = {}
    for index in np.random.default_rng(seed).permutation(len(labels)):
        of_class = waiting.setdefault(int(labels[index]), {})
        of_class.setdefault(signers[index], []).append(int(index))
    chosen: list[int] = []
    by_class: Counter[int] = Counter()
    by_signer: Counter[str] = Counter()
    while len(chosen) < min(count, len(labels)):
        label = min(waiting, key=by_class.__getitem__)
        signer = min(waiting[label], key=by_signer.__getitem__)
        chosen.append(waiting[label][signer].pop())
        by_class[label] += 1
        by_signer[signer] += 1
        if not waiting[label][signer]:
            del waiting[label][signer]
        if not waiting[label]:
            del waiting[label]
    return np.array(chosen, dtype=np.int64)


def require_clips(count: int) -> None:
    """Refuses to calibrate on fewer clips than `MIN_CLIPS`.

    Raises:
        ClipError: `count` is too few.
    """
    if count < MIN_CLIPS:
        raise ClipError(
            f"{count} clips are too few to calibrate int8 and int16x8 on; at least {MIN_CLIPS}, of "
            "every class and signer. Give more, or leave those schemes out"
        )


def calibration_inputs(
    clips: ClipSet, config: RunConfig, *, count: int = MIN_CLIPS, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Preprocessed, padded inputs from recordings that were trained on.

    Every fourth clip is cut short, to lengths evenly spread from one frame to all of them.

    Args:
        clips: Recordings, at least `MIN_CLIPS`.
        config: The run's configuration.
        count: How many to take, at least `MIN_CLIPS`; all, where there are fewer than that many.
        seed: Of the choice.

    Returns:
        ``keypoints`` (N, max_frames, K, 2) float32, or (N, max_frames, 2K) for models that take
        features, and ``attention_mask`` (N, max_frames) int32.

    Raises:
        ClipError: There are too few clips, or they do not fit `config.data.layout`.
    """
    import numpy as np

    from signbart.preprocessing import as_model_input, pad, preprocess

    require_clips(min(count, len(clips)))
    chosen = clips.select(balanced_choice(clips.labels, clips.signers, count, seed))
    chosen = chosen.to_layout(config.data.landmark_layout)
    points = [preprocess(clip.landmarks, config) for clip in chosen.clips]
    cut = range(0, len(points), _CUT_EVERY)
    for place, share in zip(cut, np.linspace(0, 1, len(cut)), strict=True):
        frames = 1 + round(share * (len(points[place]) - 1))
        points[place] = points[place][:frames]
    keypoints, mask = pad(points, config.data.max_frames)
    return as_model_input(keypoints, config), mask


@dataclass(frozen=True)
class Calibration:
    """Inputs that fix the ranges of activations.

    Attributes:
        keypoints: (N, T, K, coordinates) float32, preprocessed and padded.
        attention_mask: (N, T) int32.
        record: Where they come from, for the manifest; JSON values.
    """

    keypoints: np.ndarray
    attention_mask: np.ndarray
    record: Mapping[str, Any]

    @property
    def is_random(self) -> bool:
        """Whether it is of random numbers, whose ranges fit no real clip."""
        return bool(self.record["random"])

    def inputs(self) -> Iterator[dict[str, np.ndarray]]:
        """One model input after the other, as batches of one."""
        from signbart.models.io_spec import ATTENTION_MASK, KEYPOINTS

        for keypoints, mask in zip(self.keypoints, self.attention_mask, strict=True):
            yield {KEYPOINTS: keypoints[None], ATTENTION_MASK: mask[None]}


def calibrate_on(
    clips: ClipSet, config: RunConfig, *, count: int, seed: int, source: str
) -> Calibration:
    """Calibration from recordings that were trained on.

    Args:
        clips: The recordings.
        config: The run's configuration.
        count: How many to take; see `calibration_inputs`.
        seed: Of the choice.
        source: Their path, for the record.

    Raises:
        SignBartError: There are too few, or they do not fit the configuration.
    """
    keypoints, mask = calibration_inputs(clips, config, count=count, seed=seed)
    chosen = clips.select(balanced_choice(clips.labels, clips.signers, count, seed))
    return Calibration(
        keypoints,
        mask,
        {
            "data": source,
            "random": False,
            "clips": len(chosen),
            "of": len(clips),
            "classes": len(set(chosen.labels.tolist())),
            "signers": list(chosen.signer_names),
            "seed": seed,
            "fingerprint": chosen.fingerprint(),
            **_lengths(mask),
        },
    )


def calibrated_among(clips: ClipSet, record: Mapping[str, Any]) -> tuple[int, int]:
    """How many of some recordings calibrated a file, and the seed of their choice.

    Args:
        clips: The recordings, their labels those of the model.
        record: What `Calibration.record` says in the file's metadata.

    Returns:
        The number is 0 where the file was calibrated on others, or on random numbers.
    """
    if record["random"]:
        return 0, 0
    count, seed = record["clips"], record["seed"]
    for _ in range(2):  # a conversion divides its recordings, and chooses from what that leaves
        chosen = balanced_choice(clips.labels, clips.signers, count, seed)
        if clips.select(chosen).fingerprint() == record.get("fingerprint"):
            return count, seed
        clips = clips.select(sorted(chosen))
    return 0, seed


def calibrate_on_noise(config: RunConfig, *, count: int, seed: int) -> Calibration:
    """Calibration from random numbers, for trying things out: its ranges fit no real clip."""
    import numpy as np

    from signbart.preprocessing import as_model_input

    rng = np.random.default_rng(seed)
    frames = config.data.max_frames
    keypoints = rng.random((count, frames, config.num_keypoints, config.coordinates), np.float32)
    mask = (np.arange(frames) < rng.integers(1, frames + 1, (count, 1))).astype(np.int32)
    record = {"data": None, "random": True, "clips": count, "seed": seed, **_lengths(mask)}
    return Calibration(as_model_input(keypoints, config), mask, record)


def _lengths(mask: np.ndarray) -> dict[str, dict[str, int]]:
    lengths = sorted(mask.sum(axis=1).tolist())
    return {
        "frames": {
            "shortest": lengths[0],
            "median": lengths[len(lengths) // 2],
            "longest": lengths[-1],
            "input": mask.shape[1],
        }
    }

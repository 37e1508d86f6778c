"""What a quantizer is shown, and what a quantized artifact is judged on: never the same clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from signbart.models.io_spec import ATTENTION_MASK, KEYPOINTS

if TYPE_CHECKING:
    from signbart.configuration.schema import RunConfig
    from signbart.recordings.clip import ClipSet


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
        for keypoints, mask in zip(self.keypoints, self.attention_mask, strict=True):
            yield {KEYPOINTS: keypoints[None], ATTENTION_MASK: mask[None]}


def calibrate_on(
    clips: ClipSet, config: RunConfig, *, count: int, seed: int, source: str
) -> Calibration:
    """Calibration from recordings that were trained on.

    Args:
        clips: The recordings.
        config: The run's configuration.
        count: How many to take; see `signbart.training.calibration.calibration_inputs`.
        seed: Of the choice.
        source: Their path, for the record.

    Raises:
        SignBartError: There are too few, or they do not fit the configuration.
    """
    from signbart.training.calibration import balanced_choice, calibration_inputs

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


def calibrate_on_noise(config: RunConfig, *, count: int, seed: int) -> Calibration:
    """Calibration from random numbers, for trying things out: its ranges fit no real clip."""
    from signbart.preprocessing import as_model_input

    rng = np.random.default_rng(seed)
    frames = config.data.max_frames
    keypoints = rng.random((count, frames, config.num_keypoints, config.coordinates), np.float32)
    mask = (np.arange(frames) < rng.integers(1, frames + 1, (count, 1))).astype(np.int32)
    record = {"data": None, "random": True, "clips": count, "seed": seed, **_lengths(mask)}
    return Calibration(as_model_input(keypoints, config), mask, record)


def _lengths(mask: np.ndarray) -> dict[str, dict[str, int]]:
    lengths = np.sort(mask.sum(axis=1))
    return {
        "frames": {
            "shortest": int(lengths[0]),
            "median": int(lengths[len(lengths) // 2]),
            "longest": int(lengths[-1]),
            "input": mask.shape[1],
        }
    }

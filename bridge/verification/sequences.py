"""What a model of sequences has to agree on: short and long ones, with a mask and without.

Legend: T frames, F features a frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from bridge.artifact.runtimes import TorchRuntime
from bridge.verification.samples import GARBAGE, Sample
from signbart.models.io_spec import ATTENTION_MASK, KEYPOINTS
from signbart.synthetic.signs import synthetic_clips

if TYPE_CHECKING:
    from signbart.configuration.schema import RunConfig
    from signbart.recordings.clip import ClipSet

LENGTHS = (1, 30, 300)


class UnmaskedTorch(TorchRuntime):
    """The reference, called without a mask where every frame counts."""

    def _run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        masked = not inputs[ATTENTION_MASK].all()
        return super()._run(inputs if masked else {KEYPOINTS: inputs[KEYPOINTS]})


def make_sequences(
    config: RunConfig, *, clips: ClipSet | None = None, seed: int = 0
) -> tuple[list[Sample], list[Sample]]:
    """Inputs for artifacts of fixed length, and for those that take any.

    For each of `LENGTHS` up to `config.data.max_frames`, from random numbers and from poses: with a
    mask, where what is behind the sequence must not be read; and without one, that is with a mask
    of ones, over the zeros that stand behind a sequence then. One more has a mask with holes, which
    tells a mask from a number of frames. The second list holds the unmasked ones at their own
    length instead, and a batch of all masked ones.

    Args:
        config: The model's configuration; `data` says where poses come from.
        clips: Recordings; by default synthetic ones, where they have the landmarks.
        seed: Of the random inputs and of the choice of clips.
    """
    rng = np.random.default_rng(seed)
    most = config.data.max_frames
    poses = _poses(config, clips, seed)
    fixed, open_ = [], []
    for length in sorted({min(length, most) for length in LENGTHS} | {most}):
        for kind, recorded in (("random", False), (poses[0], True)):
            if recorded:
                # Repeated where it is too short: what counts is that real poses come in.
                points = np.resize(poses[1], (length, config.model.num_features))
            else:
                points = rng.random((length, config.model.num_features), np.float32)
            text = f"{kind}, {length} of {most} frames"
            whole = np.zeros((1, most, config.model.num_features), np.float32)
            whole[0, :length] = points
            mask = (np.arange(most) < length).astype(np.int32)[None]
            masked = np.where(mask[..., None] > 0, whole, GARBAGE[len(fixed) % len(GARBAGE)])
            ones = np.ones_like(mask)
            with_mask = Sample(
                {KEYPOINTS: masked.astype(np.float32), ATTENTION_MASK: mask},
                f"{text}, with a mask",
                recorded,
            )
            without = {KEYPOINTS: whole, ATTENTION_MASK: ones}
            alone = {KEYPOINTS: whole[:, :length], ATTENTION_MASK: ones[:, :length]}
            fixed += [with_mask, Sample(without, f"{text}, without a mask", recorded)]
            open_ += [with_mask, Sample(alone, f"{text}, alone, without a mask", recorded)]
    together = [sample.inputs for sample in fixed[::2]]
    holes = _with_holes(most, config.model.num_features, rng)
    fixed.append(holes)
    open_.append(holes)
    batch = {name: np.concatenate([one[name] for one in together]) for name in together[0]}
    open_.append(Sample(batch, f"a batch of {len(together)}"))
    return fixed, open_


def _with_holes(most: int, num_features: int, rng: np.random.Generator) -> Sample:
    """Random frames, many of them missing, the first and the last one among them."""
    mask = (rng.random((1, most)) < 0.6).astype(np.int32)
    mask[:, [0, -1]] = 0
    mask[:, most // 2] = 1
    points = rng.random((1, most, num_features), np.float32)
    inputs = {
        KEYPOINTS: np.where(mask[..., None] > 0, points, np.float32(np.nan)),
        ATTENTION_MASK: mask,
    }
    return Sample(inputs, f"random, {mask.sum()} of {most} frames, with holes", False)


def _poses(config: RunConfig, clips: ClipSet | None, seed: int) -> tuple[str, np.ndarray]:
    """A recording as the model takes it, (T, F), and where it is from."""
    from signbart.preprocessing import as_model_input, preprocess

    layout = config.data.landmark_layout
    if config.coordinates * layout.num_keypoints == config.model.num_features:
        if clips is None:
            made = synthetic_clips(layout, seed, partial=True)  # None where they have no landmark
        else:
            made = clips.to_layout(layout)
        if made is not None:
            clip = made.clips[np.random.default_rng(seed).integers(len(made))]
            return clip.source, as_model_input(preprocess(clip.landmarks, config), config)
    # Landmarks that nothing is known of: at least they move as bodies do, a little a frame.
    rng = np.random.default_rng(seed)
    steps = rng.normal(scale=0.01, size=(config.data.max_frames, config.model.num_features))
    start = rng.random(config.model.num_features)
    return "a random walk", (start + steps.cumsum(axis=0)).astype(np.float32)

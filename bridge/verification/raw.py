"""The signature of raw landmarks, held to NumPy's preprocessing and PyTorch.

Legend: S raw frames, N landmarks of the layout, D coordinates, T frames of the model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bridge.artifact.runtimes import Runtime, open_runtime
from bridge.quantization.schemes import FLOAT
from bridge.verification.compare import judge_outputs
from bridge.verification.limits import Limits
from bridge.verification.samples import GARBAGE, Sample
from bridge.verification.verdict import FAILED, WRONG, Verdict
from signbart.memory import raise_shortage
from signbart.models.io_spec import (
    ATTENTION_MASK,
    FRAMES_USED,
    KEYPOINTS,
    LANDMARKS,
    NUM_FRAMES,
    PROBABILITIES,
    RAW_SIGNATURE,
    class_output,
    raw_input,
)
from signbart.models.raw_spec import RawSignature
from signbart.preprocessing import as_model_input, pad, preprocess
from signbart.training.confidence import softmax

if TYPE_CHECKING:
    from signbart.recordings.clip import ClipSet

_RECORDINGS = 24  # whole ones, by which quantized artifacts are judged
_STEP = 0.02  # of a random walk, in the layout's unit: as bodies move
_LOST = 0.1  # share of landmarks that a detector loses, frame by frame
_ATOL = 1e-5  # of probabilities beside the softmax of an artifact's own scores


class RawReference:
    """NumPy's preprocessing and a runtime of the model, called as the signature is.

    Args:
        model: The reference, of any length.
        raw: The signature.
    """

    def __init__(self, model: Runtime, raw: RawSignature):
        self.name, self.spec = model.name, raw.spec
        self._model, self._raw = model, raw
        self.temperature = raw.temperature

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the model; see `Runtime`."""
        self.spec.check_inputs(inputs, self.name)
        outputs = self._model(self.prepare(inputs))
        scores = outputs[class_output(outputs)]
        return {
            **outputs,
            PROBABILITIES: softmax(scores, self.temperature).astype(np.float32),
            FRAMES_USED: np.array([self._used(inputs)], np.int32),
        }

    def prepare(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the model takes, by NumPy's preprocessing."""
        config = self._raw.config
        points = preprocess(detected(inputs[LANDMARKS][0, : self._used(inputs)]), config)
        keypoints, mask = pad([points], config.data.max_frames)
        return {KEYPOINTS: as_model_input(keypoints, config), ATTENTION_MASK: mask}

    def _used(self, inputs: Mapping[str, np.ndarray]) -> int:
        return int(np.clip(inputs[NUM_FRAMES][0], 1, self._raw.frames))


def detected(landmarks: np.ndarray) -> np.ndarray:
    """(T, N, D) with zeros for what is missing; where x or y is NaN, the landmark is."""
    missing = np.isnan(landmarks[..., :2]).any(axis=-1, keepdims=True)
    known = np.where(missing, np.float32(0), landmarks)
    return np.where(np.isnan(known), np.float32(0), known)


def make_raw_samples(
    raw: RawSignature, *, clips: ClipSet | None = None, seed: int = 0
) -> list[Sample]:
    """Raw landmarks that an artifact has to agree on.

    Of 1, 2, T - 1, T, T + 1 and other numbers of frames up to S, and of 0 and S + 1, which are cut:
    one from a recording and one random, with holes, and with what must not be read behind. And
    whole recordings as they are, which are `Sample.recorded`.

    Args:
        raw: The signature.
        clips: Recordings; by default synthetic ones where the layout can be had from them, and
            random walks only where it cannot.
        seed: Of the random inputs and of the choice of clips.
    """
    from signbart.synthetic.signs import synthetic_clips

    rng = np.random.default_rng(seed)
    layout, longest = raw.config.data.landmark_layout, raw.config.data.max_frames
    clips = synthetic_clips(layout, seed) if clips is None else clips.to_layout(layout)
    chosen = [] if clips is None else [clips.clips[i] for i in rng.permutation(len(clips))]
    width = raw.spec.inputs[0].shape[3]
    recordings = [(np.asarray(c.landmarks)[..., :width], c.source) for c in chosen[:_RECORDINGS]]
    if not recordings:
        lengths = rng.integers(1, raw.frames + 1, _RECORDINGS)
        recordings = [(_walk(raw, int(length), rng), "a random walk") for length in lengths]

    made = []
    edges = {1, 2, longest - 1, longest, longest + 1, 2 * longest, raw.frames - 1, raw.frames}
    given = sorted({*edges, *map(int, rng.integers(1, raw.frames + 1, 4))} | {0, raw.frames + 1})
    for number in (n for n in given if 0 <= n <= raw.frames + 1):
        length = min(max(number, 1), raw.frames)
        whole, source = recordings[len(made) // 2 % len(recordings)]
        # Forth and back, where it is too short.
        there_and_back = np.concatenate([whole, whole[::-1]])
        for points, name in (
            (np.resize(there_and_back, (length, *whole.shape[1:])), source),
            (_walk(raw, length, rng), "random"),
        ):
            holed = points.astype(np.float32)
            missing = np.float32(np.nan if len(made) % 4 < 2 else 0.0)
            if layout.unit == "image":
                holed[rng.random(holed.shape[:2]) < _LOST] = missing
            behind = np.float32(GARBAGE[len(made) % len(GARBAGE)])
            text = f"{name}, {number} of {raw.frames} raw frames, input {len(made)}"
            made.append(_sample(raw, holed, number, behind, text))
    for points, name in recordings:
        if len(points) <= raw.frames:
            text = f"{name}, whole, input {len(made)}"
            made.append(_sample(raw, points, len(points), np.float32(0), text, recorded=True))
    return made


def compare_raw(
    reference: RawReference,
    path: Path,
    samples: Sequence[Sample],
    limits: Limits,
    scheme: str = FLOAT,
    signature: str = RAW_SIGNATURE,
) -> Verdict:
    """Judges an artifact's signature of raw landmarks, by the limits of its scheme.

    Where single numbers have no limit, on whole recordings. Probabilities have to be the softmax of
    the artifact's own scores in every scheme.
    """
    try:
        candidate = open_runtime(path, signature)
        if not candidate.spec.keeps(reference.spec):
            reason = f"{candidate.spec.describe()}; expected {reference.spec.describe()}"
            return Verdict(path.name, FAILED, reason, scheme, signature)
        if not limits.by_value:
            samples = [sample for sample in samples if sample.recorded] or samples
        expected = [reference(sample.inputs) for sample in samples]
        found = [candidate(sample.inputs) for sample in samples]
    # A runtime that breaks off raises classes of its own.
    except Exception as error:
        raise_shortage(path, error)
        return Verdict(path.name, FAILED, f"{type(error).__name__}: {error}", scheme, signature)
    names = [t.name for t in reference.spec.outputs if t.name not in (PROBABILITIES, FRAMES_USED)]
    right, other = (
        {name: np.concatenate([outputs[name] for outputs in every]) for name in names}
        for every in (expected, found)
    )
    descriptions = [sample.description for sample in samples]
    verdict = judge_outputs(path.name, right, other, descriptions, limits, scheme=scheme)
    if verdict.passed:
        verdict = _check_the_rest(verdict, reference, expected, found, descriptions)
    return dataclasses.replace(verdict, signature=signature)


def _check_the_rest(
    verdict: Verdict,
    reference: RawReference,
    expected: Sequence[Mapping[str, np.ndarray]],
    found: Sequence[Mapping[str, np.ndarray]],
    descriptions: Sequence[str],
) -> Verdict:
    classes = class_output(tensor.name for tensor in reference.spec.outputs)
    for right, other, description in zip(expected, found, descriptions, strict=True):
        shares = softmax(other[classes], reference.temperature)
        off = float(np.abs(other[PROBABILITIES] - shares).max())
        used, wanted = int(other[FRAMES_USED][0]), int(right[FRAMES_USED][0])
        problem = ""
        if not off <= _ATOL:
            problem = f"{PROBABILITIES} are off by {off:.3g} from the softmax of {classes}"
        elif used != wanted:
            problem = f"{FRAMES_USED} is {used}, expected {wanted}"
        if problem:
            reason = f"{problem}, on: {description}"
            return dataclasses.replace(
                verdict, verdict=WRONG, reason=reason, worst_sample=description
            )
    return verdict


def _sample(
    raw: RawSignature,
    landmarks: np.ndarray,
    num_frames: int,
    behind: float,
    text: str,
    recorded: bool = False,
) -> Sample:
    inputs = raw_input(raw.spec, landmarks, behind) | {NUM_FRAMES: np.array([num_frames], np.int32)}
    return Sample(inputs, text, recorded)


def _walk(raw: RawSignature, frames: int, rng: np.random.Generator) -> np.ndarray:
    """(frames, N, D): points that wander, a little a frame."""
    shape = raw.spec.inputs[0].shape[2:]
    steps = rng.normal(scale=_STEP, size=(frames, *shape)).cumsum(axis=0)
    return (rng.random(shape) + steps).astype(np.float32)

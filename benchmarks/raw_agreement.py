"""Files with the signature of raw landmarks beside NumPy's preprocessing and PyTorch.

What `benchmarks.raw_signature` measures agreement with: recordings, small models, differences.
Legend: S raw frames, N landmarks of the layout, D coordinates.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.latency_calls import random_model
from bridge.artifact.runtimes import Runtime, open_runtime
from bridge.errors import BridgeError
from bridge.routes import RAW_ONNX, ROUTES
from bridge.verification.raw import RawReference
from signbart.configuration.reading import from_dict
from signbart.configuration.schema import NORMALIZATIONS, RunConfig
from signbart.landmarks.layouts import LAYOUTS, Layout
from signbart.models.io_spec import (
    FRAMES_USED,
    KEYPOINTS,
    NUM_FRAMES,
    PROBABILITIES,
    RAW_SIGNATURE,
    SIGNATURE,
    class_output,
    raw_input,
)
from signbart.models.raw_spec import RawSignature
from signbart.preprocessing import BODY_FRAME
from signbart.training.confidence import softmax

if TYPE_CHECKING:
    from torch import nn

# Random recordings: points in images; bodies in metres, and points anywhere.
RANDOM = IN_IMAGES, BODIES, POINTS = "random", "random bodies", "random points"
_BATCH = 64  # recordings that PyTorch takes at a time
_STEP = 0.02  # of a random walk a frame, in the layout's unit
_LOST = (0.0, 0.1, 0.5)  # shares of landmarks that are missing
# Bodies in metres, as isl_kinect30 has them: from the neck to the base of the spine, from shoulder
# to shoulder, and how far from the neck another joint may be. And where the neck is; the camera is
# at 0, 0, 0.
_TORSO, _SHOULDERS, _REACH = (0.3, 0.6), (0.03, 0.5), 1.5
_ROOM = ((-1.0, -0.5, 1.0), (1.0, 1.0, 4.0))
_LOUDER = 3.0
_SMALL = {
    "d_model": 32, "num_labels": 10, "encoder_layers": 1, "decoder_layers": 1,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    """How far one signature of one file is from NumPy and PyTorch.

    Attributes:
        file: Its name.
        signature: Which of its signatures.
        recordings: What was tried, and how many of them.
        count: See there.
        scores: Largest difference of a score. NaN where any is.
        probabilities: Largest difference of a probability; None of a signature without them.
        spread: Root mean square of the reference's scores, to see the differences beside.
        farthest: Largest number that the model was given; in metres, torso lengths.
    """

    file: str
    signature: str
    recordings: str
    count: int
    scores: float
    probabilities: float | None
    spread: float
    farthest: float


def contracts(layouts: Sequence[str]) -> dict[str, RunConfig]:
    """A small SignBART for each layout and each normalisation that it can have, by their names."""
    made = {}
    for name in layouts:
        in_metres = LAYOUTS[name].unit == "metres"
        for how in NORMALIZATIONS:
            if (how == "body_centred") == in_metres:
                tree = {"model": _SMALL, "data": {"layout": name, "normalization": how}}
                made[f"{name}_{how}"] = from_dict(tree, source=name)
    return made


def loud_model(config: RunConfig) -> nn.Module:
    """The configuration's model with random weights, and scores as large as a trained one's.

    Fresh ones are a third of that, and so would every difference be.
    """
    from torch import nn

    model = random_model(config)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    last.weight.data *= _LOUDER
    return model


def random_recordings(
    raw: RawSignature,
    count: int,
    seed: int = 0,
    length: int | None = None,
    bodies: bool = True,
) -> Iterator[dict[str, np.ndarray]]:
    """Inputs of every number of frames from 1 to the most, or of `length`.

    In images points wander about; some are missing, NaN or zero, and some leave the image. In
    metres they are somebody's anywhere in a room, or without `bodies` anywhere in a cube: then the
    torso may be as short as it will. What stands behind the recording is NaN.
    """
    rng = np.random.default_rng(seed)
    _, most, landmarks, coordinates = raw.spec.inputs[0].shape
    layout = raw.config.data.landmark_layout
    for _ in range(count):
        frames = length or int(rng.integers(1, most + 1))
        shape = (frames, landmarks, coordinates)
        steps = rng.normal(scale=_STEP, size=shape).cumsum(axis=0)
        if layout.unit == "metres" and bodies:
            points = _body(rng, steps, layout)
        else:
            points = rng.uniform(-0.1, 1.1, (1, *shape[1:])) + steps
        if layout.unit == "image":
            lost = rng.random(shape[:2]) < rng.choice(_LOST)
            points[lost] = rng.choice([0.0, np.nan])
        yield raw_input(raw.spec, points.astype(np.float32), behind=np.nan)


def _body(rng: np.random.Generator, steps: np.ndarray, layout: Layout) -> np.ndarray:
    """(T, N, 3): joints that wander about a torso, which wanders as a whole and leans."""
    away = rng.normal(size=steps.shape[1:])
    away *= rng.uniform(0, _REACH, (len(away), 1)) / np.linalg.norm(away, axis=1, keepdims=True)
    neck, base, left, right = (layout.index(name) for name in BODY_FRAME)
    down = np.array([0.0, -1.0, 0.0]) + rng.normal(scale=0.2, size=3)
    heading = rng.uniform(-np.pi, np.pi)
    half = rng.uniform(*_SHOULDERS) / 2 * np.array([np.cos(heading), 0.0, np.sin(heading)])
    away[neck] = 0.0
    away[base] = rng.uniform(*_TORSO) * down / np.linalg.norm(down)
    away[left], away[right] = -half, half
    torso = [neck, base, left, right]
    steps[:, torso] = steps[:, neck : neck + 1] + rng.normal(scale=0.01, size=(len(steps), 4, 3))
    return rng.uniform(*_ROOM) + away + steps


def measure(
    files: Sequence[Path], model: Runtime, raw: RawSignature, given: Iterable, recordings: str
) -> list[Agreement]:
    """Each signature of each file on the same recordings.

    Args:
        files: .tflite and .onnx of one model.
        model: The same in PyTorch.
        raw: Its second signature.
        given: Inputs of that signature.
        recordings: What they are, in words.

    Raises:
        BridgeError: A file used another number of frames than it was given.
    """
    reference = RawReference(model, raw)
    tried = [
        _Tried(path, signature, open_runtime(path, signature))
        for path in files
        for signature in _signatures(path)
    ]
    count, farthest, squares = 0, 0.0, []
    for some in _batches(given):
        prepared = [reference.prepare(inputs) for inputs in some]
        joined = {name: np.concatenate([one[name] for one in prepared]) for name in prepared[0]}
        wanted = model(joined)
        scores = wanted[class_output(wanted)]
        wanted[PROBABILITIES] = softmax(scores, raw.temperature)
        for one in tried:
            one.compare(some if one.signature == RAW_SIGNATURE else prepared, wanted)
        count += len(some)
        farthest = max(farthest, float(np.abs(joined[KEYPOINTS]).max()))
        squares.append(float((scores.astype(np.float64) ** 2).mean(axis=1).sum()))
    spread = float(np.sqrt(sum(squares) / max(count, 1)))
    return [
        Agreement(
            file=one.path.name,
            signature=one.signature,
            recordings=recordings,
            count=count,
            scores=one.scores,
            probabilities=one.probabilities if one.signature == RAW_SIGNATURE else None,
            spread=spread,
            farthest=farthest,
        )
        for one in tried
    ]


@dataclass
class _Tried:
    """One signature of one file, and its largest differences so far."""

    path: Path
    signature: str
    run: Runtime
    scores: float = 0.0
    probabilities: float = 0.0

    def compare(
        self, given: Sequence[Mapping[str, np.ndarray]], wanted: Mapping[str, np.ndarray]
    ) -> None:
        """Runs it on each input; `wanted` has all the answers, one behind the other."""
        answers = [self.run(inputs) for inputs in given]
        for answer, inputs in zip(answers, given, strict=True):
            if FRAMES_USED in answer and answer[FRAMES_USED] != inputs[NUM_FRAMES]:
                raise BridgeError(
                    f"{self.path} used {answer[FRAMES_USED]} of {inputs[NUM_FRAMES]} frames"
                )
        for name in wanted.keys() & answers[0].keys():
            found = np.concatenate([answer[name] for answer in answers])
            off = np.abs(found - wanted[name]).max()
            kept = "probabilities" if name == PROBABILITIES else "scores"
            # Unlike Python's, this maximum keeps NaN.
            setattr(self, kept, float(np.maximum(getattr(self, kept), off)))


def _batches(given: Iterable) -> Iterator[list]:
    """Lists of as many as PyTorch takes at a time."""
    rest = iter(given)
    while some := list(itertools.islice(rest, _BATCH)):
        yield some


def _signatures(path: Path) -> tuple[str, ...]:
    if path.suffix == ".tflite":
        return SIGNATURE, RAW_SIGNATURE
    return (RAW_SIGNATURE,) if path.name.endswith(RAW_ONNX) else (SIGNATURE,)


def summary(measured: Mapping[str, Sequence[Agreement]]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: of each group of models the largest differences of all of them.

    A row for each kind of random recordings, and one for all that were recorded.
    """
    routes = [*ROUTES, RAW_ONNX]
    columns = ["model", "recordings", *(f"`{name}`" for name in routes)]
    columns += [f"`{SIGNATURE}`", "probabilities", "largest input"]
    rows = []
    for group, found in measured.items():
        kinds = [row.recordings if row.recordings in RANDOM else "real" for row in found]
        for kind in dict.fromkeys(kinds):
            of_kind = [row for row, its in zip(found, kinds, strict=True) if its == kind]
            raw = [row for row in of_kind if row.signature == RAW_SIGNATURE]
            tried = sum(row.count for row in raw if row.file == raw[0].file)
            by_route = (
                [
                    row.scores
                    for row in raw
                    if name in row.file.split("_") or row.file.endswith(name)
                ]
                for name in routes
            )
            bare = [row.scores for row in of_kind if row.signature == SIGNATURE]
            cells = (*by_route, bare, [row.probabilities for row in raw])
            farthest = max(row.farthest for row in of_kind)
            # Unlike Python's, NumPy's maximum keeps NaN.
            worst = [f"{np.max(cell):.1e}" if cell else "" for cell in cells]
            rows.append([group, f"{tried:,} {kind}", *worst, f"{farthest:.3g}"])
    return columns, rows

"""The embedded default data set: parametric signs performed by distinct synthetic signers, seeded.

A `Sign` says what both hands do in body space: a wrist path, one or two hand shapes, the hands'
orientation. A `Signer` brings a body, a camera and habits. `perform` makes one recording of the
two: two-bone inverse kinematics for the arms, a 21-point hand on each wrist, a rigid head, seen
through a camera and a landmark detector that errs and misses.

Classes come in families of four, so that neither average landmarks nor a single frame tells them
apart: a base sign, the same backwards in time, the same path with other hand shapes, and the same
turned upside down. Every draw has a seed sequence of its own, so a clip depends on nothing but
(seed, class, signer, repetition).

Positions are in the body space of `synthetic_body`. Legend: T frames, N waypoints, K landmarks
(kp90).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from signbart.errors import ConfigError
from signbart.landmarks.layouts import Layout
from signbart.recordings.clip import Clip, ClipSet
from signbart.synthetic.body import (
    ASPECT,
    FACE,
    HEAD,
    LAYOUT,
    LEFT,
    MIRROR_X,
    RIGHT,
    HandPlan,
    Sign,
    Signer,
    ease,
    place_arm,
    place_head,
    spline,
    through_camera,
    upside_down_path,
)

VARIANTS = ("base", "reversed", "other_shapes", "upside_down")
HANDS = ("one", "symmetric", "different")

_SIGN, _SIGNER, _HABIT, _CLIP = range(4)

# Curl of thumb, index, middle, ring, pinky (0 straight, 1 in the fist), and spread of the fingers.
HAND_SHAPES = {
    "fist": (0.9, 1, 1, 1, 1, 0),
    "flat": (0.3, 0, 0, 0, 0, 0.2),
    "spread": (0, 0, 0, 0, 0, 1.3),
    "point": (0.9, 0, 1, 1, 1, 0.2),
    "two": (0.9, 0, 0, 1, 1, 1.2),
    "horns": (0.5, 0, 1, 1, 0, 1),
    "thumb_out": (0, 1, 1, 1, 1, 0),
    "claw": (0.2, 0.5, 0.5, 0.5, 0.5, 1),
    "little": (0.9, 1, 1, 1, 0, 0.2),
}


# (fingers point to, palm faces) of a right hand: pairs that an arm reaches without contortion.
_UP, _INWARD, _FORWARD, _DOWN = (0, -1, 0.1), (1, -0.3, 0.1), (0.2, -0.3, 1), (0, 1, 0)
_ORIENTATIONS = np.array([
    (_UP, (0, 0, 1)), (_UP, (1, 0, 0)), (_UP, (0, 0, -1)), (_INWARD, _DOWN), (_INWARD, (0, 0, -1)),
    (_FORWARD, _DOWN), (_FORWARD, (1, 0, 0)),
])  # fmt: skip


def make_clips(
    *, num_classes: int = 10, num_signers: int = 12, repetitions: int = 5, seed: int
) -> ClipSet:
    """Makes the data set; the same arguments give the same bytes.

    More classes, signers or repetitions add clips and leave the others as they were.

    Raises:
        ConfigError: A count is below 1, or the seed is negative.
    """
    counts = {"classes": num_classes, "signers": num_signers, "repetitions": repetitions}
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"synthetic data: {name} must be at least 1, got {count}")
    if seed < 0:
        raise ConfigError(f"synthetic data: seed must not be negative, got {seed}")
    class_names = tuple(f"sign_{label:02d}" for label in range(num_classes))
    signers = [draw_signer(seed, index) for index in range(num_signers)]
    clips = []
    for label, class_name in enumerate(class_names):
        sign = draw_sign(seed, label)
        for index, signer in enumerate(signers):
            own_sign = _with_habits(sign, _generator(seed, _HABIT, label, index))
            for repetition in range(1, repetitions + 1):
                rng = _generator(seed, _CLIP, label, index, repetition)
                clips.append(
                    Clip(
                        landmarks=perform(own_sign, signer, rng),
                        label=label,
                        signer=f"P{index + 1:02d}",
                        repetition=repetition,
                        source=f"synthetic:{seed}/{class_name}/P{index + 1:02d}/{repetition}",
                    )
                )
    return ClipSet(clips=tuple(clips), class_names=class_names)


def draw_sign(seed: int, label: int) -> Sign:
    """The sign of class `label`: variant ``label % 4`` of family ``label // 4``."""
    family, variant = divmod(label, len(VARIANTS))
    return _draw_family(seed, family)[variant]


def draw_signer(seed: int, index: int) -> Signer:
    """Signer number `index`, from 0; every third one is left-handed."""
    rng = _generator(seed, _SIGNER, index)
    hangs = rng.random() < 0.5
    return Signer(
        left_handed=index % 3 == 1,
        upper_arm=rng.uniform(0.66, 0.78),
        forearm=rng.uniform(0.58, 0.7),
        hand=rng.uniform(0.42, 0.52),
        head=rng.uniform(0.4, 0.48),
        neck=rng.uniform(0.58, 0.68),
        rest=np.array([-0.62, 1.32, 0.1] if hangs else [-0.22, 0.85, 0.35]),
        rest_seen=rng.uniform(0.2, 0.8),
        amplitude=rng.uniform(0.8, 1.2),
        tempo=rng.uniform(0.8, 1.25),
        offset=rng.normal(0, 0.05, 3),
        elbow=np.array([-0.5, 1, -0.4]) + rng.normal(0, 0.15, 3),
        camera=np.radians(rng.uniform([-5, -9, -4], [5, 9, 4])),
        centre=rng.uniform([0.44, 0.5], [0.56, 0.6]),
        scale=rng.uniform(0.22, 0.31),
        noise=rng.uniform(0.001, 0.003),
        miss=rng.uniform(0.2, 1.2),
    )


def perform(sign: Sign, signer: Signer, rng: np.random.Generator) -> np.ndarray:
    """One recording: (T, K, 2) float32 as shares of the image, y down, (0, 0) = not detected."""
    frames = int(np.clip(round(52 * rng.lognormal(0, 0.1) / sign.tempo / signer.tempo), 25, 90))
    time = np.linspace(0, 1, frames)
    before, into, out, after = rng.uniform([0.03, 0.1, 0.1, 0.03], [0.15, 0.16, 0.16, 0.15])
    active = ease((time - before) / into) * ease((1 - after - time) / out)
    phase = np.clip((time - before - into) / (1 - before - into - out - after), 0, 1)
    phase = phase + rng.uniform(-0.5, 0.5) * np.sin(2 * np.pi * phase) / (2 * np.pi)

    points = np.empty((frames, LAYOUT.num_keypoints, 3))
    hidden = np.zeros(points.shape[:2], bool)
    points[:, HEAD] = place_head(sign, signer, active * np.sin(np.pi * phase), rng)
    for side, hand, plan in (("right", RIGHT, sign.right), ("left", LEFT, sign.left)):
        to_side = 1 if side == "right" else MIRROR_X
        weight = active if plan else 0 * active
        elbow, joints = place_arm(_vary(plan or sign.right, rng, 0.03), signer, weight, phase)
        points[:, hand] = joints * to_side
        points[:, LAYOUT.index(f"{side}_shoulder")] = np.array([-0.5, 0, 0]) * to_side
        points[:, LAYOUT.index(f"{side}_elbow")] = elbow * to_side
        for name, joint in (("wrist", 0), ("pinky", 17), ("index", 5), ("thumb", 2)):
            points[:, LAYOUT.index(f"{side}_{name}")] = points[:, hand[joint]]
        lost = _runs(rng, frames, signer.miss, 8)
        overlooked = (weight < 0.3) & (rng.random() > signer.rest_seen)
        hidden[:, hand] = (lost | overlooked)[:, None]
    hidden[:, FACE] = _runs(rng, frames, 0.1, 6)[:, None]
    hidden |= _runs(rng, frames, 0.1, 1)[:, None]
    points += 0.015 * np.sin(2 * np.pi * (time + rng.random()))[:, None, None]
    if signer.left_handed:
        points, hidden = points[:, LAYOUT.flip] * MIRROR_X, hidden[:, LAYOUT.flip]

    image = through_camera(points, signer)
    for hand in (LEFT, RIGHT):
        centre = image[:, hand].mean(axis=1)
        hidden[:, hand] |= ((centre < 0) | (centre > 1)).any(axis=1)[:, None]
    image += rng.normal(0, signer.noise, image.shape) * (1, ASPECT)
    image[hidden] = 0
    return image.astype(np.float32)


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


@cache
def _draw_family(seed: int, family: int) -> tuple[Sign, ...]:
    """One sign a variant; families take turns in which hands act."""
    rng = _generator(seed, _SIGN, family)
    nod, tempo = rng.uniform(-0.15, 0.15), rng.uniform(0.92, 1.08)
    hands = HANDS[family % len(HANDS)]
    rights = _draw_plans(rng)
    lefts = {"one": (None,) * 4, "symmetric": rights, "different": _draw_plans(rng)}[hands]
    return tuple(Sign(right, left, nod, tempo) for right, left in zip(rights, lefts, strict=True))


def _draw_plans(rng: np.random.Generator) -> tuple[HandPlan, ...]:
    """What one hand does in a family, a plan a variant."""
    shapes = rng.permutation(list(HAND_SHAPES.values()))
    second = rng.integers(2)  # one hand shape, or two
    orientations = rng.permutation(_ORIENTATIONS)[[0, rng.integers(2)]]
    even = np.linspace(0, 1, 32)
    while True:
        waypoints = int(rng.integers(4, 6))
        path = rng.uniform([-0.95, -0.65, 0.3], [0.25, 0.6, 0.6], (waypoints, 3))
        there = spline(path, even)
        back, mirrored = there[::-1], spline(upside_down_path(path), even)
        # Variants must differ by more than signers do; about one path in a hundred is such.
        pairs = ((there, back), (there, mirrored), (back, mirrored))
        if min(np.linalg.norm(a - b, axis=1).mean() for a, b in pairs) > 0.65:
            break
    plan = HandPlan(path, shapes[[0, second]], orientations)
    other_shapes = replace(plan, shapes=shapes[[2, 2 + second]])
    return plan, plan.reversed(), other_shapes, plan.upside_down()


def _with_habits(sign: Sign, rng: np.random.Generator) -> Sign:
    """The sign as one signer knows it."""
    right = _vary(sign.right, rng, 0.04)
    return replace(sign, right=right, left=sign.left and _vary(sign.left, rng, 0.04))


def _vary(plan: HandPlan, rng: np.random.Generator, spread: float) -> HandPlan:
    """Moves waypoints (shoulder widths) and curls by `spread`, orientations by twice that."""
    return HandPlan(
        plan.path + rng.normal(0, spread, plan.path.shape),
        plan.shapes + rng.normal(0, spread, plan.shapes.shape),
        plan.orientations + rng.normal(0, 2 * spread, plan.orientations.shape),
    )


def _runs(rng: np.random.Generator, frames: int, mean: float, longest: int) -> np.ndarray:
    """(T,) True in Poisson-many runs of 1 to `longest` frames."""
    count = rng.poisson(mean)
    start = rng.integers(0, frames, (count, 1))
    length = rng.integers(1, longest + 1, (count, 1))
    frame = np.arange(frames)
    return ((frame >= start) & (frame < start + length)).any(axis=0)


def synthetic_clips(layout: Layout, seed: int, *, partial: bool = False) -> ClipSet | None:
    """Synthetic recordings in a layout; None where kp90, as they are made, lacks its landmarks.

    With `partial` some of them are enough; the others are missing.
    """
    common = set(layout.names) & set(LAYOUT.names)
    if not common or (not partial and len(common) < layout.num_keypoints):
        return None
    clips = make_clips(num_classes=4, num_signers=2, repetitions=2, seed=seed)
    return replace(clips, landmark_names=LAYOUT.names).to_layout(layout)

"""The bodies behind the synthetic recordings: arms, hands and head in space, and a camera.

Body space: x to the image's right, y down, z towards the camera; the origin is midway between the
shoulders, the unit their distance. Plans of both hands are written for the right one; the left
hand's x is mirrored. Legend: T frames, N waypoints, K landmarks (kp90).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from signbart.landmarks.layouts import get_layout

LAYOUT = get_layout("kp90")
ASPECT = 4 / 3  # of the imaginary images, width : height
_CAMERA_DISTANCE = 5.0
MIRROR_X = np.array([-1.0, 1.0, 1.0])
BODY, LEFT, RIGHT, FACE = (
    np.array(LAYOUT.groups[group]) for group in ("body", "left_hand", "right_hand", "face")
)
HEAD = np.concatenate([BODY[:11], FACE])

# (x, y) from the head's centre, in head heights; the subject's right half, the left is mirrored.
_HEAD_HALF = {
    "nose": (0, -0.02), "right_eye_inner": (-0.12, -0.21), "right_eye": (-0.2, -0.21),
    "right_eye_outer": (-0.28, -0.2), "right_ear": (-0.41, -0.08), "mouth_right": (-0.15, 0.22),
    "face_10": (0, -0.5), "face_109": (-0.16, -0.49), "face_67": (-0.28, -0.47),
    "face_103": (-0.38, -0.42), "face_172": (-0.37, 0.29), "face_152": (0, 0.5),
    "face_33": (-0.35, -0.15), "face_133": (-0.14, -0.15), "face_160": (-0.3, -0.19),
    "face_159": (-0.25, -0.2), "face_158": (-0.2, -0.19), "face_144": (-0.3, -0.12),
    "face_145": (-0.25, -0.11), "face_1": (0, 0.03),
}  # fmt: skip

_RELAXED = np.array([0.3, 0.25, 0.3, 0.35, 0.4, 0.3])

# The hand in units of its length; rows thumb … pinky, columns along the fingers, to the thumb.
_FINGER_BASE = np.array([[0.13, 0.13], [0.5, 0.15], [0.52, 0.02], [0.48, -0.1], [0.43, -0.21]])
_BONES = np.array([
    (0.2, 0.17, 0.13), (0.24, 0.14, 0.11), (0.26, 0.16, 0.12), (0.24, 0.15, 0.11), (0.19, 0.1, 0.1)
])  # fmt: skip
_BEND = np.radians([[10, 45, 90], *[[75, 170, 230]] * 4])  # against the palm, at curl 1
_SPLAY = np.radians([0, 9, 0, -9, -18])


@dataclass(frozen=True)
class HandPlan:
    """What one hand does, written for the right one.

    Attributes:
        path: (N, 3) waypoints of the wrist in body space.
        shapes: (2, 6) first and last hand shape: five curls and the spread, see `HAND_SHAPES`.
        orientations: (2, 2, 3) first and last (fingers point to, palm faces).
    """

    path: np.ndarray
    shapes: np.ndarray
    orientations: np.ndarray

    def reversed(self) -> HandPlan:
        """The same backwards in time."""
        return HandPlan(self.path[::-1], self.shapes[::-1], self.orientations[::-1])

    def upside_down(self) -> HandPlan:
        """The same with its path mirrored in y, about the height of its own centre."""
        return replace(self, path=upside_down_path(self.path))


@dataclass(frozen=True)
class Sign:
    """A class. ``left`` is None for a one-handed sign; ``nod`` is the head's, in radians."""

    right: HandPlan
    left: HandPlan | None
    nod: float
    tempo: float


@dataclass(frozen=True)
class Signer:
    """A body, a camera and habits.

    Attributes:
        left_handed: Performs every sign mirrored.
        upper_arm, forearm, hand, head, neck: Lengths in shoulder widths; ``neck`` is the height of
            the head's centre.
        rest: (3,) where the right wrist rests.
        rest_seen: Share of clips in which the detector finds a resting hand inside the image.
        amplitude, tempo: Factors on the size and on the speed of signs.
        offset: (3,) where this signer's signing space lies against the average one.
        elbow: (3,) direction in which the right elbow leaves the line shoulder–wrist.
        camera: Rotation of the scene about x, y, z, in radians.
        centre: (2,) midway between the shoulders, in the image.
        scale: Shoulder width as a share of the image's width.
        noise: Standard deviation of the detector's error, in image widths.
        miss: Mean number of times that the detector loses a hand in a clip.
    """

    left_handed: bool
    upper_arm: float
    forearm: float
    hand: float
    head: float
    neck: float
    rest: np.ndarray
    rest_seen: float
    amplitude: float
    tempo: float
    offset: np.ndarray
    elbow: np.ndarray
    camera: np.ndarray
    centre: np.ndarray
    scale: float
    noise: float
    miss: float


def place_head(
    sign: Sign, signer: Signer, motion: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(T, 36, 3) pose's and the mesh's points of the head; `motion` (T,) scales the nod."""
    shape = np.zeros((LAYOUT.num_keypoints, 3))
    for name, (x, y) in _HEAD_HALF.items():
        at = LAYOUT.index(name)
        # A bulge, so that nods and the camera's angle show; the nose stands out of it.
        shape[at] = x, y, 0.15 - 1.2 * x * x + 0.15 * (name in ("nose", "face_1"))
        shape[LAYOUT.flip[at]] = shape[at] * (MIRROR_X if LAYOUT.flip[at] != at else 1)
    angles = np.zeros((len(motion), 3)) + rng.normal(0, 0.05, 3)
    angles[:, 0] += sign.nod * motion
    turned = np.einsum("tij,kj->tki", _rotation(angles), shape[HEAD])
    return signer.head * turned + (0, -signer.neck, 0.1)


def place_arm(
    plan: HandPlan, signer: Signer, active: np.ndarray, phase: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A right arm: elbow (T, 3) and hand (T, 21, 3); `active` (T,) is 0 at rest, 1 in the sign."""
    centre = plan.path.mean(axis=0)
    path = centre + signer.offset + signer.amplitude * (plan.path - centre)
    weight, change = active[:, None], ease((phase - 0.25) / 0.5)[:, None, None]
    wrist = signer.rest + weight * (spline(path, phase) - signer.rest)
    orientation = plan.orientations[0] + change * (plan.orientations[1] - plan.orientations[0])
    shape = plan.shapes[0] + change[:, 0] * (plan.shapes[1] - plan.shapes[0])

    shoulder = np.array([-0.5, 0, 0])
    upper, fore = signer.upper_arm, signer.forearm
    line = _unit(wrist - shoulder)
    reach = np.linalg.norm(wrist - shoulder, axis=1, keepdims=True)
    reach = np.clip(reach, abs(upper - fore) + 0.1, 0.995 * (upper + fore))
    along = (upper**2 - fore**2 + reach**2) / (2 * reach)
    aside = _unit(signer.elbow - (line * signer.elbow).sum(axis=1, keepdims=True) * line)
    elbow = shoulder + along * line + np.sqrt(upper**2 - along**2) * aside
    wrist = shoulder + reach * line

    fingers = _unit(0.6 * _unit(wrist - elbow) + 0.9 * weight * _unit(orientation[:, 0]))
    palm = weight * _unit(orientation[:, 1]) + (1 - weight) * (0.95, 0, -0.3)
    to_thumb = _unit(np.cross(palm, fingers))
    frame = np.stack([fingers, to_thumb, np.cross(fingers, to_thumb)], axis=1)
    local = _hand(_RELAXED + weight * (np.clip(shape, 0, 1.4) - _RELAXED))
    return elbow, wrist[:, None] + signer.hand * np.einsum("tkc,tcd->tkd", local, frame)


def _hand(shape: np.ndarray) -> np.ndarray:
    """(T, 6) curls and spread -> (T, 21, 3) joints along (fingers, to thumb, out of the palm)."""
    curl, spread = np.minimum(shape[:, :5], 1), shape[:, 5:]
    splay = _SPLAY * spread
    splay[:, 0] = np.radians(55) * (1 - 0.8 * curl[:, 0])
    bend = curl[:, :, None] * _BEND
    straight = np.stack([np.cos(splay), np.sin(splay), np.zeros_like(splay)], axis=-1)
    # The thumb folds across the palm, the others into it.
    folded = np.array([[0.0, -0.8, 0.6], *[[0.0, 0.0, 1.0]] * 4])
    bones = np.cos(bend)[..., None] * straight[:, :, None] + (
        np.sin(bend)[..., None] * folded[:, None]
    )
    knuckles = np.zeros((len(shape), 5, 4, 3))
    knuckles[:, :, 1:] = np.cumsum(_BONES[..., None] * bones, axis=2)
    knuckles[..., :2] += _FINGER_BASE[:, None]
    return np.concatenate([np.zeros((len(shape), 1, 3)), knuckles.reshape(-1, 20, 3)], axis=1)


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Rotations about x, then y, then z: (..., 3) radians -> (..., 3, 3)."""
    # Here and elsewhere einsum: BLAS would start threads for these tiny products, and its bits
    # differ from machine to machine.
    matrix = np.eye(3)
    for axis, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
        turn = np.zeros((*angles.shape[:-1], 3, 3))
        turn[..., axis, axis] = 1
        turn[..., i, i] = turn[..., j, j] = np.cos(angles[..., axis])
        turn[..., j, i] = np.sin(angles[..., axis])
        turn[..., i, j] = -turn[..., j, i]
        matrix = np.einsum("...ij,...jk->...ik", turn, matrix)
    return matrix


def through_camera(points: np.ndarray, signer: Signer) -> np.ndarray:
    """(T, K, 3) body space -> (T, K, 2) image."""
    seen = np.einsum("ij,tkj->tki", _rotation(signer.camera), points)
    nearness = _CAMERA_DISTANCE / (_CAMERA_DISTANCE - seen[..., 2:])
    return signer.centre + signer.scale * np.array([1, ASPECT]) * nearness * seen[..., :2]


def upside_down_path(path: np.ndarray) -> np.ndarray:
    """(N, 3) waypoints mirrored in y, about the mean height of the path through them."""
    height = spline(path, np.linspace(0, 1, 32))[:, 1].mean()
    return np.column_stack([path[:, 0], 2 * height - path[:, 1], path[:, 2]])


def spline(path: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Catmull–Rom spline through (N, D) waypoints, at (T,) positions in [0, 1]: (T, D)."""
    ends = 2 * path[[0, -1]] - path[[1, -2]]
    padded = np.concatenate([ends[:1], path, ends[1:]])
    position = at * (len(path) - 1)
    start = np.clip(position.astype(int), 0, len(path) - 2)
    u = (position - start)[:, None]
    a, b, c, d = (padded[start + k] for k in range(4))
    return b + 0.5 * u * (c - a + u * (2 * a - 5 * b + 4 * c - d + u * (3 * (b - c) + d - a)))


def ease(x: np.ndarray) -> np.ndarray:
    """From 0 to 1 as `x` does, smoothly at both ends (smoothstep)."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

"""Clips strung together to a stream of which is known when which sign is made.

Legend: T frames, K landmarks, D coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from signbart.errors import ClipError
from signbart.recordings.clip import Clip, ClipSet

# Between two pieces of a string hands get from one place to the other; seconds.
CROSSING = 0.3
# Idle lasts so long between two signs, drawn evenly; seconds.
SHORTEST_IDLE, LONGEST_IDLE = 1.0, 3.0


@dataclass(frozen=True)
class Sign:
    """What is made when: a label, and its first and last frame's time in seconds."""

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class Stream:
    """A stream of one signer.

    Attributes:
        signer: Who.
        landmarks: (T, K, D).
        signs: In their order.
        fps: Frames a second.
    """

    signer: str
    landmarks: np.ndarray
    signs: tuple[Sign, ...]
    fps: float

    @property
    def minutes(self) -> float:
        """How long it is."""
        return len(self.landmarks) / self.fps / 60

    def frames(self) -> list[tuple[float, np.ndarray]]:
        """Each frame with its time."""
        return [(at / self.fps, frame) for at, frame in enumerate(self.landmarks)]


def string_clips(clips: ClipSet, signer: str, *, fps: float, seed: int, idle: str) -> Stream:
    """All clips of a signer in a random order, with idle before, between and behind.

    Idle is cut from the signer's clips of class `idle`; without any, the body rests as it
    stands at a clip's end, and hands go to the next clip's beginning. Between two pieces every
    landmark takes the straight line, for `CROSSING` seconds; one that is missing on one side is
    missing on that half of the way.

    Args:
        clips: Labelled; landmarks of one layout.
        signer: Whose clips.
        fps: Frames a second of the clips.
        seed: With the signer's name of the order, and of how long idle lasts, `SHORTEST_IDLE` to
            `LONGEST_IDLE`.
        idle: The class that is no sign.

    Raises:
        ClipError: The signer has no clip of a sign.
    """
    own = [clip for clip in clips.clips if clip.signer == signer]
    names = clips.class_names
    signs = [clip for clip in own if names[clip.label] != idle]
    resting = [clip for clip in own if names[clip.label] == idle]
    if not signs:
        raise ClipError(f"no signs by signer '{signer}' to string together")
    rng = np.random.default_rng([seed, *signer.encode()])
    pieces: list[tuple[np.ndarray, str | None]] = []
    for at in rng.permutation(len(signs)):
        landmarks = np.asarray(signs[at].landmarks)
        rest = pieces[-1][0][-1] if pieces else landmarks[0]
        pieces += [(piece, None) for piece in _idle_pieces(resting, rest, fps, rng)]
        pieces.append((landmarks, names[signs[at].label]))
    pieces += [(piece, None) for piece in _idle_pieces(resting, pieces[-1][0][-1], fps, rng)]
    return _joined(signer, pieces, fps)


def _idle_pieces(
    resting: Sequence[Clip], rest: np.ndarray, fps: float, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Idle as long as is drawn: of those clips, or without any one that stands as `rest` (K, D)."""
    count = max(2, round(rng.uniform(SHORTEST_IDLE, LONGEST_IDLE) * fps))
    if not resting:
        yield np.repeat(rest[None], count, axis=0)
        return
    while count > 0:
        piece = np.asarray(resting[rng.integers(len(resting))].landmarks)[:count]
        yield piece
        count -= len(piece)


def _joined(signer: str, pieces: Sequence[tuple[np.ndarray, str | None]], fps: float) -> Stream:
    """Pieces with crossings between them; those with a label are signs."""
    parts: list[np.ndarray] = []
    made, length = [], 0
    for landmarks, label in pieces:
        if parts:
            parts.append(_crossing(parts[-1][-1], landmarks[0], round(CROSSING * fps)))
            length += len(parts[-1])
        if label is not None:
            made.append(Sign(label, length / fps, (length + len(landmarks) - 1) / fps))
        parts.append(landmarks)
        length += len(landmarks)
    return Stream(signer, np.concatenate(parts), tuple(made), fps)


def _crossing(before: np.ndarray, behind: np.ndarray, count: int) -> np.ndarray:
    """(count, K, D) on the way from one frame to another."""
    share = (np.arange(1, count + 1) / (count + 1)).astype(np.float32)[:, None, None]
    there, then = ((frame[:, :2] != 0).any(axis=-1)[None, :, None] for frame in (before, behind))
    line = (1 - share) * before + share * behind
    nearer = np.where(share < 0.5, before[None], behind[None])
    return np.where(there & then, line, nearer).astype(np.float32)

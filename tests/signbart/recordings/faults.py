"""Faults made on purpose: what is done to recordings, the option that mends it, what names it."""

import dataclasses

import numpy as np

from signbart.recordings.clip import ClipSet


def changed(clips: ClipSet, change) -> ClipSet:
    return dataclasses.replace(
        clips,
        clips=tuple(
            dataclasses.replace(clip, landmarks=change(clip.landmarks).astype(np.float32))
            for clip in clips.clips
        ),
    )


def where_found(change):
    """A change of the points that are there; missing ones stay (0, 0)."""

    def changed_points(points: np.ndarray) -> np.ndarray:
        there = (points != 0).any(axis=-1, keepdims=True)
        return np.where(there, change(points), 0)

    return changed_points


def swapped(points: np.ndarray) -> np.ndarray:
    return np.concatenate(
        [points[:, :33], points[:, 54:75], points[:, 33:54], points[:, 75:]], axis=1
    )


FAULTS = {
    "y up, below 0": (where_found(lambda p: p * (1, -1)), {"flip_y": True}, "--flip-y"),
    "y up": (where_found(lambda p: p * (1, -1) + (0, 1)), {"flip_y": True}, "--flip-y"),
    "mirrored": (where_found(lambda p: p * (-1, 1) + (1, 0)), {"mirror": True}, "--mirror"),
    "hands": (swapped, {"swap_hands": True}, "--swap-hands"),
    "centred": (lambda p: p - 0.5, {"centred": 0.5}, "--centred 0.5"),
    "centred, missing at 0": (where_found(lambda p: 2 * p - 1), {"centred": 1.0}, "--centred 1"),
    "pixels": (lambda p: p * (640, 480), "640x480", "--image-size"),
}

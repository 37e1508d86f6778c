"""Recordings in JSON: OpenPose's file a frame, a file a clip, lists of frames or of clips.

A frame is a list of landmarks, an object of MediaPipe's parts (``pose``, ``left_hand``,
``right_hand``, ``face``, with or without ``_landmarks``), or what OpenPose writes (``people``). A
landmark is a list of numbers or an object with ``x``, ``y`` and perhaps ``z``; null is missing.

Legend: T frames, K landmarks, D numbers a landmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from signbart.errors import ClipError
from signbart.landmarks.source import SourceLayout
from signbart.landmarks.source_layouts import SOURCE_LAYOUTS
from signbart.recordings.annotations import annotated_clips
from signbart.recordings.json_numbers import first_leaf, first_there, is_point, numbers
from signbart.recordings.names import whole_number
from signbart.recordings.parts import LAYOUT, PARTS, assemble, part_of
from signbart.recordings.recording import Contents, Recording
from signbart.recordings.text_files import load_json

FRAMES = ("keypoints", "landmarks", "frames", "data", "points", "poses", "joints", "X")
CLASSES = ("class", "label", "sign", "gloss", "class_name")
SIGNERS = ("user", "signer", "signer_id", "participant_id")
REPETITIONS = ("repetition", "rep", "take")

_OPENPOSE = {
    "pose_keypoints_2d": (0, 25),
    "hand_left_keypoints_2d": (25, 46),
    "hand_right_keypoints_2d": (46, 67),
    "face_keypoints_2d": (67, 137),
}


def read_json(path: Path) -> Contents:
    """The clips of a JSON file.

    Raises:
        ClipError: The file is no JSON, or holds no recordings.
    """
    return read_tree(path, load_json(path))


def read_tree(path: Path, tree: Any) -> Contents:
    """The clips of what a JSON file holds; see `read_json`."""
    if isinstance(tree, dict) and "annotations" in tree:
        return annotated_clips(path, tree, lambda value: numbers(value, str(path)))
    if isinstance(tree, dict):
        return Contents([_clip(tree, str(path))])
    if isinstance(tree, list) and tree:
        if _is_set(tree):
            sources = [f"{path}[{number}]" for number in range(len(tree))]
            return Contents(map(_clip_or_error, tree, sources), total=len(tree))
        return Contents([_clip({"frames": tree}, str(path))])
    raise ClipError(f"{path}: holds no recordings; docs/data.md says which forms of JSON are read")


def read_openpose_frame(path: Path) -> np.ndarray:
    """One frame as OpenPose writes it: (137, 3) of x, y, confidence; zeros where nobody is.

    Raises:
        ClipError: The file is no such frame.
    """
    tree = load_json(path)
    if not isinstance(tree, dict) or "people" not in tree:
        raise ClipError(f"{path}: no frame of OpenPose: it has no 'people'")
    return _openpose(tree, str(path))


def _clip_or_error(fields: Any, source: str) -> Recording | ClipError:
    try:
        return _clip(fields, source)
    except ClipError as error:
        return error


def _is_set(entries: list[Any]) -> bool:
    """Whether a list is one of clips, and not of frames."""
    known = (clip for clip in map(_is_clip, entries) if clip is not None)
    labelled = any(
        isinstance(entry, dict) and any(key in entry for key in CLASSES) for entry in entries
    )
    return next(known, labelled)


def _is_clip(entry: Any) -> bool | None:
    """Whether an entry of a list is a clip of its own, and not a frame; None: it says nothing."""
    if isinstance(entry, list):
        return False
    if not isinstance(entry, dict):
        return None
    frames = next((entry[key] for key in FRAMES if isinstance(entry.get(key), list)), None)
    found = first_leaf(frames)
    if found is None:
        parts = any(part_of(key) and isinstance(value, list) for key, value in entry.items())
        return False if parts or "people" in entry else None
    lengths, leaf = found
    if isinstance(leaf, dict):
        return len(lengths) > 1 or not is_point(leaf)
    # A clip's frames hold landmarks that hold numbers: one level more than a frame's. But a frame
    # may be a row, of more numbers than a landmark has; then a sign tells clips.
    labelled = any(key in entry for key in CLASSES)
    return len(lengths) > 2 or (len(lengths) == 2 and labelled and lengths[1] > 4)


def _clip(fields: Any, source: str) -> Recording:
    if not isinstance(fields, dict):
        raise ClipError(f"{source}: expected an object, found {str(fields)[:40]}")
    key = next((key for key in FRAMES if isinstance(fields.get(key), list)), None)
    if key is None:
        found = ", ".join(map(str, list(fields)[:8])) or "none"
        raise ClipError(
            f"{source}: has no frames; expected one of {', '.join(FRAMES)}, found {found[:120]}"
        )
    frames, layout = fields[key], None
    first = first_there(frames)
    if isinstance(first, dict) and not is_point(first):
        points, layout = _frames(frames, source)
    else:
        points = numbers(frames, source)
    signer = _first(fields, SIGNERS)
    repetition = _first(fields, REPETITIONS)
    return Recording(
        points,
        source,
        class_name=_first(fields, CLASSES),
        signer=signer,
        repetition=whole_number(repetition or ""),
        split=_first(fields, ("split", "subset")),
        layout=layout,
        size=_size(fields),
        name=Path(source).stem,
    )


def _frames(frames: list[Any], source: str) -> tuple[np.ndarray, SourceLayout | None]:
    """Frames that are objects, and what their landmarks are."""
    own = [{} if frame is None or frame == [] else frame for frame in frames]
    odd = next((at for at, frame in enumerate(own) if not isinstance(frame, dict)), None)
    if odd is not None:
        raise ClipError(
            f"{source}: frame {odd} is no object, but {str(own[odd])[:40]}; write null for a frame "
            "in which nothing was found"
        )
    if any("people" in frame for frame in own):
        points = np.stack([_openpose(frame, source) for frame in own])
        return points, SOURCE_LAYOUTS["openpose137"]
    if any(part_of(key) for frame in own for key in frame):
        return np.stack([_mediapipe(frame, source) for frame in own]), SOURCE_LAYOUTS[LAYOUT]
    first = next((frame for frame in own if frame), {})
    key = next((key for key in FRAMES if key in first), None)
    if key is None:
        raise ClipError(
            f"{source}: its frames are objects with {', '.join(map(str, list(first)[:6]))}; "
            "expected pose, left_hand, right_hand and face, or people"
        )
    odd = next((at for at, frame in enumerate(own) if frame and key not in frame), None)
    if odd is not None:
        raise ClipError(
            f"{source}: frame {odd} has no '{key}', as others do; write null for what is missing"
        )
    return numbers([frame.get(key) for frame in own], source), None


def _openpose(frame: Mapping[str, Any], source: str) -> np.ndarray:
    points = np.zeros((137, 3), np.float32)
    people = [person for person in frame.get("people") or [] if isinstance(person, dict)]
    if not people:
        return points
    sure = [np.sum(_row(person.get("pose_keypoints_2d"), source)[2::3]) for person in people]
    person = people[int(np.argmax(sure))]
    for name, (start, end) in _OPENPOSE.items():
        row = _row(person.get(name), source)
        if row.size and row.size != 3 * (end - start):
            raise ClipError(
                f"{source}: '{name}' has {row.size} numbers, expected {3 * (end - start)}; only "
                "OpenPose's BODY_25 model with hands and face is read"
            )
        if row.size:
            points[start:end] = row.reshape(-1, 3)
    return points


def _row(value: Any, source: str) -> np.ndarray:
    return numbers(value, source).reshape(-1) if value else np.zeros(0, np.float32)


def _mediapipe(frame: Mapping[str, Any], source: str) -> np.ndarray:
    parts = {}
    for key, value in frame.items():
        if part_of(key) is None or not value or first_leaf(value) is None:
            continue
        # Tasks put a list of people around the landmarks.
        if isinstance(value, list) and isinstance(value[0], list):
            value = value[0] if isinstance(first_there(value[0]), list | dict) else value
        parts[key] = numbers(value, source)
        if parts[key].ndim != 2:
            start, end = PARTS[part_of(key)]
            raise ClipError(
                f"{source}: '{key}' has shape {parts[key].shape}, expected {end - start} landmarks "
                "of x and y"
            )
    return assemble(parts, source)


def _first(fields: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    """The first field there that is a text or a whole number."""
    for key in keys:
        value = fields.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return str(value)
    return None


def _size(fields: Mapping[str, Any]) -> tuple[float, float] | None:
    sides = [fields.get("width"), fields.get("height")]
    if all(isinstance(side, int | float) and side > 0 for side in sides):
        return float(sides[0]), float(sides[1])
    return None

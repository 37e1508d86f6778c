"""Keypoint pickles, read without trusting them (`pickle_opcodes`): one clip, or a whole set.

Legend: T frames, K keypoints, D coordinates, M people.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signbart.errors import ClipError
from signbart.memory import read_whole
from signbart.recordings.annotations import annotated_clips
from signbart.recordings.pickle_opcodes import DAMAGE, PickledArray, Unreadable, run
from signbart.recordings.recording import Contents, Recording

# Far beyond any recording; lists that repeat one list by reference could otherwise ask for more.
_MAX_NUMBERS = 2**24


@dataclass(frozen=True)
class PickledClip:
    """What a keypoint pickle holds: landmarks as stored, in float32, and who signs what.

    `class_name` is empty where the file need not have one, and has none.
    """

    landmarks: np.ndarray
    class_name: str
    user: str | None


def read_pickle(path: Path, *, labelled: bool = True) -> PickledClip:
    """Reads one keypoint pickle: a dict with ``keypoints``, ``class`` and perhaps ``user``.

    Args:
        path: Written under any protocol from 0 to 5; keypoints a numeric NumPy array, nested
            lists, or a list of arrays.
        labelled: Whether the field ``class`` must be there.

    Raises:
        ClipError: The file is damaged, holds anything else, or asks for code; nothing ran.
    """
    with _faults_of(path):
        return _to_clip(run(read_whole(path)), labelled)


@contextmanager
def _faults_of(path: Path) -> Iterator[None]:
    """Turns what goes wrong while a pickle is read into errors that name it."""
    try:
        yield
    except OSError as error:
        raise ClipError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Unreadable as error:
        raise ClipError(f"{path}: {error}") from None
    except DAMAGE as error:
        reason = f"{type(error).__name__}: {error}"[:120]
        raise ClipError(f"{path}: not a pickle, or a damaged or truncated one ({reason})") from None


def read_pickled(path: Path) -> Contents:
    """Reads a pickle of one clip, or the annotations of a whole set, as PYSKL keeps them.

    Raises:
        ClipError: See `read_pickle`.
    """
    with _faults_of(path):
        content = run(read_whole(path))
        if type(content) is dict and "annotations" in content:
            return annotated_clips(path, content, _to_array)
        bare = type(content) is PickledArray and content.value is not None
        clip = _to_clip({"keypoints": content} if bare else content, labelled=False)
    return Contents(
        [
            Recording(
                clip.landmarks,
                str(path),
                class_name=clip.class_name or None,
                signer=clip.user,
                name=path.stem,
                as_is=not bare,
            )
        ]
    )


def _to_clip(fields: object, labelled: bool) -> PickledClip:
    if type(fields) is not dict:
        raise Unreadable(f"the pickle holds a {type(fields).__name__}, not a dict with 'keypoints'")
    for key in ("keypoints", "class") if labelled else ("keypoints",):
        if key not in fields:
            found = ", ".join(map(str, list(fields)[:8])) or "none"
            raise Unreadable(f"the pickle has no field '{key}'; its fields: {found[:120]}")
    class_name, user = fields.get("class", ""), fields.get("user")
    if type(class_name) is not str:
        raise Unreadable(f"field 'class' must be text, found {type(class_name).__name__}")
    if user is not None and type(user) not in (str, int):
        raise Unreadable(f"field 'user' must be text, found {type(user).__name__}")
    keypoints = _to_array(fields["keypoints"])
    if keypoints.dtype.kind not in "fiu":
        raise Unreadable(f"field 'keypoints' must hold numbers, found dtype {keypoints.dtype}")
    # What float32 cannot hold becomes infinite, which whoever takes the clip refuses.
    with np.errstate(over="ignore"):
        landmarks = np.array(keypoints, dtype=np.float32, order="C")
    return PickledClip(landmarks, class_name, None if user in (None, "") else str(user))


def _to_array(value: object) -> np.ndarray:
    """An array, nested lists of numbers, or nested lists of arrays, as one array."""
    if type(value) is PickledArray and value.value is not None:
        return value.value
    shape: list[int] = []
    level = [value]
    while level and type(level[0]) in (list, tuple):
        lengths = {len(item) if type(item) in (list, tuple) else -1 for item in level}
        if len(lengths) > 1:
            raise Unreadable("field 'keypoints' is ragged: its lists differ in length")
        shape.append(lengths.pop())
        if len(shape) > 3 or len(level) * shape[-1] > _MAX_NUMBERS:
            raise Unreadable("field 'keypoints' is nested too deep, or is too large, for (T, K, D)")
        level = [item for items in level for item in items]
    if all(type(item) in (int, float) for item in level):
        return np.array(level, dtype=np.float64).reshape(shape)
    if not all(type(item) is PickledArray and item.value is not None for item in level):
        raise Unreadable("field 'keypoints' must hold nothing but numbers or arrays of numbers")
    inner = {item.value.shape for item in level}
    if len(inner) > 1 or len(level) * level[0].value.size > _MAX_NUMBERS:
        raise Unreadable("field 'keypoints' holds arrays of different shapes, or too large ones")
    return np.array([item.value for item in level]).reshape(*shape, *inner.pop())

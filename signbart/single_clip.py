"""One recording that is to be recognised, and so needs no label."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from signbart.clips import Clip, find_fault, read_clips
from signbart.errors import ClipError
from signbart.packed import UNKNOWN_SIGNER
from signbart.pickles import read_pickle

FORMS = (
    "a .pkl with 'keypoints', an .npy of (T, K, 2 or 3), or one clip of a packed file, x.npz[12]"
)
_IN_PACKED = re.compile(r"(.+\.npz)\[(\d+)\]")


def read_single_clip(source: str) -> Clip:
    """Reads one recording.

    Args:
        source: The path of a keypoint pickle (the field ``class`` may be missing) or of an ``.npy``
            array, or ``x.npz[12]``, as messages name the clips of a packed file.

    Returns:
        The clip; its label means nothing.

    Raises:
        ClipError: There is no such recording, it is damaged, or no sign can be read from it.
    """
    packed = _IN_PACKED.fullmatch(source)
    if packed:
        clips = read_clips(packed[1]).clips
        index = int(packed[2])
        if index >= len(clips):
            raise ClipError(f"{source}: {packed[1]} has clips 0 to {len(clips) - 1}")
        return clips[index]
    path = Path(source)
    if path.suffix == ".pkl":
        landmarks = read_pickle(path, labelled=False).landmarks
    elif path.suffix == ".npy":
        landmarks = _read_array(path)
    else:
        raise ClipError(f"{source}: expected {FORMS}")
    clip = Clip(landmarks, 0, UNKNOWN_SIGNER, 0, source)
    fault = find_fault(clip)
    if fault:
        raise ClipError(fault)
    return clip


def _read_array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise ClipError(f"{path}: cannot be read: {error.strerror or error}") from None
    # Its header is a Python literal, which can be damaged in many ways.
    except (ValueError, EOFError, SyntaxError, TypeError, MemoryError) as error:
        raise ClipError(f"{path}: not an .npy array of numbers: {str(error)[:120]}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise ClipError(f"{path}: not an .npy array of numbers")
    with np.errstate(over="ignore"):  # infinity is refused with the clip
        return array.astype(np.float32)

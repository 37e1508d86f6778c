"""Recordings kept as bare arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from signbart.errors import ClipError


def read_array(path: Path) -> np.ndarray:
    """Reads an ``.npy`` of numbers, as float32.

    Raises:
        ClipError: The file cannot be read, or holds something else.
    """
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

"""The packed form of a data set: one ``.npz`` of plain arrays, the landmarks as int16.

| array | shape, dtype | meaning |
|---|---|---|
| kp_q | (sum T, K, D) int16, or (N, T, K, D) without ``offsets`` | landmarks = kp_q × scale |
| scale | () float32 | |
| offsets | (N + 1) int64 | clip i is kp_q[offsets[i]:offsets[i + 1]] |
| label | (N) whole numbers | index into class_names |
| signer | (N) whole numbers, optional | index into signer_names |
| rep | (N) whole numbers, optional | repetition |
| class_names, signer_names | text; the latter optional | |
| split | (N) text, optional | train, val, test or all |

Legend: N clips, T frames, K keypoints, D coordinates.
"""

from __future__ import annotations

import itertools
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signbart.errors import ClipError
from signbart.files import atomic_write
from signbart.recordings.clip import Clip, ClipSet

UNKNOWN_SIGNER = "unknown"
# A tenth of a millimetre, or a ten-thousandth of the image: finer than any tracker.
DEFAULT_SCALE = 1e-4

_INT16_MAX = np.iinfo(np.int16).max
_REQUIRED = ("kp_q", "scale", "label", "class_names")
_OPTIONAL = ("offsets", "signer", "rep", "signer_names", "split")
_UNREADABLE = (
    ArithmeticError, EOFError, LookupError, MemoryError, NotImplementedError, OSError, RuntimeError,
    SyntaxError, TypeError, ValueError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Packed:
    """The columns of a packed file: one entry a clip in all but `class_names`."""

    landmarks: Sequence[np.ndarray]
    labels: Sequence[int]
    signers: Sequence[str]
    repetitions: Sequence[int]
    class_names: Sequence[str]
    splits: Sequence[str] | None = None


def load_packed(path: Path) -> Packed:
    """Reads a packed file; landmarks are float32 views of one array, not checked clip by clip.

    Raises:
        ClipError: The file cannot be read or an array is malformed; names file and array.
    """
    arrays = _load_arrays(path)

    def malformed(name: str, fault: str) -> ClipError:
        return ClipError(f"{path}: array '{name}' {fault}; write the file anew from its source")

    def whole_numbers(name: str, size: int, limit: int | None = None) -> np.ndarray:
        values = arrays[name]
        if values.dtype.kind not in "iu" or values.shape != (size,):
            raise malformed(
                name,
                f"must be {size} whole numbers, found {values.dtype} of shape {values.shape}",
            )
        values = values.astype(np.int64)
        if limit is not None and not ((values >= 0) & (values < limit)).all():
            at = int(np.argmax((values < 0) | (values >= limit)))
            raise malformed(name, f"holds {values[at]} at {at}, expected 0 to {limit - 1}")
        return values

    def texts(name: str) -> tuple[str, ...]:
        values = arrays[name]
        if values.dtype.kind != "U" or values.ndim != 1 or not values.size:
            raise malformed(
                name, f"must be a row of texts, found {values.dtype} of shape {values.shape}"
            )
        return tuple(values.tolist())

    frames, scale = arrays["kp_q"], arrays["scale"]
    axes = "(sum T, K, D)" if "offsets" in arrays else "(N, T, K, D), there being no 'offsets'"
    if (
        frames.dtype.kind not in "iuf"
        or frames.ndim != (3 if "offsets" in arrays else 4)
        or frames.shape[-2] < 1
        or frames.shape[-1] not in (2, 3)
    ):
        raise malformed(
            "kp_q",
            f"must hold numbers {axes}, K > 0, D 2 or 3; found {frames.dtype} {frames.shape}",
        )
    if scale.dtype.kind not in "iuf" or scale.size != 1 or not 0 < scale.item() < float("inf"):
        raise malformed("scale", "must be one number, finite and above 0")

    if "offsets" in arrays:
        offsets = whole_numbers("offsets", max(arrays["offsets"].size, 1))
        if (np.diff(offsets) < 0).any():
            raise malformed("offsets", f"falls at {int(np.argmax(np.diff(offsets) < 0)) + 1}")
        if offsets[0] != 0 or offsets[-1] != len(frames):
            raise malformed(
                "offsets",
                f"covers {offsets[0]} to {offsets[-1]} of the {len(frames)} frames of 'kp_q'",
            )
    else:
        offsets = np.arange(len(frames) + 1) * frames.shape[1]
        frames = frames.reshape(-1, *frames.shape[2:])
    count = len(offsets) - 1

    class_names = texts("class_names")
    if len(set(class_names)) < len(class_names):
        raise malformed("class_names", "names a class twice")
    signer = whole_numbers("signer", count) if "signer" in arrays else np.zeros(count, np.int64)
    if "signer" in arrays and "signer_names" in arrays:
        names = texts("signer_names")
        signers = tuple(names[index] for index in whole_numbers("signer", count, len(names)))
    elif len(np.unique(signer)) > 1:
        signers = tuple(f"signer{index}" for index in signer)
    else:
        signers = (UNKNOWN_SIGNER,) * count
    splits = texts("split") if "split" in arrays else None
    if splits is not None and len(splits) != count:
        raise malformed("split", f"must be {count} texts, found {len(splits)}")

    with np.errstate(over="ignore", invalid="ignore"):
        landmarks = np.multiply(frames, scale.reshape(()), dtype=np.float32, casting="same_kind")
    return Packed(
        landmarks=[landmarks[a:b] for a, b in itertools.pairwise(offsets)],
        labels=whole_numbers("label", count, len(class_names)).tolist(),
        signers=signers,
        repetitions=whole_numbers("rep", count).tolist() if "rep" in arrays else (0,) * count,
        class_names=class_names,
        splits=splits,
    )


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise ClipError(f"{path}: not an .npz file, or a truncated one; copy or write it again")
    arrays = {}
    name = ""
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in _REQUIRED if name not in archive.files]
            if missing:
                raise ClipError(
                    f"{path}: no array '{missing[0]}'; a packed data set needs "
                    f"{', '.join(_REQUIRED)}, found {', '.join(archive.files) or 'none'}"
                )
            for name in (*_REQUIRED, *_OPTIONAL):
                if name in archive.files:
                    arrays[name] = archive[name]
    except _UNREADABLE as error:
        where = f"array '{name}' cannot be read" if name else "not a readable .npz file"
        raise ClipError(f"{path}: {where}: {error}; copy or write it again") from None
    return arrays


def packing_scale(landmarks: Sequence[np.ndarray]) -> float:
    """The step that `save_packed` rounds to: `DEFAULT_SCALE`, or larger where int16 needs it."""
    largest = max(float(np.abs(clip).max()) for clip in landmarks)
    return float(np.float32(max(DEFAULT_SCALE, largest / _INT16_MAX)))


def save_packed(packed: Packed, path: Path) -> None:
    """Writes a packed file, whole or not at all; an existing one is replaced.

    Raises:
        ClipError: The clips differ in K or D, there are none, or the file cannot be written.
    """
    shapes = {clip.shape[1:] for clip in packed.landmarks}
    if len(shapes) != 1:
        found = ", ".join(f"{k} × {d}" for k, d in sorted(shapes)) or "no clips"
        raise ClipError(f"{path}: clips to pack must share one K × D; found {found}")
    if not all(np.isfinite(clip).all() for clip in packed.landmarks):
        raise ClipError(f"{path}: clips to pack must be finite; found NaN or infinity")
    scale = packing_scale(packed.landmarks)
    offsets = np.cumsum([0, *(len(clip) for clip in packed.landmarks)], dtype=np.int64)
    quantized = np.empty((offsets[-1], *shapes.pop()), dtype=np.int16)
    for start, clip in zip(offsets, packed.landmarks, strict=False):
        quantized[start : start + len(clip)] = np.rint(clip / np.float64(scale))
    signer_names = sorted(set(packed.signers))
    index = {name: at for at, name in enumerate(signer_names)}
    arrays = {
        "kp_q": quantized,
        "scale": np.float32(scale),
        "offsets": offsets,
        "label": _whole_numbers(packed.labels),
        "signer": _whole_numbers([index[name] for name in packed.signers]),
        "rep": _whole_numbers(packed.repetitions),
        "class_names": np.array(packed.class_names),
        "signer_names": np.array(signer_names),
    }
    if packed.splits is not None:
        arrays["split"] = np.array(packed.splits)
    with atomic_write(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _whole_numbers(values: Sequence[int]) -> np.ndarray:
    """The values as int16, or as int32 where one of them is beyond it."""
    array = np.array(values, dtype=np.int64)
    return array.astype(np.int16 if np.abs(array).max() <= _INT16_MAX else np.int32)


def write_packed(clip_set: ClipSet, path: str | Path) -> None:
    """Writes a packed ``.npz``, whole or not at all, in place of an existing one.

    Landmarks are rounded to steps of 1e-4, or of what int16 needs to hold the largest; zeros stay
    zeros.

    Raises:
        ClipError: The clips differ in K or D, there are none, or the file cannot be written.
    """
    columns = Packed(
        landmarks=[clip.landmarks for clip in clip_set.clips],
        labels=[clip.label for clip in clip_set.clips],
        signers=clip_set.signers,
        repetitions=[clip.repetition for clip in clip_set.clips],
        class_names=clip_set.class_names,
        splits=[clip.split for clip in clip_set.clips]
        if any(clip.split != "all" for clip in clip_set.clips)
        else None,
    )
    save_packed(columns, Path(path))


def packed_clips(path: Path, split: str, columns: Packed) -> Iterator[Clip]:
    """The clips of a packed file, or those that it marks as of one split.

    Raises:
        ClipError: It marks none.
    """
    if split != "all" and columns.splits is None:
        raise ClipError(f"{path}: has no split '{split}', nor any other; read it with split 'all'")
    rows = zip(columns.landmarks, columns.labels, columns.signers, columns.repetitions, strict=True)
    for index, row in enumerate(rows):
        if split == "all" or columns.splits[index] == split:
            own = "all" if columns.splits is None else columns.splits[index]
            yield Clip(*row, source=f"{path.name}[{index}]", split=own)

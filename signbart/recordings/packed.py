"""The packed form of a data set: one ``.npz`` of plain arrays, the landmarks as whole numbers.

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
| landmark_names | (K) text, optional | where no model layout has these landmarks in this order |

Where a value is too large for int16, ``kp_q`` is int32 or float32.

Legend: N clips, T frames, K keypoints, D coordinates.
"""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signbart.errors import ClipError
from signbart.files import atomic_write
from signbart.landmarks.source import SourceLayout
from signbart.recordings.arrays import UNREADABLE
from signbart.recordings.clip import ClipSet
from signbart.recordings.names import UNKNOWN_SIGNER
from signbart.recordings.recording import Contents, Recording

# A tenth of a millimetre, or a ten-thousandth of the image: finer than any tracker.
DEFAULT_SCALE = 1e-4
_INT16_MAX = np.iinfo(np.int16).max
_INT32_MAX = 2**24  # what float32 tells apart
_REQUIRED = ("kp_q", "scale", "label", "class_names")
_OPTIONAL = ("offsets", "signer", "rep", "signer_names", "split", "landmark_names")


@dataclass(frozen=True)
class Packed:
    """A packed file's columns: one entry a clip, but for `class_names` and `landmark_names`."""

    landmarks: Sequence[np.ndarray]
    labels: Sequence[int]
    signers: Sequence[str]
    repetitions: Sequence[int]
    class_names: Sequence[str]
    splits: Sequence[str] | None = None
    landmark_names: tuple[str, ...] | None = None


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

    names = texts("landmark_names") if "landmark_names" in arrays else None
    if names is not None and (len(names) != frames.shape[-2] or len(set(names)) < len(names)):
        raise malformed("landmark_names", f"must be {frames.shape[-2]} texts, each once")

    with np.errstate(over="ignore", invalid="ignore"):
        landmarks = np.multiply(frames, scale.reshape(()), dtype=np.float32, casting="same_kind")
    return Packed(
        landmarks=[landmarks[a:b] for a, b in itertools.pairwise(offsets)],
        labels=whole_numbers("label", count, len(class_names)).tolist(),
        signers=signers,
        repetitions=whole_numbers("rep", count).tolist() if "rep" in arrays else (0,) * count,
        class_names=class_names,
        splits=splits,
        landmark_names=names,
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
    except UNREADABLE as error:
        where = f"array '{name}' cannot be read" if name else "not a readable .npz file"
        raise ClipError(f"{path}: {where}: {error}; copy or write it again") from None
    return arrays


def packing_step(landmarks: Sequence[np.ndarray]) -> float:
    """The step that `save_packed` rounds to; 0 where it keeps float32 as it is.

    One wild value must not coarsen all the others: what int16 cannot hold at `DEFAULT_SCALE` is
    kept as int32, and what that cannot hold as float32. Only landmarks that a packed file held at a
    larger step already keep that step, and so do not change.
    """
    largest = max(float(np.abs(clip).max()) for clip in landmarks)
    own = float(np.float32(largest / _INT16_MAX))
    if own > DEFAULT_SCALE and all(_are_multiples(clip, own) for clip in landmarks):
        return own
    return DEFAULT_SCALE if largest <= _INT32_MAX * DEFAULT_SCALE else 0.0


def _are_multiples(landmarks: np.ndarray, step: float) -> bool:
    """Whether rounding to multiples of `step` gives the same float32 numbers."""
    whole = np.rint(landmarks / np.float64(step)).astype(np.int64)
    again = np.multiply(whole, np.float32(step), dtype=np.float32, casting="same_kind")
    return np.array_equal(again, landmarks)


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
    step = packing_step(packed.landmarks)
    scale = np.float32(step or 1.0)
    largest = max(float(np.abs(clip).max()) for clip in packed.landmarks) / np.float64(scale)
    whole = np.int16 if round(largest) <= _INT16_MAX else np.int32
    offsets = np.cumsum([0, *(len(clip) for clip in packed.landmarks)], dtype=np.int64)
    quantized = np.empty((offsets[-1], *shapes.pop()), dtype=whole if step else np.float32)
    for start, clip in zip(offsets, packed.landmarks, strict=False):
        quantized[start : start + len(clip)] = np.rint(clip / np.float64(scale)) if step else clip
    signer_names = sorted(set(packed.signers))
    index = {name: at for at, name in enumerate(signer_names)}
    arrays = {
        "kp_q": quantized,
        "scale": scale,
        "offsets": offsets,
        "label": _whole_numbers(packed.labels),
        "signer": _whole_numbers([index[name] for name in packed.signers]),
        "rep": _whole_numbers(packed.repetitions),
        "class_names": np.array(packed.class_names),
        "signer_names": np.array(signer_names),
    }
    if packed.splits is not None:
        arrays["split"] = np.array(packed.splits)
    if packed.landmark_names is not None:
        arrays["landmark_names"] = np.array(packed.landmark_names)
    with atomic_write(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _whole_numbers(values: Sequence[int]) -> np.ndarray:
    """The values as int16, or as int32 where one of them is beyond it."""
    array = np.array(values, dtype=np.int64)
    return array.astype(np.int16 if np.abs(array).max() <= _INT16_MAX else np.int32)


def write_packed(clip_set: ClipSet, path: str | Path) -> None:
    """Writes a packed ``.npz``, whole or not at all, in place of an existing one.

    Landmarks are rounded to steps of 1e-4, or kept as float32 where a value is too large for that;
    zeros stay zeros.

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
        landmark_names=clip_set.landmark_names,
    )
    save_packed(columns, Path(path))


def read_packed(path: Path, split: str = "all") -> Contents:
    """The clips of a packed file, or those that it marks as of one split.

    Raises:
        ClipError: The file is malformed, or marks none as of that split.
    """
    columns = load_packed(path)
    if split != "all" and columns.splits is None:
        raise ClipError(f"{path}: has no split '{split}', nor any other; read it with split 'all'")
    layout = None
    if columns.landmark_names is not None:
        # Clips are in the right units already, with y up or down: metres say that of any.
        layout = SourceLayout(
            path.name,
            "as the file names its landmarks",
            columns.landmark_names,
            channels={2: "xy", 3: "xyz"},
            unit="metres",
            up=True,
        )
    return Contents(_recordings(path, columns, layout), columns.class_names)


def _recordings(path: Path, columns: Packed, layout: SourceLayout | None) -> Iterator[Recording]:
    rows = zip(columns.landmarks, columns.labels, columns.signers, columns.repetitions, strict=True)
    for index, (landmarks, label, signer, repetition) in enumerate(rows):
        yield Recording(
            landmarks,
            f"{path.name}[{index}]",
            class_name=columns.class_names[label],
            signer=signer,
            repetition=repetition,
            split="all" if columns.splits is None else columns.splits[index],
            layout=layout,
            as_is=True,
        )

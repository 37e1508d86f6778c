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
| made_from | text, optional | what ``clips pack`` made it from and how, a step each |

Where a value is too large for int16, ``kp_q`` is int32 or float32. Where it is not compressed it is
not loaded, but mapped (`mapped`); ``pack --layout`` writes it so. `packed_reading` reads both.

Legend: N clips, T frames, K keypoints, D coordinates.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signbart.errors import ClipError
from signbart.files import atomic_write
from signbart.recordings.clip import ClipSet
from signbart.recordings.mapped import MappedLandmarks
from signbart.waiting import track

# A tenth of a millimetre, or a ten-thousandth of the image: finer than any tracker.
DEFAULT_SCALE = 1e-4
_INT16_MAX = np.iinfo(np.int16).max
_INT32_MAX = 2**24  # what float32 tells apart
# A block of a zip member's extra field, as Android's zipalign writes it: two bytes bring the first
# array's numbers to a multiple of 64 bytes behind the header of the member.
_ALIGNING = struct.pack("<HHxx", 0xD935, 2)
REQUIRED = ("kp_q", "scale", "label", "class_names")
OPTIONAL = ("offsets", "signer", "rep", "signer_names", "split", "landmark_names", "made_from")


@dataclass(frozen=True)
class Packed:
    """A packed file's columns: one entry a clip, but for the names and `made_from`."""

    landmarks: Sequence[np.ndarray | MappedLandmarks]
    labels: Sequence[int]
    signers: Sequence[str]
    repetitions: Sequence[int]
    class_names: Sequence[str]
    splits: Sequence[str] | None = None
    landmark_names: tuple[str, ...] | None = None
    made_from: tuple[str, ...] = ()


def packing_step(landmarks: Sequence[np.ndarray | MappedLandmarks], largest: float) -> float:
    """The step that landmarks are rounded to; 0 where they are kept as float32, as they are.

    One wild value must not coarsen all the others: what int16 cannot hold at `DEFAULT_SCALE` is
    kept as int32, and what that cannot hold as float32. Only landmarks that a packed file held at a
    larger step already keep that step, and so do not change.

    Args:
        landmarks: The clips'.
        largest: Of all their numbers.
    """
    own = float(np.float32(largest / _INT16_MAX))
    if own > DEFAULT_SCALE and all(_are_multiples(np.asarray(clip), own) for clip in landmarks):
        return own
    return DEFAULT_SCALE if largest <= _INT32_MAX * DEFAULT_SCALE else 0.0


def _are_multiples(landmarks: np.ndarray, step: float) -> bool:
    """Whether rounding to multiples of `step` gives the same float32 numbers."""
    whole = np.rint(landmarks / np.float64(step)).astype(np.int64)
    again = np.multiply(whole, np.float32(step), dtype=np.float32, casting="same_kind")
    return np.array_equal(again, landmarks)


def save_packed(packed: Packed, path: Path, *, mapped: bool = False) -> float:
    """Writes a packed file, whole or not at all; an existing one is replaced.

    Args:
        packed: Its columns; the clips are looked at one after the other.
        path: The file.
        mapped: Leave the landmarks uncompressed, so that readers need not load them.

    Returns:
        The step that landmarks were rounded to; 0 where they were not.

    Raises:
        ClipError: The clips differ in K or D, there are none, or the file cannot be written.
    """
    shapes = {clip.shape[1:] for clip in packed.landmarks}
    if len(shapes) != 1:
        found = ", ".join(f"{k} × {d}" for k, d in sorted(shapes)) or "no clips"
        raise ClipError(f"{path}: clips to pack must share one K × D; found {found}")
    largest = 0.0
    for clip in track(packed.landmarks, "measuring"):
        own = float(np.abs(clip).max(initial=0.0))
        if not np.isfinite(own):
            raise ClipError(f"{path}: clips to pack must be finite; found NaN or infinity")
        largest = max(largest, own)
    step = packing_step(packed.landmarks, largest)
    scale = np.float32(step or 1.0)
    whole = np.int16 if round(largest / np.float64(scale)) <= _INT16_MAX else np.int32
    offsets = np.cumsum([0, *(len(clip) for clip in packed.landmarks)], dtype=np.int64)
    signer_names = sorted(set(packed.signers))
    index = {name: at for at, name in enumerate(signer_names)}
    arrays = {
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
    if packed.made_from:
        arrays["made_from"] = np.array(packed.made_from)
    dtype = np.dtype(whole if step else np.float32)
    shape = (int(offsets[-1]), *shapes.pop())
    member = zipfile.ZipInfo("kp_q.npy")
    member.compress_type = zipfile.ZIP_STORED if mapped else zipfile.ZIP_DEFLATED
    member.extra = _ALIGNING if mapped else b""
    with (
        atomic_write(path) as beside,
        zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        with archive.open(member, "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": dtype.str, "fortran_order": False, "shape": shape}
            )
            for clip in track(packed.landmarks, "writing"):
                numbers = np.asarray(clip)
                if step:
                    numbers = np.rint(numbers / np.float64(scale))
                file.write(np.ascontiguousarray(numbers, dtype=dtype).tobytes())
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    return step


def _whole_numbers(values: Sequence[int]) -> np.ndarray:
    """The values as int16, or as int32 where one of them is beyond it."""
    array = np.array(values, dtype=np.int64)
    return array.astype(np.int16 if np.abs(array).max() <= _INT16_MAX else np.int32)


def write_packed(clip_set: ClipSet, path: str | Path, *, mapped: bool = False) -> float:
    """Writes a packed ``.npz``, whole or not at all, in place of an existing one.

    Landmarks are rounded to steps of 1e-4, or kept as float32 where a value is too large for that;
    zeros stay zeros.

    Args:
        clip_set: The recordings.
        path: The file.
        mapped: See `save_packed`.

    Returns:
        The step that landmarks were rounded to; 0 where they were not.

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
        made_from=clip_set.made_from,
    )
    return save_packed(columns, Path(path), mapped=mapped)

"""Reads the packed form of a data set, which `packed` describes.

Legend: N clips, T frames, K keypoints, D coordinates.
"""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from signbart.archives import UNREADABLE, open_npz
from signbart.class_names import check_class_names
from signbart.errors import ClipError
from signbart.landmarks.source import SourceLayout
from signbart.recordings.mapped import MappedFrames, MappedLandmarks, map_stored, scaled
from signbart.recordings.names import UNKNOWN_SIGNER
from signbart.recordings.packed import OPTIONAL, REQUIRED, Packed
from signbart.recordings.recording import Contents, Recording


def load_packed(path: Path) -> Packed:
    """Reads a packed file; landmarks are not checked clip by clip.

    They are float32 views of one array, or stay in the file where it keeps them uncompressed.

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
    check_class_names(class_names, f"{path}: array 'class_names'", ClipError)
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

    bounds = itertools.pairwise(offsets.tolist())
    if isinstance(frames, np.memmap):
        mapped = MappedFrames(path, frames.offset, frames.dtype, frames.shape, scale.reshape(()))
        landmarks = [MappedLandmarks(mapped, a, b) for a, b in bounds]
    else:
        whole = scaled(frames, scale.reshape(()))
        landmarks = [whole[a:b] for a, b in bounds]
    return Packed(
        landmarks=landmarks,
        labels=whole_numbers("label", count, len(class_names)).tolist(),
        signers=signers,
        repetitions=whole_numbers("rep", count).tolist() if "rep" in arrays else (0,) * count,
        class_names=class_names,
        splits=splits,
        landmark_names=names,
        made_from=texts("made_from") if "made_from" in arrays else (),
    )


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise ClipError(f"{path}: not an .npz file, or a truncated one; copy or write it again")
    arrays = {}
    name = ""
    try:
        with open_npz(path, ClipError) as archive:
            missing = [name for name in REQUIRED if name not in archive.files]
            if missing:
                raise ClipError(
                    f"{path}: no array '{missing[0]}'; a packed data set needs "
                    f"{', '.join(REQUIRED)}, found {', '.join(archive.files) or 'none'}"
                )
            for name in (*REQUIRED, *OPTIONAL):
                if name in archive.files:
                    mapped = map_stored(path, name) if name == "kp_q" else None
                    arrays[name] = archive[name] if mapped is None else mapped
    except UNREADABLE as error:
        where = f"array '{name}' cannot be read" if name else "not a readable .npz file"
        raise ClipError(f"{path}: {where}: {error}; copy or write it again") from None
    return arrays


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
    return Contents(
        _recordings(path, columns, layout), columns.class_names, made_from=columns.made_from
    )


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

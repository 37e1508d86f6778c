"""Recordings kept as NumPy's arrays: ``.npy``, and ``.npz`` of one clip or of a whole set.

Legend: N clips, T frames, K landmarks, D numbers a landmark, F numbers a frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from signbart.archives import UNREADABLE, check_promise, open_npz
from signbart.errors import ClipError
from signbart.landmarks.source import SourceLayout
from signbart.landmarks.source_layouts import SOURCE_LAYOUTS
from signbart.recordings.parts import LAYOUT, assemble, check_parts, find_points
from signbart.recordings.recording import Contents, Recording

# Names that people give to landmarks, to what says that they are there, and to who signs what.
POINTS = ("keypoints", "landmarks", "X", "x", "data", "points", "joints", "poses", "pose", "arr_0")
MASKS = ("mask", "keypoint_mask", "confidence", "scores", "keypoint_score")
LABELS = ("label", "class", "y", "labels", "sign", "gloss")
SIGNERS = ("signer", "user", "signers", "participant_id", "signer_id")
_WHOLE = 64  # a scalar field that is longer than this is none


def read_array(path: Path) -> np.ndarray:
    """Reads an ``.npy`` of numbers, as float32.

    Raises:
        ClipError: The file cannot be read, or holds something else.
    """
    try:
        with path.open("rb") as file:
            check_promise(str(path), file, path.stat().st_size, ClipError)
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise ClipError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UNREADABLE as error:
        raise ClipError(f"{path}: not an .npy array of numbers: {str(error)[:120]}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise ClipError(f"{path}: not an .npy array of numbers")
    with np.errstate(over="ignore"):  # infinity is refused with the clip
        return array.astype(np.float32)


def read_npy(path: Path) -> Contents:
    """One clip in an ``.npy``: (T, K, D), or (T, F) for frames as rows."""
    return Contents([Recording(read_array(path), str(path), name=path.stem)])


def read_npz(path: Path) -> Contents:
    """One clip in an ``.npz``, or a whole set (N, T, …) with one label a clip.

    The landmarks are the array named as one of `POINTS`, or MediaPipe's parts, an array each, or
    the only array of two axes or more. An array of `MASKS` says which are there: (T, K), or one
    number a frame. Arrays that need an unpickler are not read.

    Raises:
        ClipError: The file cannot be read, or which array holds the landmarks is not to be seen.
    """
    arrays, unread = _load(path)
    names = find_points(arrays, POINTS, MASKS, str(path), 2)
    if not names:
        fitting = [key for key in arrays if arrays[key].ndim >= 2 and key not in MASKS]
        if len(fitting) != 1:
            others = f" (not read, as it needs an unpickler: {', '.join(unread)})" if unread else ""
            raise ClipError(
                f"{path}: which array holds the landmarks? It has {', '.join(arrays) or 'none'}; "
                f"name it 'keypoints'{others}"
            )
        names = (fitting[0],)
    chosen = {name: arrays[name] for name in names}
    if len(chosen) > 1:
        check_parts(chosen, str(path))
    first = chosen[names[0]]
    mask = next((arrays[key] for key in MASKS if key in arrays), None)
    label = next((arrays[key] for key in LABELS if key in arrays), None)
    signer = next((arrays[key] for key in SIGNERS if key in arrays), None)
    note = _unread(SIGNERS, arrays, unread)
    notes = [f"{path}: {note}"] if note else []
    axes = 4 if len(chosen) > 1 else 3  # those of a set, at least
    if label is not None and label.ndim == 1 and first.ndim >= axes and len(label) == len(first):
        return Contents(_clips(path, chosen, mask, label, signer), notes=notes, total=len(first))
    unsaid = _unread(LABELS, arrays, unread)
    # No clip has so many axes, or numbers a landmark: it is a set without its labels.
    if unsaid and (first.ndim > 3 or (first.ndim == 3 and first.shape[2] > 4)):
        raise ClipError(f"{path}: {unsaid}")
    points, layout = joined(chosen, str(path))
    points, confidence = masked(str(path), points, mask)
    recording = Recording(
        points,
        str(path),
        class_name=_text(label),
        signer=_text(signer),
        confidence=confidence,
        layout=layout,
        size=_size(arrays),
        name=path.stem,
        unsaid=unsaid,
    )
    return Contents([recording], notes=notes)


def _load(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of numbers and texts, and the names of those that need an unpickler."""
    arrays: dict[str, np.ndarray] = {}
    unread: list[str] = []
    try:
        with open_npz(path, ClipError) as archive:
            for name in archive.files:
                try:
                    array = archive[name]
                except ValueError:  # an array of objects
                    unread.append(name)
                    continue
                if not isinstance(array, np.ndarray):
                    unread.append(name)  # bytes: another program's archive, such as a checkpoint
                elif array.dtype.kind in "fiub":
                    arrays[name] = array if array.dtype.kind == "b" else _float32(array)
                elif array.dtype.kind == "U":
                    arrays[name] = array
                elif array.dtype.kind == "S" and name in (*LABELS, *SIGNERS):
                    arrays[name] = _decoded(path, name, array)
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or error
        raise ClipError(f"{path}: not a readable .npz file: {str(reason)[:120]}") from None
    return arrays, unread


def _decoded(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError:
        raise ClipError(
            f"{path}: array '{name}' holds bytes that are no UTF-8; write it as text, as "
            f"np.char.decode({name}, 'latin-1')"
        ) from None


def _unread(names: tuple[str, ...], arrays: Mapping[str, np.ndarray], unread: list[str]) -> str:
    """In words which array would say it, had it been read; empty where another one does."""
    name = next((name for name in names if name in unread), None)
    if name is None or any(other in arrays for other in names):
        return ""
    return (
        f"array '{name}' holds Python objects, which takes an unpickler, and is not read; write it "
        f"as text: {name}.astype(str)"
    )


def _float32(array: np.ndarray) -> np.ndarray:
    if array.ndim < 2:
        return array
    with np.errstate(over="ignore"):  # infinity is refused with the clip
        return array.astype(np.float32)


def _clips(
    path: Path,
    chosen: dict[str, np.ndarray],
    mask: np.ndarray | None,
    labels: np.ndarray,
    signers: np.ndarray | None,
) -> Iterator[Recording | ClipError]:
    whole = mask is not None and len(mask) == len(labels)
    for index, label in enumerate(labels):
        source = f"{path}[{index}]"
        try:
            # Clip by clip: put together, parts take many times their room.
            own, layout = joined({name: array[index] for name, array in chosen.items()}, source)
            own, confidence = masked(source, own, mask[index] if whole else None)
        except ClipError as error:
            yield error
            continue
        yield Recording(
            own,
            source,
            class_name=_text(label),
            signer=None if signers is None else _text(signers[index : index + 1]),
            confidence=confidence,
            layout=layout,
        )


def joined(chosen: Mapping[str, np.ndarray], source: str) -> tuple[np.ndarray, SourceLayout | None]:
    """What `find_points` chose as one array, and what its landmarks are where that is known.

    Raises:
        ClipError: The parts do not fit together.
    """
    if len(chosen) == 1:
        return next(iter(chosen.values())), None
    return assemble(chosen, source), SOURCE_LAYOUTS[LAYOUT]


def masked(
    source: str, points: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The landmarks without padded frames, and a mask as one number a landmark.

    Raises:
        ClipError: The mask does not fit, or marks what is missing instead of what is there.
    """
    if mask is None:
        return points, None
    there = mask.astype(np.float32)
    if there.shape == points.shape and points.ndim == 3:
        there = there.min(axis=-1)
    if there.ndim == 0 or len(there) != len(points) or there.ndim > 2:
        raise ClipError(
            f"{source}: a mask of shape {mask.shape} does not fit keypoints of {points.shape}"
        )
    if there.ndim == 1:  # a number a frame
        found = there > 0
        # Frames are cut off only behind the last one found; a confidence above 0 cuts none.
        padded = (np.diff(found.astype(np.int8)) <= 0).all()
        points = np.where(found.reshape(-1, *(1,) * (points.ndim - 1)), points, np.nan)
        return points[: found.sum() if padded else len(found)], None
    if points[0].size % there.shape[1] == 0:
        found = (points.reshape(*there.shape, -1)[..., :2] != 0).any(axis=-1)
        marked = found[there > 0].mean() if (there > 0).any() else 1.0
        unmarked = found[there <= 0].mean() if (there <= 0).any() else 0.0
        if marked < 0.05 and unmarked > 0.5:
            raise ClipError(
                f"{source}: its mask marks what is missing; write one that is true, or 1, for the "
                "landmarks that are there"
            )
    return points, there


def _size(arrays: dict[str, np.ndarray]) -> tuple[float, float] | None:
    sides = [arrays.get(name) for name in ("width", "height")]
    if any(side is None or side.size != 1 or side.dtype.kind not in "fiu" for side in sides):
        return None
    return float(sides[0].item()), float(sides[1].item())


def _text(value: np.ndarray | None) -> str | None:
    """A field of one text or one number."""
    if value is None or np.size(value) != 1:
        return None
    text = str(np.asarray(value).reshape(-1)[0])
    return text if 0 < len(text) <= _WHOLE else None

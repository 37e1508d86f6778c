"""Recordings in HDF5: groups as folders, ``[split/]<class>/<clip>``, or one clip a file.

A clip is a dataset of numbers, (T, K, D) or (T, F), or a group with a dataset ``keypoints`` (or
another of `POINTS`, or one for each of MediaPipe's parts) and perhaps ``mask``. Attributes
``class`` (or ``label``), ``signer`` (or ``user``), ``repetition``, ``split``, ``width`` and
``height`` are read where they are there.
Links to other files are not followed, and datasets whose numbers are in others not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from signbart.archives import check_unpacked
from signbart.errors import ClipError
from signbart.extras import explain_missing
from signbart.memory import raise_shortage
from signbart.recordings.arrays import MASKS, POINTS, joined, masked
from signbart.recordings.names import split_named
from signbart.recordings.parts import find_points
from signbart.recordings.recording import Contents, Recording

_DEEPEST = 9  # groups in one another
MAGIC = b"\x89HDF\r\n\x1a\n"


def read_hdf5(path: Path) -> Contents:
    """The clips of an HDF5 file, in the order of their names.

    Raises:
        ClipError: The file cannot be read, or holds none.
    """
    try:
        import h5py
    except ImportError:
        raise ClipError(f"{path}: {explain_missing('h5py')}") from None
    found: list[Recording | ClipError] = []
    try:
        with h5py.File(path, "r") as file:
            groups = [*_groups(path, file)]
            # What was never written is 0, and takes no room in the file.
            sizes = (data.nbytes for _, _, sets in groups for data in sets.values())
            check_unpacked(path, sum(map(int, sizes)), ClipError)
            for place, group, sets in groups:
                found += _clips(path, place, group, sets)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise_shortage(path, error)
        raise ClipError(f"{path}: not a readable HDF5 file: {str(error)[:120]}") from None
    if not found:
        raise ClipError(f"{path}: holds no dataset of landmarks (T, K, 2 or 3)")
    return Contents(found, total=len(found))


def _groups(path: Path, file: Any) -> Iterator[tuple[tuple[str, ...], Any, dict[str, Any]]]:
    """Every group down to `_DEEPEST`, with its place and its datasets of numbers by name.

    Raises:
        ClipError: A group stands in two places, or in itself: there is no end of such places.
    """
    import h5py

    seen = {_identity(file)}
    left: list[tuple[tuple[str, ...], Any]] = [((), file)]
    while left:
        place, group = left.pop()
        inner, sets = [], {}
        for name in sorted(group):
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue  # a soft or external link
            entry = group[name]
            if isinstance(entry, h5py.Group):
                if _identity(entry) in seen:
                    raise ClipError(
                        f"{path}:/{'/'.join((*place, name))} stands elsewhere in the file, too; "
                        "write it once"
                    )
                seen.add(_identity(entry))
                inner.append(((*place, name), entry))
            elif isinstance(entry, h5py.Dataset) and _is_array(entry):
                sets[name] = entry
        left += reversed(inner) if len(place) < _DEEPEST else ()
        yield place, group, sets


def _identity(node: Any) -> Any:
    """What only an object itself has, whichever way leads to it."""
    import h5py

    return h5py.h5o.get_info(node.id).addr


def _is_array(data: Any) -> bool:
    """Whether it holds numbers; those in other files are nobody's business."""
    elsewhere = bool(data.external) or data.is_virtual
    return data.dtype.kind in "fiub" and bool(data.shape) and not elsewhere


def _clips(
    path: Path, place: tuple[str, ...], group: Any, sets: Mapping[str, Any]
) -> Iterator[Recording | ClipError]:
    try:
        names = find_points(sets, POINTS, MASKS, _source(path, place), 1)
    except ClipError as error:
        yield error
        return
    if names:
        mask = next((sets[name] for name in MASKS if name in sets), None)
        chosen = {name: sets[name] for name in names}
        yield _clip(path, chosen, mask, place, dict(group.attrs))
        return
    for name, entry in sets.items():
        if entry.ndim in (2, 3):
            yield _clip(path, {name: entry}, None, (*place, name), {})


def _source(path: Path, place: tuple[str, ...]) -> str:
    return f"{path}:/{'/'.join(place)}" if place else str(path)


def _clip(
    path: Path,
    chosen: Mapping[str, Any],
    mask: Any,
    place: tuple[str, ...],
    attributes: dict[str, Any],
) -> Recording | ClipError:
    source = _source(path, place)
    for points in chosen.values():
        attributes = {**attributes, **points.attrs}
    with np.errstate(over="ignore"):  # infinity is refused with the clip
        arrays = {name: points[()].astype(np.float32) for name, points in chosen.items()}
    try:
        values, layout = joined(arrays, source)
        values, confidence = masked(source, values, None if mask is None else mask[()])
    except ClipError as error:
        return error
    folders = place[:-1]
    split = split_named(folders[-2]) if len(folders) > 1 else None
    width, height = (attributes.get(side) for side in ("width", "height"))
    return Recording(
        values,
        source,
        class_name=_text(attributes, "class", "label") or (folders[-1] if folders else None),
        signer=_text(attributes, "signer", "user"),
        repetition=_whole(attributes.get("repetition")),
        split=_text(attributes, "split") or split,
        confidence=confidence,
        layout=layout,
        size=None if width is None or height is None else (float(width), float(height)),
        name=place[-1] if place else path.stem,
    )


def _text(attributes: dict[str, Any], *names: str) -> str | None:
    for name in names:
        value = attributes.get(name)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if value is not None and np.size(value) == 1:
            return str(np.asarray(value).reshape(-1)[0])
    return None


def _whole(value: Any) -> int | None:
    return int(value) if value is not None and np.asarray(value).dtype.kind in "iu" else None

"""Recordings in tables, CSV or Parquet: a file a clip, or one for many.

Long: a row a landmark, with the columns ``frame``, ``type``, ``landmark_index``, ``x``, ``y`` and
perhaps ``z``, as Google's isolated-sign competition has it. Wide: a row a frame, with columns
``x_pose_0`` or ``pose_0_x`` or ``left_wrist_x``, or columns that only count: ``0``, ``1``, ….
Further columns may say which clip a row is of, what it shows and who signs.

Legend: T frames, K landmarks, D coordinates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from signbart.archives import check_unpacked
from signbart.errors import ClipError
from signbart.extras import explain_missing
from signbart.landmarks.source import SourceLayout
from signbart.landmarks.source_layouts import SOURCE_LAYOUTS
from signbart.memory import raise_shortage
from signbart.recordings.names import whole_number
from signbart.recordings.recording import Contents, Recording

PARQUET = b"PAR1"
CLIPS = ("sequence_id", "clip", "clip_id", "video_id", "video", "file", "filename", "path")
CLASSES = ("sign", "class", "label", "gloss", "class_name", "word")
SIGNERS = ("participant_id", "signer", "signer_id", "user", "subject")
_ABOUT = ("repetition", "rep", "split", "frame", "row_id", "width", "height", "timestamp", "time")
LONG = ("frame", "type", "landmark_index", "x", "y")

# Where the parts of MediaPipe Holistic stand in layout holistic543, and how many there are.
_TYPES = {"pose": (0, 33), "left_hand": (33, 21), "right_hand": (54, 21), "face": (75, 468)}
_IRISES = range(468, 478)
_NAMED = (
    re.compile(r"(?P<axis>[xyz])_(?P<name>.+)"),
    re.compile(r"(?P<name>.+)[_.](?P<axis>[xyz])"),
)
_COUNTED = re.compile(r"(?:[A-Za-z]+_?)?\d+")


def read_table(path: Path) -> Contents:
    """The clips of a table.

    Raises:
        ClipError: The file cannot be read, pyarrow is missing, or the columns are of no known form.
    """
    columns = _load(path)
    rows = len(next(iter(columns.values()))) if columns else 0
    if not rows:
        raise ClipError(f"{path}: the table has no rows")
    if all(name in columns for name in LONG):
        return Contents(_clips(path, columns, rows, _long))
    return Contents(_clips(path, columns, rows, _wide(path, columns)))


def _load(path: Path) -> dict[str, np.ndarray]:
    """The columns by name."""
    try:
        import pyarrow
        from pyarrow import csv, parquet
    except ImportError:
        raise ClipError(f"{path}: {explain_missing('pyarrow')}") from None
    try:
        with path.open("rb") as file:
            parquets = file.read(4) == PARQUET
        if parquets:
            about = parquet.read_metadata(path)
            # A column of one value takes no room in the file, and 8 bytes a row here.
            check_unpacked(path, 8 * about.num_rows * about.num_columns, ClipError)
        table = parquet.read_table(path) if parquets else csv.read_csv(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise_shortage(path, error)
        reason = getattr(error, "strerror", None) or error
        raise ClipError(f"{path}: not a readable table: {str(reason)[:120]}") from None
    return {
        name.strip(): column.to_numpy(zero_copy_only=False)
        for name, column in zip(table.column_names, table.columns, strict=True)
    }


def _clips(
    path: Path, columns: Mapping[str, np.ndarray], rows: int, to_points: Any
) -> Iterator[Recording | ClipError]:
    """Cuts the table where the column that names the clip changes, in the order of appearance."""
    key = next((name for name in CLIPS if name in columns), None)
    if key is None:
        groups: dict[Any, np.ndarray] = {None: np.arange(rows)}
    else:
        names, inverse = np.unique(columns[key].astype(str), return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(inverse))[:-1])
        groups = dict(sorted(zip(names, parts, strict=True), key=lambda item: item[1][0]))
    for name, chosen in groups.items():
        source = str(path) if name is None else f"{path}[{name}]"
        own = {column: values[chosen] for column, values in columns.items()}
        try:
            points, layout = to_points(source, own)
            yield Recording(
                points,
                source,
                class_name=_one(source, own, CLASSES),
                signer=_one(source, own, SIGNERS),
                repetition=whole_number(_one(source, own, ("repetition", "rep")) or ""),
                split=_one(source, own, ("split",)),
                layout=layout,
                size=_size(source, own),
                name=path.stem if name is None else str(name),
            )
        except ClipError as error:
            yield error


def _long(source: str, columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, SourceLayout]:
    """A row a landmark -> (T, 543, D) in the order of holistic543; absent rows are NaN."""
    frames, frame = np.unique(columns["frame"], return_inverse=True)
    index = columns["landmark_index"].astype(np.int64)
    place = np.full(len(frame), -1)
    for kind, (start, count) in _TYPES.items():
        own = columns["type"] == kind
        beyond = own & ((index < 0) | (index >= count))
        if beyond.any() and not (kind == "face" and np.isin(index[beyond], _IRISES).all()):
            raise ClipError(f"{source}: '{kind}' has no landmark {index[beyond][0]}")
        place[own & ~beyond] = start + index[own & ~beyond]
    unknown = set(columns["type"]) - set(_TYPES)
    if unknown:
        raise ClipError(
            f"{source}: column 'type' holds {str(sorted(map(str, unknown))[0])[:40]!r}, expected "
            f"{', '.join(_TYPES)}"
        )
    axes = [axis for axis in "xyz" if axis in columns]
    points = np.full((len(frames), 543, len(axes)), np.nan, np.float32)
    there = place >= 0
    for at, axis in enumerate(axes):
        points[frame[there], place[there], at] = _numbers(source, axis, columns[axis])[there]
    return points, SOURCE_LAYOUTS["holistic543"]


def _wide(path: Path, columns: Mapping[str, np.ndarray]) -> Any:
    """How a row a frame becomes landmarks: a function of a clip's columns."""
    about = {*CLIPS, *CLASSES, *SIGNERS, *_ABOUT}
    data = [name for name in columns if name not in about]
    named: dict[str, dict[str, str]] = {}
    for column in data:
        match = next((m for p in _NAMED if (m := p.fullmatch(column))), None)
        if match:
            named.setdefault(match["name"], {})[match["axis"]] = column
    whole = {name: axes for name, axes in named.items() if {"x", "y"} <= set(axes)}
    if whole:
        depth = all("z" in axes for axes in whole.values())
        letters = "xyz" if depth else "xy"
        layout = SourceLayout(
            path.name,
            "as its columns are named",
            tuple(_landmark(name) for name in whole),
            channels={len(letters): letters},
        )
        chosen = [axes[letter] for axes in whole.values() for letter in letters]

        def points(source: str, own: Mapping[str, np.ndarray]) -> tuple[np.ndarray, SourceLayout]:
            rows = _rows(source, own, chosen)
            return rows.reshape(len(rows), len(whole), len(letters)), layout

        return points
    counted = [name for name in data if _COUNTED.fullmatch(name)]
    if not counted:
        raise ClipError(
            f"{path}: its columns {', '.join(list(columns)[:8])} … are of no known form; a row a "
            f"landmark has {', '.join(LONG)}, a row a frame x_pose_0 or left_wrist_x"
        )
    return lambda source, own: (_rows(source, own, counted), None)


def _landmark(name: str) -> str:
    """``pose_0`` and its like by the landmark's own name; other names stay."""
    kind, _, number = name.rpartition("_")
    at = whole_number(number)
    if kind in _TYPES and at is not None and at < _TYPES[kind][1]:
        return SOURCE_LAYOUTS["holistic543"].names[_TYPES[kind][0] + at] or name
    return name


def _rows(source: str, columns: Mapping[str, np.ndarray], names: list[str]) -> np.ndarray:
    """(T, F) of the columns `names`, in the order of ``frame`` where the table has it."""
    rows = np.stack([_numbers(source, name, columns[name]) for name in names], axis=1)
    return rows[np.argsort(columns["frame"], kind="stable")] if "frame" in columns else rows


def _numbers(source: str, name: str, column: np.ndarray) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):  # infinity is refused with the clip
            return column.astype(np.float32)
    except (ValueError, TypeError):
        raise ClipError(f"{source}: column '{name}' holds something that is no number") from None


def _one(source: str, columns: Mapping[str, np.ndarray], names: tuple[str, ...]) -> str | None:
    """What a column says of the whole clip."""
    name = next((name for name in names if name in columns), None)
    if name is None:
        return None
    values = set(columns[name].astype(str))
    if len(values) > 1:
        raise ClipError(
            f"{source}: column '{name}' differs within the clip ({', '.join(sorted(values)[:3])}); "
            f"a column that names the clip is one of {', '.join(CLIPS)}"
        )
    return values.pop()


def _size(source: str, columns: Mapping[str, np.ndarray]) -> tuple[float, float] | None:
    sides = [_one(source, columns, (side,)) for side in ("width", "height")]
    return None if None in sides else (float(sides[0]), float(sides[1]))

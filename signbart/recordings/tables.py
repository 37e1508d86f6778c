"""Recordings in tables, CSV or Parquet: a file a clip, or one for many.

Long: a row a landmark, with the columns ``frame``, ``type``, ``landmark_index``, ``x``, ``y`` and
perhaps ``z``, as Google's isolated-sign competition has it. Wide: a row a frame, with columns
``x_pose_0`` or ``pose_0_x`` or ``left_wrist_x``, or columns that only count: ``0``, ``1``, ….
Further columns may say which clip a row is of, what it shows and who signs.

Legend: T frames, K landmarks, D coordinates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from signbart.errors import ClipError
from signbart.landmarks.source import SourceLayout
from signbart.landmarks.source_layouts import SOURCE_LAYOUTS
from signbart.recordings.names import whole_number
from signbart.recordings.recording import Contents, Recording
from signbart.recordings.table_files import Column, open_table
from signbart.recordings.table_parts import CLIPS, Part, first_of

CLASSES = ("sign", "class", "label", "gloss", "class_name", "word")
SIGNERS = ("participant_id", "signer", "signer_id", "user", "subject")
_ABOUT = ("repetition", "rep", "split", "frame", "row_id", "width", "height", "timestamp", "time")
LONG = ("frame", "type", "landmark_index", "x", "y")
_REPETITIONS = ("repetition", "rep")
# Of each of these the first that a table has says something of a whole clip.
_OF_CLIPS = (CLIPS, CLASSES, SIGNERS, _REPETITIONS, ("split",), ("width",), ("height",))

# Where the parts of MediaPipe Holistic stand in layout holistic543, and how many there are.
_TYPES = {"pose": (0, 33), "left_hand": (33, 21), "right_hand": (54, 21), "face": (75, 468)}
_IRISES = range(468, 478)
_NAMED = (
    re.compile(r"(?P<axis>[xyz])_(?P<name>.+)"),
    re.compile(r"(?P<name>.+)[_.](?P<axis>[xyz])"),
)
_COUNTED = re.compile(r"(?:[A-Za-z]+_?)?\d+")

_ToPoints = Callable[[Part], tuple[np.ndarray, SourceLayout | None]]


def read_table(path: Path) -> Contents:
    """The clips of a table.

    Raises:
        ClipError: The file cannot be read, pyarrow is missing, or the columns are of no known form.
    """
    table = open_table(path)
    names = table.names
    if all(name in names for name in LONG):
        to_points, data = _long, [*LONG, *(["z"] if "z" in names else [])]
    else:
        to_points, data = _wide(path, names)
    about = [name for group in (*_OF_CLIPS, ("frame",)) if (name := first_of(names, group))]
    columns = table.read({*data, *about}, {*about, "type"})
    rows = len(next(iter(columns.values())))
    if not rows:
        raise ClipError(f"{path}: the table has no rows")
    return Contents(_clips(path, columns, rows, to_points))


def _clips(
    path: Path, columns: Mapping[str, Column], rows: int, to_points: _ToPoints
) -> Iterator[Recording | ClipError]:
    """Cuts the table where the column that names the clip changes, in the order of appearance."""
    whole = Part(str(path), columns, np.arange(rows))
    key = first_of(columns, CLIPS)
    names = None if key is None else columns[key]
    if names is None or not names.values:
        key, groups = None, [(None, whole.rows)]
    else:
        codes, inverse = np.unique(names.codes, return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(inverse))[:-1])
        found = sorted(zip(codes, parts, strict=True), key=lambda group: group[1][0])
        groups = [(names.values[code] if code >= 0 else "", chosen) for code, chosen in found]
    for name, chosen in groups:
        if name == "":
            what = f"is empty (in {len(chosen)} rows); say there which clip each of them is of"
            yield whole.fault(chosen[0], key, what)
            continue
        source = str(path) if name is None else f"{path}[{name}]"
        own = {column: values[chosen] for column, values in columns.items()}
        try:
            yield _recording(Part(source, own, chosen, key), to_points, name or path.stem)
        except ClipError as error:
            yield error


def _recording(part: Part, to_points: _ToPoints, name: str) -> Recording:
    points, layout = to_points(part)
    return Recording(
        points,
        part.source,
        class_name=part.only(CLASSES),
        signer=part.only(SIGNERS),
        repetition=whole_number(part.only(_REPETITIONS) or ""),
        split=part.only(("split",)),
        layout=layout,
        size=_size(part),
        name=name,
    )


def _long(part: Part) -> tuple[np.ndarray, SourceLayout]:
    """A row a landmark -> (T, 543, D) in the order of holistic543; absent rows are NaN."""
    frame = part.frames()
    types, index = part.texts("type"), part.integers("landmark_index")
    place = np.full(len(frame), -1)
    for code in np.unique(types.codes):
        kind, own = types.values[code], types.codes == code
        if kind not in _TYPES:
            raise part.fault(
                int(np.argmax(own)), "type", f"holds {kind[:40]!r}, expected {', '.join(_TYPES)}"
            )
        start, count = _TYPES[kind]
        beyond = own & ((index < 0) | (index >= count))
        if beyond.any() and not (kind == "face" and np.isin(index[beyond], _IRISES).all()):
            at = int(np.argmax(beyond))
            raise ClipError(
                f"{part.source}, row {part.row(at)}: '{kind}' has no landmark {index[at]}; it has "
                f"0 to {count - 1}"
            )
        place[own & ~beyond] = start + index[own & ~beyond]
    # Irises have no place, and each row of theirs one of its own.
    cells = np.where(place < 0, -1 - np.arange(len(place)), frame * 543 + place)
    part.check_once(cells, lambda at: f"has '{types.values[types.codes[at]]}' {index[at]}")
    axes = [axis for axis in "xyz" if axis in part.columns]
    points = np.full((frame.max() + 1, 543, len(axes)), np.nan, np.float32)
    there = place >= 0
    for at, axis in enumerate(axes):
        points[frame[there], place[there], at] = part.numbers(axis)[there]
    return points, SOURCE_LAYOUTS["holistic543"]


def _wide(path: Path, names: Sequence[str]) -> tuple[_ToPoints, list[str]]:
    """How a row a frame becomes landmarks, and the columns that this takes."""
    about = {*CLIPS, *CLASSES, *SIGNERS, *_ABOUT}
    data = [name for name in names if name not in about]
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

        def points(part: Part) -> tuple[np.ndarray, SourceLayout]:
            rows = _rows(part, chosen)
            return rows.reshape(len(rows), len(whole), len(letters)), layout

        return points, chosen
    counted = [name for name in data if _COUNTED.fullmatch(name)]
    if not counted:
        raise ClipError(
            f"{path}: its columns {', '.join(names[:8])} … are of no known form; a row a "
            f"landmark has {', '.join(LONG)}, a row a frame x_pose_0 or left_wrist_x"
        )
    return lambda part: (_rows(part, counted), None), counted


def _landmark(name: str) -> str:
    """``pose_0`` and its like by the landmark's own name; other names stay."""
    kind, _, number = name.rpartition("_")
    at = whole_number(number)
    if kind in _TYPES and at is not None and at < _TYPES[kind][1]:
        return SOURCE_LAYOUTS["holistic543"].names[_TYPES[kind][0] + at] or name
    return name


def _rows(part: Part, names: Sequence[str]) -> np.ndarray:
    """(T, F) of the columns `names`, in the order of ``frame`` where the table has it."""
    rows = np.stack([part.numbers(name) for name in names], axis=1)
    if "frame" not in part.columns:
        return rows
    frames = part.frames()
    part.check_once(frames, lambda at: "stands")
    return rows[np.argsort(frames)]


def _size(part: Part) -> tuple[float, float] | None:
    sides = [_side(part, name) for name in ("width", "height")]
    return None if None in sides else (sides[0], sides[1])


def _side(part: Part, name: str) -> float | None:
    text = part.only((name,))
    try:
        side = None if text is None else float(text)
    except ValueError:
        side = 0.0
    if side is not None and not 0 < side < float("inf"):
        raise ClipError(
            f"{part.source}: column '{name}' holds {text[:40]!r}, expected the picture's {name} in "
            "pixels"
        )
    return side

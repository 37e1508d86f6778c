"""What a reader hands over: a recording as its file has it, and what was found around it.

Legend: T frames, K landmarks, D numbers a landmark, F numbers a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from signbart.errors import ClipError, SignBartError
from signbart.landmarks.layouts import LAYOUTS
from signbart.landmarks.source import LARGEST_USUAL, SourceLayout
from signbart.landmarks.source_layouts import guess_source_layout
from signbart.memory import raise_shortage


@dataclass(frozen=True)
class Recording:
    """One recording as its file has it.

    Attributes:
        points: (T, K, D), or (T, F) for frames as rows; NaN, or (0, 0), for what is missing.
        source: Where it came from, for messages.
        class_name: The sign; None where the file does not say.
        signer: Who signs; None where the file does not say.
        repetition: Which repetition; None where the file does not say.
        split: One of train, val, test and all, as written; None where the file does not say.
        confidence: (T, K), where the file keeps it apart.
        layout: What the landmarks are, where the file says so.
        size: Width and height of the picture, where the file says so.
        name: What the recording is called, which may say who signs.
        as_is: Whether the form is the project's own, whose clips are finite already and in the
            units that they shall have.
        unsaid: Why the file does not say the sign, where that is known; for messages.
    """

    points: np.ndarray
    source: str
    class_name: str | None = None
    signer: str | None = None
    repetition: int | None = None
    split: str | None = None
    confidence: np.ndarray | None = None
    layout: SourceLayout | None = None
    size: tuple[float, float] | None = None
    name: str = ""
    as_is: bool = False
    unsaid: str = ""


@dataclass(frozen=True)
class Contents:
    """What a reader found.

    Attributes:
        recordings: One after the other; what cannot be read comes as its error.
        class_names: The classes in the order of their labels, where something says so.
        notes: What was there and not read, and what was supposed, one line each.
        total: How many recordings there will be, where that is known before.
        made_from: See `clip.ClipSet`.
    """

    recordings: Iterable[Recording | ClipError]
    class_names: Sequence[str] | None = None
    notes: list[str] = field(default_factory=list)
    total: int | None = None
    made_from: Sequence[str] = ()


@contextmanager
def faults_of(path: Path) -> Iterator[None]:
    """Turns whatever a file makes its reader raise into an error that names the file.

    Readers name the faults that people make. What damage does to seven libraries' decoders, and to
    numbers that nobody would write, has no end.

    Raises:
        ClipError: The file cannot be read.
        MemoryShortageError: There is too little; that says nothing of the file.
    """
    try:
        yield
    except (SignBartError, ModuleNotFoundError):
        raise
    except OSError as error:
        raise_shortage(path, error)
        raise ClipError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:
        raise_shortage(path, error)
        reason = f"{type(error).__name__}: {error}"[:120]
        raise ClipError(
            f"{path}: damaged, or holds what no recording does ({reason}); write it again"
        ) from error


@dataclass(frozen=True)
class Changes:
    """What is put right about every recording, as the user says; in this order.

    Attributes:
        centred: Coordinates run from minus this to this about the middle of the picture; None:
            they are shares of it.
        flip_y: y points up (in metres: down); from the picture's lower edge, or from its upper one
            where all of it is below 0.
        mirror: x points to the left.
        swap_hands: The left hand's landmarks stand where the right one's should, and the other way.
    """

    centred: float | None = None
    flip_y: bool = False
    mirror: bool = False
    swap_hands: bool = False


@dataclass(frozen=True)
class Reading:
    """How recordings are understood, as the user says.

    Attributes:
        layout: What the landmarks are; None: what the file says, or their number.
        size: Width and height of the pictures; None: what the file says.
        changes: What is put right.
    """

    layout: SourceLayout | None = None
    size: tuple[float, float] | None = None
    changes: Changes = Changes()


def to_landmarks(
    recording: Recording, reading: Reading
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """A recording's landmarks as clips hold them.

    Returns:
        The landmarks, and their names: None where their number says which model layout they are,
        and where nothing is known about them.

    Raises:
        ClipError: The landmarks do not fit the layout that was named.
    """
    points, layout = recording.points, reading.layout or recording.layout
    usual = points.ndim == 3 and points.shape[2] in (2, 3)
    if layout is None and recording.as_is and usual and reading == Reading():
        return points, None
    try:
        each = 0
        if layout is None:
            layout, each = guess_source_layout(points.shape)
        elif points.ndim == 2:
            each = _numbers_each(points, layout)
        if layout is None:
            landmarks, names = _to_unnamed(recording), None
        else:
            points = layout.unflatten(points, each) if points.ndim == 2 else points
            size = reading.size or recording.size
            landmarks = layout.to_landmarks(points, recording.confidence, size)
            names = layout.selection[1]
    except ClipError as error:
        raise ClipError(f"{recording.source}: {error}") from None
    if reading.changes != Changes():
        landmarks = _change(landmarks, names, reading.changes, recording.source)
    if reading.layout is None and names in _MODEL_NAMES:
        names = None
    return landmarks, names


def _change(
    landmarks: np.ndarray, names: tuple[str, ...] | None, changes: Changes, source: str
) -> np.ndarray:
    """Applies `changes`; what is missing stays so."""
    if names is None:
        raise ClipError(
            f"{source}: nothing says what its landmarks are; pass --source-layout with --centred, "
            "--flip-y, --mirror and --swap-hands"
        )
    metres = "Neck" in names and landmarks.shape[2] == 3
    there = (landmarks[..., :2] != 0).any(axis=-1, keepdims=True)
    found = np.abs(landmarks[..., :2][there[..., 0]])
    if not metres and found.size and np.median(found) > LARGEST_USUAL:
        raise ClipError(f"{source}: its landmarks are in pixels; pass --image-size WIDTHxHEIGHT")
    landmarks = landmarks.copy()
    edge = np.float32(0 if metres else 1)
    if changes.centred is not None and not metres:
        span = np.float32(changes.centred)
        landmarks[..., :2] = (landmarks[..., :2] + span) / (2 * span)
    if changes.flip_y:
        # Turned over about the picture's upper edge, all of it is below 0.
        over = edge if (landmarks[..., 1][there[..., 0]] > _ABOVE).any() else np.float32(0)
        landmarks[..., 1] = over - landmarks[..., 1]
    if changes.mirror:
        landmarks[..., 0] = edge - landmarks[..., 0]
    if changes.centred is not None:
        # Where the middle was subtracted from missing points as well, they are at a corner.
        corner = np.array([edge * changes.mirror, edge * changes.flip_y], np.float32)
        there &= (np.abs(landmarks[..., :2] - corner) > 1e-6).any(axis=-1, keepdims=True)
    if changes.swap_hands:
        sides = {"left_hand_": "right_hand_", "right_hand_": "left_hand_"}
        index = {name: at for at, name in enumerate(names)}
        order = list(range(len(names)))
        for name, at in index.items():
            prefix = next((prefix for prefix in sides if name.startswith(prefix)), None)
            if prefix:
                order[at] = index.get(sides[prefix] + name.removeprefix(prefix), at)
        landmarks, there = landmarks[:, order], there[:, order]
    return np.where(there, landmarks, np.float32(0))


# Of the picture's height; sound points may leave it by so much.
_ABOVE = 0.1
_MODEL_NAMES = frozenset(layout.names for layout in LAYOUTS.values())


def _numbers_each(points: np.ndarray, layout: SourceLayout) -> int:
    widths = layout.widths()
    if points.shape[1] not in widths:
        raise ClipError(
            f"{points.shape[1]} numbers a frame, but source layout '{layout.name}' has "
            f"{' or '.join(map(str, sorted(widths)))}; name another with --source-layout"
        )
    return widths[points.shape[1]]


def _to_unnamed(recording: Recording) -> np.ndarray:
    """Landmarks that nothing names: missing ones are 0; whatever the shape, it is checked later."""
    with np.errstate(over="ignore"):  # infinity is refused with the clip
        landmarks = np.array(recording.points, dtype=np.float32, order="C")
    if recording.as_is or landmarks.ndim != 3 or landmarks.shape[2] not in (2, 3):
        return landmarks
    missing = np.isnan(landmarks[..., :2]).any(axis=-1)
    if recording.confidence is not None and recording.confidence.shape == missing.shape:
        missing |= ~(recording.confidence > 0)
    landmarks[missing] = 0
    landmarks[np.isnan(landmarks)] = 0
    return landmarks

"""Reads recordings, whatever form they are kept in: a whole data set, or one clip.

The forms of files stand in `forms`; which clips a path holds, `data_set` finds out.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from signbart.class_names import check_class_names, looks
from signbart.errors import ClipError, ConfigError
from signbart.landmarks.layouts import Layout
from signbart.landmarks.source_layouts import get_source_layout
from signbart.recordings.clip import Clip, ClipSet, find_fault, landmarks_in
from signbart.recordings.data_set import DATA_SET_FORMS, open_data_set
from signbart.recordings.folders import list_folder, naturally
from signbart.recordings.forms import FORMS, form_of, read_file
from signbart.recordings.labels import label_index
from signbart.recordings.names import (
    DEFAULT_PATTERNS,
    SPLITS,
    UNKNOWN_SIGNER,
    SignerPattern,
    get_signer_pattern,
    read_name,
    split_named,
)
from signbart.recordings.recording import Changes, Contents, Reading, Recording, to_landmarks
from signbart.recordings.tree import frame_files, read_frames
from signbart.waiting import track

CLIP_FORMS = (
    "a .pkl with 'keypoints', an .npy of (T, K, 2 or 3), one clip of a file with several, "
    "x.npz[12], or another form of docs/data.md"
)
NO_CHANGES = Changes()
CLIP_OF_SET = re.compile(r"(.+)\[(\d+)\]")  # as messages name the clips of a set
# What clips of one set have in common: landmarks, coordinates, and the landmarks' names.
Kind = tuple[tuple[int, ...], tuple[str, ...] | None]
_SIZE = re.compile(r"(\d{1,5})[x×](\d{1,5})")


def read_single_clip(
    source: str,
    *,
    source_layout: str | None = None,
    image_size: str | None = None,
    changes: Changes = NO_CHANGES,
) -> ClipSet:
    """Reads one recording.

    Args:
        source: A file of any form that holds one clip, a folder with a file a frame, or
            ``x.npz[12]``, as messages name the clips of a file with several.
        source_layout: See `read_clips`.
        image_size: See `read_clips`.
        changes: See `read_clips`.

    Returns:
        A set of that one clip; its class means nothing.

    Raises:
        ClipError: There is no such recording, it is damaged, or no sign can be read from it.
    """
    reading = {"source_layout": source_layout, "image_size": image_size, "changes": changes}
    return next(read_single_clips([source], **reading))


def read_single_clips(
    sources: Iterable[str],
    *,
    source_layout: str | None = None,
    image_size: str | None = None,
    changes: Changes = NO_CHANGES,
) -> Iterator[ClipSet]:
    """Reads recordings one after the other, as `read_single_clip` does.

    A file of which several clips are named one behind the other is read once.
    """
    reading = _reading(source_layout, image_size, changes)
    path, found = None, []
    for source in sources:
        inner = None if Path(source).exists() else CLIP_OF_SET.fullmatch(source)
        if (wanted := Path(inner[1] if inner else source)) != path:
            path, found = wanted, _recordings_of(wanted, source)
        index = int(inner[2]) if inner else 0
        if index >= len(found):
            raise ClipError(f"{source}: {path} has clips 0 to {len(found) - 1}")
        if len(found) > 1 and not inner:
            raise ClipError(f"{source}: holds {len(found)} clips; name one, as {path}[0]")
        if isinstance(found[index], ClipError):
            raise found[index]
        clip, names = _to_clip(found[index], reading, ())
        fault = find_fault(clip)
        if fault:
            raise ClipError(fault)
        yield ClipSet((clip,), ("",), landmark_names=names)


def _recordings_of(path: Path, source: str) -> list[Recording | ClipError]:
    """All of a file, or the one of a folder with a file a frame; `source` is for messages."""
    known = any(path.suffix.lower() in form.suffixes for form in FORMS)
    if not path.exists() and not known:
        raise ClipError(f"{source}: no such file; expected {CLIP_FORMS}")
    if path.is_dir():
        frames = frame_files(list_folder(path))
        if not frames:
            raise ClipError(f"{source}: a folder that is no clip; expected {CLIP_FORMS}")
        return [read_frames(path, frames)]
    if form_of(path) is None:
        raise ClipError(f"{source}: of no form that is read; expected {CLIP_FORMS}")
    return list(read_file(path).recordings)


def read_clips(
    path: str | Path,
    *,
    split: str = "all",
    skip_bad: bool = False,
    source_layout: str | None = None,
    signer_pattern: str | None = None,
    image_size: str | None = None,
    changes: Changes = NO_CHANGES,
    only: Layout | None = None,
) -> ClipSet:
    """Reads a data set in any form.

    Args:
        path: A file or folder; docs/data.md lists the forms.
        split: One of train, val, test, all. A packed file has other splits than ``all`` only where
            it carries the array ``split``.
        skip_bad: Leaves bad clips out and says why in `ClipSet.skipped`, instead of raising.
        source_layout: What the landmarks are: a name of
            `signbart.landmarks.source_layouts.SOURCE_LAYOUTS`, or a YAML file. By default what the
            recordings say, or what their number says.
        signer_pattern: How names of files tell the signer: a name of
            `signbart.recordings.names.SIGNER_PATTERNS`, or a regular expression with a group
            ``signer``. By default all of those.
        image_size: ``640x480``, width and height of the pictures, for landmarks in pixels.
        changes: What is to be put right about every recording.
        only: Of each clip only this layout's landmarks are kept, as `ClipSet.to_layout` finds them.

    Raises:
        ClipError: Nothing readable is there, a file is malformed, a clip is bad, or none is left.
        ConfigError: An option is malformed.
    """
    path = Path(path)
    where = f"{path}" if split == "all" else f"{path}, split '{split}'"
    if split not in SPLITS:
        raise ClipError(f"unknown split '{split}'; known: {', '.join(SPLITS)}")
    reading = _reading(source_layout, image_size, changes)
    patterns = DEFAULT_PATTERNS if signer_pattern is None else (get_signer_pattern(signer_pattern),)
    if not path.exists():
        raise ClipError(f"{path}: no such file or folder; expected {DATA_SET_FORMS}")
    contents = open_data_set(path, split)
    return _to_set(contents, reading, patterns, split, where, skip_bad, only)


def _reading(source_layout: str | None, image_size: str | None, changes: Changes) -> Reading:
    size = None
    if image_size is not None:
        match = _SIZE.fullmatch(image_size)
        if match is None or not int(match[1]) or not int(match[2]):
            raise ConfigError(f"--image-size {image_size}: expected WIDTHxHEIGHT, as in 640x480")
        size = (float(match[1]), float(match[2]))
    if changes.centred is not None and not 0 < changes.centred < float("inf"):
        raise ConfigError(f"--centred {changes.centred:g}: it must be above 0, as in 1 or 0.5")
    layout = None if source_layout is None else get_source_layout(source_layout)
    return Reading(layout, size, changes)


def _to_clip(
    recording: Recording,
    reading: Reading,
    patterns: Sequence[SignerPattern],
) -> tuple[Clip, tuple[str, ...] | None]:
    """A recording as a clip, and its landmarks' names where their number does not say them."""
    landmarks, names = to_landmarks(recording, reading)
    signer, repetition = read_name(recording.name, patterns) if recording.name else (None, 0)
    clip = Clip(
        landmarks=landmarks,
        label=0,
        signer=recording.signer or signer or UNKNOWN_SIGNER,
        repetition=repetition if recording.repetition is None else recording.repetition,
        source=recording.source,
        split=split_named(recording.split or "all") or "all",
    )
    return clip, names


def _to_set(
    contents: Contents,
    reading: Reading,
    patterns: Sequence[SignerPattern],
    split: str,
    where: str,
    skip_bad: bool,
    only: Layout | None,
) -> ClipSet:
    """The set of the good clips; the others are skipped, or the first of them is raised."""
    found: list[tuple[Clip, Kind, str]] = []
    skipped: list[str] = []

    def refuse(fault: str) -> None:
        if not skip_bad:
            raise ClipError(
                f"{fault}; repair or remove it, or pass --skip-bad to leave such clips out"
            )
        skipped.append(fault)

    check_class_names(tuple(contents.class_names or ()), where, ClipError)
    for outcome in track(contents.recordings, "reading", contents.total):
        try:
            if isinstance(outcome, ClipError):
                raise outcome
            if outcome.class_name is None:
                reason = f" ({outcome.unsaid})" if outcome.unsaid else ""
                raise ClipError(
                    f"{outcome.source}: says no sign{reason}; put it into a folder with the sign's "
                    "name, or give it a field 'class'"
                )
            clip, names = _to_clip(outcome, reading, patterns)
            if split not in ("all", clip.split):
                continue
            fault = find_fault(clip)
            if fault:
                raise ClipError(fault)
            kind = (clip.landmarks.shape[1:], names)
            if only is not None:
                clip = dataclasses.replace(clip, landmarks=landmarks_in(clip, only, names))
        except ClipError as error:
            refuse(str(error))
            continue
        found.append((clip, kind, outcome.class_name))
    kinds = Counter(kind for _, kind, _ in found)
    usual = max(kinds, key=kinds.__getitem__, default=None)
    good = []
    class_names = contents.class_names
    if class_names is None:
        class_names = sorted({looks(name) for *_, name in found}, key=naturally)
        check_class_names(class_names, where, ClipError)
    index = label_index(class_names)
    for clip, kind, class_name in found:
        if kind != usual:
            shape = kind[0]
            refuse(
                f"{clip.source}: {shape[0]} keypoints of {shape[1]} coordinates, but most clips "
                f"({kinds[usual]} of {len(found)}) have {usual[0][0]} of {usual[0][1]}"
                + (", and other landmarks" if shape == usual[0] else "")
            )
        elif looks(class_name) not in index:
            refuse(f"{clip.source}: class '{class_name}' is not in label2id.json")
        else:
            good.append(dataclasses.replace(clip, label=index[looks(class_name)]))
    if not good:
        reason = f"all {len(skipped)} are bad, first {skipped[0]}" if skipped else "none found"
        raise ClipError(f"{where}: no clips: {reason}; expected {DATA_SET_FORMS}")
    notes, names = list(contents.notes), usual[1]
    if only is not None:
        lacking = ClipSet((), (), landmark_names=names).lacking(only)
        notes, names = [*notes, *([lacking] if lacking else [])], None
    return ClipSet(
        tuple(good),
        tuple(class_names),
        tuple(skipped),
        names,
        tuple(notes),
        tuple(contents.made_from),
    )

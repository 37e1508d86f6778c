"""Trees of recordings: which files are clips, and what their places say.

``<root>/[<split>/]<class>/<clip>``, with ``label2id.json`` in ``<root>`` or without. A clip is a
file, or a folder with a file a frame.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signbart.class_names import looks
from signbart.errors import ClipError
from signbart.recordings.arrays import read_array
from signbart.recordings.folders import Folder, naturally, some
from signbart.recordings.json_landmarks import read_openpose_frame
from signbart.recordings.labels import (
    LABEL_FILE,
    LABEL_FILES,
    NAME_FILE,
    label_index,
    read_class_names,
)
from signbart.recordings.names import SPLITS, split_named
from signbart.recordings.recording import Contents, Recording

ReadFile = Callable[[Path], Contents]

# OpenPose's files a frame, all clips' beside each other.
_OPENPOSE_FRAME = re.compile(r"(?P<clip>.+)_\d{6,}_keypoints\.json")


@dataclass(frozen=True)
class _Place:
    """One clip's files, and what its place says."""

    path: Path
    class_name: str
    split: str
    frames: tuple[Path, ...] = ()


def split_folders(root: Folder) -> dict[str, list[Folder]]:
    """Split -> its folders; a folder counts if it holds folders, as those of classes do.

    A class may be called as a split is, such as *all*: where a label file names every folder as a
    class, or among folders that are no splits one whose clips have a file a frame.
    """
    named = {
        name: split_named(name)
        for name, folder in root.folders.items()
        if split_named(name) is not None and (folder.folders or not folder.files)
    }
    if not named:
        return {}
    classes = {looks(name) for name in read_class_names(root.path) or ()}
    if classes.issuperset(map(looks, root.folders)):
        return {}
    found: dict[str, list[Folder]] = {}
    for name, split in named.items():
        folder = root.folders[name]
        if len(named) == len(root.folders) or not _holds_frames(folder):
            found.setdefault(split, []).append(folder)
    return found


def _holds_frames(folder: Folder) -> bool:
    """Whether what a folder holds first is a clip with a file a frame."""
    first = next(iter(folder.folders.values()), None)
    if first is None or any(map(_OPENPOSE_FRAME.fullmatch, first.files)):
        return False
    return bool(frame_files(first))


def is_tree(root: Folder) -> bool:
    """Whether a folder looks like a tree: a label file, or a split folder."""
    return LABEL_FILE in root.files or NAME_FILE in root.files or bool(split_folders(root))


def read_tree(root: Folder, split: str, read_file: ReadFile) -> Contents:
    """The clips of a tree, sorted by their paths.

    Args:
        root: The tree.
        split: One of `SPLITS`; ``all`` is the folder of that name, or where there is none the union
            of the others.
        read_file: Reads a file of whatever form.

    Raises:
        ClipError: The split's folder is missing, or a label file is malformed.
    """
    class_names = read_class_names(root.path)
    notes: list[str] = []
    by_split = split_folders(root)
    if by_split:
        wanted = [split]
        if split == "all" and "all" not in by_split:
            wanted = [name for name in SPLITS if name in by_split]
        elif split == "all" and len(by_split) > 1:
            parts = [folder.path.name for name in by_split if name != "all"
                     for folder in by_split[name]]  # fmt: skip
            notes.append(f"{root.path}: not read, as folder 'all' has every clip: {some(parts)}")
        if not set(wanted) <= set(by_split):
            raise _no_split(root, split, by_split)
        chosen = [(name, folder) for name in wanted for folder in by_split[name]]
        others = [name for name in root.folders if split_named(name) is None]
        if others:
            notes.append(
                f"{root.path}: folders not read, as their names are those of no split: "
                f"{some(others)}; splits are {', '.join(SPLITS)}"
            )
        classes = {name for folders in by_split.values() for at in folders for name in at.folders}
    elif split != "all":
        raise _no_split(root, split, by_split)
    else:
        chosen, classes = [("all", root)], set(root.folders)
    if class_names is None:
        class_names = tuple(sorted({looks(name) for name in classes}))
        if class_names:
            notes.append(
                f"{root.path}: no {LABEL_FILE}: the labels are the {len(class_names)} folders' "
                "names in alphabetical order"
            )
    places = sorted(_places(chosen, notes), key=lambda place: place.path)
    with_clips = {looks(place.class_name) for place in places}
    empty = [name for name in class_names if looks(name) not in with_clips]
    if empty and places:
        notes.append(f"{root.path}: {len(empty)} classes without a clip: {some(empty)}")
    return Contents(_clips(places, class_names, read_file), class_names, notes, len(places))


def _no_split(root: Folder, split: str, by_split: dict[str, list[Folder]]) -> ClipError:
    there = ", ".join(name for name in SPLITS if name in by_split)
    return ClipError(
        f"{root.path}: no folder '{split}' (found: {there or 'none of ' + str(SPLITS)}); clips "
        "stand in <split>/<class>/<name>.pkl"
    )


def _places(chosen: Sequence[tuple[str, Folder]], notes: list[str]) -> Iterator[_Place]:
    """Every clip's place; notes what stands beside them."""
    for split, top in chosen:
        stray = [name for name in top.files if name not in LABEL_FILES]
        if stray:
            notes.append(
                f"{top.path}: {len(stray)} files not read, as they are in no class's folder: "
                f"{some(stray)}"
            )
        for name, folder in top.folders.items():
            yield from _clips_of_class(folder, name, split, notes)


def _clips_of_class(folder: Folder, name: str, split: str, notes: list[str]) -> Iterator[_Place]:
    frames: dict[str, list[str]] = {}
    for file in folder.files:
        match = _OPENPOSE_FRAME.fullmatch(file)
        if match:
            frames.setdefault(match["clip"], []).append(file)
        else:
            yield _Place(folder.path / file, name, split)
    for clip, files in frames.items():
        paths = tuple(folder.path / file for file in sorted(files, key=naturally))
        yield _Place(folder.path / clip, name, split, paths)
    deeper = []
    for inner, own in folder.folders.items():
        paths = frame_files(own)
        if paths:
            yield _Place(own.path, name, split, paths)
        else:
            deeper.append(inner)
    if deeper:
        notes.append(f"{folder.path}: folders in it not read: {some(deeper)}")


def frame_files(folder: Folder) -> tuple[Path, ...]:
    """The frames of a folder that is one clip, in order; nothing where it is none."""
    if folder.folders or not folder.files:
        return ()
    if not all(name.endswith((".npy", ".json")) for name in folder.files):
        return ()
    paths = tuple(folder.path / name for name in sorted(folder.files, key=naturally))
    try:
        first = _read_frame(paths[0])
    except ClipError:
        return ()
    # Rows of several frames are clips, and their folder is none.
    return paths if first.ndim == 1 or paths[0].suffix == ".json" else ()


def _read_frame(path: Path) -> np.ndarray:
    return read_openpose_frame(path) if path.suffix == ".json" else read_array(path)


def read_frames(path: Path, frames: Sequence[Path]) -> Recording:
    """A clip with a file a frame.

    Raises:
        ClipError: A frame cannot be read, or they differ in shape.
    """
    read = [_read_frame(frame) for frame in frames]
    for frame, array in zip(frames, read, strict=True):
        if array.shape != read[0].shape:
            raise ClipError(
                f"{frame}: has shape {array.shape}, but the clip's first frame {read[0].shape}"
            )
    return Recording(np.stack(read), str(path), name=path.name)


def _clips(
    places: Sequence[_Place], class_names: Sequence[str], read_file: ReadFile
) -> Iterator[Recording | ClipError]:
    """Reads the clips one after the other; what cannot be a clip comes as its error."""
    index = label_index(class_names)
    for place in places:
        try:
            yield from _read_place(place, class_names, index, read_file)
        except ClipError as error:
            yield error


def _read_place(
    place: _Place, class_names: Sequence[str], index: dict[str, int], read_file: ReadFile
) -> Iterator[Recording | ClipError]:
    path = place.path
    if looks(place.class_name) not in index:
        raise ClipError(f"{path}: class '{place.class_name}' is not in label2id.json")
    class_name = class_names[index[looks(place.class_name)]]
    found = [read_frames(path, place.frames)] if place.frames else read_file(path).recordings
    for recording in found:
        if isinstance(recording, ClipError):
            yield recording
            continue
        own = recording.class_name
        # Other forms have numbers for classes, or none.
        if recording.as_is and own is not None and looks(own) != looks(class_name):
            raise ClipError(
                f"{path}: field 'class' says '{own[:80]}', its folder '{place.class_name}'"
            )
        yield dataclasses.replace(recording, class_name=class_name, split=place.split)

"""Clips below a folder whose index says what each shows, by whom, of which split."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from signbart.class_names import looks
from signbart.errors import ClipError
from signbart.recordings.folders import Folder, some
from signbart.recordings.forms import form_of
from signbart.recordings.index_files import Entry, Index
from signbart.recordings.labels import read_class_names
from signbart.recordings.names import split_named
from signbart.recordings.recording import Contents, Recording
from signbart.recordings.tree import ReadFile, frame_files, read_frames

_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,7}$")


def read_indexed(root: Folder, index: Index, split: str, read_file: ReadFile) -> Contents | None:
    """The clips below a folder by its index; None, with a note in the index, where folders decide.

    They do where they are called as its signs are, unless it names every clip in them and says the
    same: a list of classes may look like an index, and one may be of something else.

    Args:
        root: The folder.
        index: Of `find_index`.
        split: One of train, val, test, all.
        read_file: Reads a file of whatever form.

    Raises:
        ClipError: The index names none of the clips, or several may be the same entry's, and the
            folders are no signs.
    """
    named: dict[str, list[tuple[Path, tuple[Path, ...]]]] = {}
    unnamed: list[Path] = []
    of_key = _keys(index.entries)
    for path, frames in _candidates(root):
        key = of_key(path.relative_to(root.path))
        if key is None:
            unnamed.append(path)
        else:
            named.setdefault(key, []).append((path, frames))
    files = some(index.files)
    in_folders = _signs_of_folders(root, index)
    if in_folders:
        wrong = [
            (path, index.entries[key].class_name)
            for key, places in named.items()
            for path, _ in places
            if in_folders(path) != looks(index.entries[key].class_name)
        ]
        missing = [path for path in unnamed if in_folders(path)]
        if wrong or missing:
            said = f"says '{wrong[0][1]}' of" if wrong else "does not name"
            path = (wrong[0][0] if wrong else missing[0]).relative_to(root.path).as_posix()
            index.notes.append(
                f"{root.path}: {files} is not read, as it {said} {path}, and the folders are signs"
            )
            return None
    if not named:
        if not any(inner.files or inner.folders for inner in root.folders.values()):
            return None  # no index but a table of recordings, perhaps
        there = next((path.relative_to(root.path).as_posix() for path in unnamed), "nothing")
        raise ClipError(
            f"{root.path}: {files} names none of the files here: it has "
            f"'{next(iter(index.entries))}', say, and the folder '{there}'; correct its names, or "
            "move it elsewhere if it is no index of these recordings"
        )
    found = []
    for key, places in named.items():
        if len(places) > 1:
            places = _recordings(places)
        if len(places) > 1:
            several = some([path.relative_to(root.path).as_posix() for path, _ in places])
            raise ClipError(
                f"{root.path}: '{key}' in {files} may be any of {several}; name it there with its "
                "folders and ending"
            )
        (path, frames), entry = places[0], index.entries[key]
        if entry.split == "all":  # it does not say, and the folder may
            top = path.relative_to(root.path).parts[0]
            entry = dataclasses.replace(entry, split=split_named(top) or "all")
        if split in ("all", entry.split):
            found.append((path, entry, frames))
    notes = [*index.notes]
    if unnamed:
        names = some([path.name for path in unnamed])
        notes.append(
            f"{root.path}: {len(unnamed)} files that {files} does not name are not read: {names}"
        )
    lost = [key for key in index.entries if key not in named]
    if lost:
        notes.append(
            f"{root.path}: {len(lost)} of {len(index.entries)} clips that {files} names are not "
            f"there: {some(lost)}"
        )
    found.sort(key=lambda place: place[0])
    return Contents(_clips(found, read_file), read_class_names(root.path), notes, len(found))


def _signs_of_folders(root: Folder, index: Index) -> Callable[[Path], str | None] | None:
    """Which of the index's signs a clip's folder is called as; None if no folder is called so."""
    signs = {looks(entry.class_name) for entry in index.entries.values()}
    inner = [name for folder in root.folders.values() for name in folder.folders]
    if not signs.intersection(map(looks, [*root.folders, *inner])):
        return None

    def sign_of(path: Path) -> str | None:
        parents = map(looks, path.relative_to(root.path).parts[:-1])
        return next((name for name in parents if name in signs), None)

    return sign_of


def _recordings(places: list[tuple[Path, tuple[Path, ...]]]) -> list[tuple[Path, tuple[Path, ...]]]:
    """Those of an entry's files that hold recordings: no video, and no JSON that describes one."""
    read = [place for place in places if place[1] or form_of(place[0]) is not None] or places
    return [place for place in read if place[0].suffix.lower() != ".json"] or read


def _keys(entries: Mapping[str, Entry]) -> Callable[[Path], str | None]:
    """Which entry a clip's path, below the folder of the index, is that of; None of none.

    Where no entry has the name as it is, endings do not count, for landmarks have others than the
    videos that an index names; nor do the folders above those that are here, nor the ``_color`` of
    AUTSL's videos.
    """
    bare: dict[str, set[str]] = {}
    for key in entries:
        parts = _bare(key).split("/")
        for start in range(len(parts)):
            bare.setdefault("/".join(parts[start:]), set()).add(key)

    def key_of(path: Path) -> str | None:
        whole = path.as_posix()
        found = next((name for name in (whole, path.name, path.stem) if name in entries), None)
        if found is not None:
            return found
        name = _bare(whole)
        for text in (name, name.removesuffix("_color")):
            keys = bare.get(text) or {
                key for key in bare.get(text.rpartition("/")[2], ()) if "/" not in _bare(key)
            }
            if len(keys) == 1:
                return next(iter(keys))
        return None

    return key_of


def _bare(name: str) -> str:
    return _ENDING.sub("", name.replace("\\", "/").removeprefix("./"))


def _candidates(root: Folder) -> Iterator[tuple[Path, tuple[Path, ...]]]:
    """Files and folders of frames below the folder, but for the index itself."""
    for folder in root.walk():
        frames = () if folder is root else frame_files(folder)
        if frames:
            yield folder.path, frames
            continue
        for name in folder.files:
            if folder is not root or not name.lower().endswith((".csv", ".json", ".txt", ".md")):
                yield folder.path / name, ()


def _clips(
    found: Sequence[tuple[Path, Entry, tuple[Path, ...]]], read_file: ReadFile
) -> Iterator[Recording | ClipError]:
    for path, entry, frames in found:
        try:
            recordings = [read_frames(path, frames)] if frames else read_file(path).recordings
            for recording in recordings:
                yield (
                    recording
                    if isinstance(recording, ClipError)
                    else dataclasses.replace(
                        recording,
                        class_name=entry.class_name,
                        signer=entry.signer or recording.signer,
                        split=entry.split,
                    )
                )
        except ClipError as error:
            yield error

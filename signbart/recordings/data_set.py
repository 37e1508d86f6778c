"""Which clips a path holds: a file, a tree, a folder with an index, or a folder of one data set."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from signbart.errors import ClipError
from signbart.recordings.folders import Folder, ignored_note, list_folder, some
from signbart.recordings.forms import form_of, is_packed, read_file
from signbart.recordings.index_files import find_index
from signbart.recordings.indexes import read_indexed
from signbart.recordings.labels import LABEL_FILES, read_class_names
from signbart.recordings.names import whole_number
from signbart.recordings.packed_reading import read_packed
from signbart.recordings.recording import Contents, Recording, faults_of
from signbart.recordings.tree import is_tree, read_tree
from signbart.waiting import track

DATA_SET_FORMS = (
    "a packed .npz, a folder that holds one, or a tree of pickles "
    "(label2id.json and <split>/<class>/<name>.pkl), or another form of docs/data.md"
)
_NAMED = 20  # files that a message lists


def open_data_set(path: Path, split: str) -> Contents:
    """The recordings of a file or folder, of one split or of all.

    Raises:
        ClipError: Nothing readable is there, or what is there is malformed.
    """
    return _open_folder(path, split) if path.is_dir() else _open_file(path, split)


def _open_folder(path: Path, split: str) -> Contents:
    ignored: Counter[str] = Counter()
    folder = list_folder(path, ignored)
    contents = _contents_of(folder, split)
    contents.notes.extend(ignored_note(ignored))
    return contents


def _contents_of(folder: Folder, split: str) -> Contents:
    path = folder.path
    is_set = is_tree(folder) and bool(folder.folders)
    if not is_set:
        archives = [path / name for name in folder.files if name.endswith(".npz")]
        packed = [archive for archive in archives if is_packed(archive, _head(archive))]
        if len(packed) > 1:
            names = ", ".join(file.name for file in packed[:_NAMED])
            raise ClipError(f"{path}: holds {len(packed)} .npz files; name one of them: {names}")
        if packed:
            contents = _open_file(packed[0], split)
            contents.notes.extend(_left_aside(folder, packed[0]))
            return contents
    index = find_index(folder)
    if index.entries:
        contents = read_indexed(folder, index, split, read_file)
        if contents is not None:
            return contents
    if is_set or any(inner.files or inner.folders for inner in folder.folders.values()):
        contents = read_tree(folder, split, read_file)
        contents.notes.extend(index.notes)
        return contents
    files = [path / name for name in folder.files if name not in LABEL_FILES]
    looked_at = track(files, "looking at files")
    readable = [file for file in looked_at if form_of(file) is not None]
    # Beside data of another form JSON only describes them.
    others = [file for file in readable if file.suffix.lower() != ".json"]
    readable = others or readable
    if not readable:
        raise ClipError(f"{path}: holds no data set; expected {DATA_SET_FORMS}")
    if len(readable) == 1:
        return _open_file(readable[0], split)
    return Contents(_each(readable), read_class_names(path), total=len(readable))


def _left_aside(folder: Folder, packed: Path) -> list[str]:
    """A note on recordings that may stand beside a packed file; nothing where there are none."""
    names = [name for name, inner in folder.folders.items() if inner.files or inner.folders]
    names += [
        name
        for name in folder.files
        if name not in (packed.name, *LABEL_FILES) and form_of(folder.path / name) is not None
    ]
    if not names:
        return []
    return [f"{folder.path}: {packed.name} is read, and nothing beside it: {some(names)}; name a "
            "folder or file to read that"]  # fmt: skip


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4) or b"PK"


def _each(files: Sequence[Path]) -> Iterator[Recording | ClipError]:
    for file in files:
        try:
            yield from read_file(file).recordings
        except ClipError as error:
            yield error


def _open_file(path: Path, split: str) -> Contents:
    form = form_of(path)
    if form is not None and form.read is read_packed:
        with faults_of(path):
            return read_packed(path, split)
    contents = read_file(path)
    if contents.class_names is not None:
        return contents
    if not any((path.parent / name).is_file() for name in LABEL_FILES):
        return contents
    names = read_class_names(path.parent)
    recordings = _with_names(contents.recordings, names)
    return dataclasses.replace(contents, recordings=recordings, class_names=names)


def _with_names(
    recordings: Iterable[Recording | ClipError], names: Sequence[str]
) -> Iterator[Recording | ClipError]:
    """Names of classes from the label file beside a file that only numbers them."""
    for recording in recordings:
        label = None if isinstance(recording, ClipError) else recording.class_name
        number = whole_number(label or "")
        if number is not None and label not in names and number < len(names):
            recording = dataclasses.replace(recording, class_name=names[number])
        yield recording

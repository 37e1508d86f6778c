"""Index files beside a folder of clips: which clip shows what, by whom, of which split.

Tables in CSV: Google's ``train.csv`` (path, participant_id, sequence_id, sign), and any other with
a column that names the clip and one that names the sign; AUTSL's without a head (name, label).
JSON: WLASL's (``gloss`` with ``instances`` that have ``video_id``, ``split``, ``signer_id``) and
MS-ASL's (``text``, ``label``, ``signer_id``, ``file`` or ``video_id``; the file's name says the
split).
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from signbart.errors import ClipError
from signbart.recordings.folders import Folder, some
from signbart.recordings.labels import LABEL_FILES, read_class_names
from signbart.recordings.names import split_named
from signbart.recordings.recording import Contents, Recording, faults_of
from signbart.recordings.tables import CLASSES, SIGNERS
from signbart.recordings.text_files import delimiter_of, load_json, read_text
from signbart.recordings.tree import ReadFile, frame_files, read_frames

_CLIPS = ("path", "file", "filename", "video_id", "video", "clip", "clip_id", "sequence_id", "name",
          "id")  # fmt: skip
_TEXTS = (*CLASSES, "text", "clean_text")
_VIDEOS = (".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm")
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,7}$")
_LARGEST = 200 * 2**20  # bytes of an index; WLASL's has 6 million


@dataclass(frozen=True)
class Entry:
    """What an index says of one clip."""

    class_name: str
    signer: str | None
    split: str


@dataclass
class Index:
    """What the index files of a folder say.

    Attributes:
        entries: By clip, as the files name it.
        files: The files' names.
        notes: What of them was not read, and why.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_index(root: Folder) -> Index:
    """What a folder's index files say; without entries where there is none.

    Raises:
        ClipError: Two entries of one clip contradict each other.
    """
    index = Index()
    for name in root.files:
        path = root.path / name
        if not name.lower().endswith((".csv", ".json")) or name in LABEL_FILES:
            continue
        if path.stat().st_size > _LARGEST:
            continue
        try:
            with faults_of(path):
                is_json = name.lower().endswith(".json")
                entries = _read_json(path) if is_json else _read_csv(path, index.notes)
        except ClipError as error:
            # What else it may be, others say. As an index it is lost, and nobody else says that.
            index.notes.append(f"not read as an index: {error}")
            continue
        if not entries:
            continue
        index.files.append(name)
        for clip, entry in entries:
            other = index.entries.setdefault(clip, entry)
            if other.class_name != entry.class_name:
                raise ClipError(
                    f"{path}: clip '{clip}' is '{entry.class_name}', but was "
                    f"'{other.class_name}' before; correct the index"
                )
    return index


def read_indexed(root: Folder, index: Index, split: str, read_file: ReadFile) -> Contents | None:
    """The clips below a folder that its index names; None where it names none of them.

    Args:
        root: The folder.
        index: Of `find_index`.
        split: One of train, val, test, all.
        read_file: Reads a file of whatever form.

    Raises:
        ClipError: Several files may be the same entry's.
    """
    named: dict[str, list[tuple[Path, tuple[Path, ...]]]] = {}
    unnamed: list[str] = []
    of_key = _keys(index.entries)
    for path, frames in _candidates(root):
        key = of_key(path.relative_to(root.path))
        if key is None:
            unnamed.append(path.name)
        else:
            named.setdefault(key, []).append((path, frames))
    if not named:
        return None
    files = some(index.files)
    found = []
    for key, places in named.items():
        # The video that landmarks were found in may stand beside them.
        places = [place for place in places if place[0].suffix.lower() not in _VIDEOS] or places
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
        notes.append(f"{root.path}: {len(unnamed)} files that {files} does not name are "
                     f"not read: {some(unnamed)}")  # fmt: skip
    lost = [key for key in index.entries if key not in named]
    if lost:
        notes.append(
            f"{root.path}: {len(lost)} of {len(index.entries)} clips that {files} names are not "
            f"there: {some(lost)}"
        )
    found.sort(key=lambda place: place[0])
    return Contents(_clips(found, read_file), read_class_names(root.path), notes, len(found))


def names_nothing(root: Folder, index: Index) -> str:
    """What to say of an index that names none of a folder's files."""
    there = next((path.relative_to(root.path).as_posix() for path, _ in _candidates(root)), "none")
    return (
        f"{root.path}: {some(index.files)} names none of the files here: it has "
        f"'{next(iter(index.entries))}', say, and the folder '{there}'"
    )


def _keys(entries: Mapping[str, Entry]) -> Callable[[Path], str | None]:
    """Which entry a clip's path, below the folder of the index, is that of; None of none.

    Where no entry has the name as it is, endings do not count, for landmarks have others than the
    videos that an index names; nor does the ``_color`` of AUTSL's videos.
    """
    bare: dict[str, set[str]] = {}
    for key in entries:
        bare.setdefault(_bare(key), set()).add(key)

    def key_of(path: Path) -> str | None:
        names = (path.as_posix(), path.name, path.stem)
        found = next((name for name in names if name in entries), None)
        if found is not None:
            return found
        for name in names[:2]:
            keys = bare.get(_bare(name)) or bare.get(_bare(name).removesuffix("_color"), ())
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


def _read_csv(path: Path, notes: list[str]) -> list[tuple[str, Entry]]:
    text = read_text(path)
    lines = list(csv.reader(io.StringIO(text), delimiter=delimiter_of(text)))
    if not lines:
        return []
    head = [name.strip().lower() for name in lines[0]]
    clip = next((head.index(name) for name in _CLIPS if name in head), None)
    sign = next((head.index(name) for name in _TEXTS if name in head), None)
    split_of_file = split_named(path.stem) or "all"
    if clip is None or sign is None:
        # AUTSL: name, label, and no head.
        if len(head) != 2 or not all(len(line) == 2 and line[1].isdecimal() for line in lines):
            return []
        split = split_named(path.stem.split("_")[0]) or "all"
        return [(name, Entry(label, None, split)) for name, label in lines]
    signer = next((head.index(name) for name in SIGNERS if name in head), None)
    split = head.index("split") if "split" in head else None
    entries, bad = [], []
    for number, line in enumerate(lines[1:], start=2):
        while len(line) > len(head) and not line[-1].strip():
            line.pop()  # a delimiter at the end
        if len(line) != len(head):
            bad += [number] if line else []
            continue
        said = split_of_file if split is None else split_named(line[split]) or "all"
        who = line[signer].strip() if signer is not None else ""
        entries.append((line[clip].strip(), Entry(line[sign].strip(), who or None, said)))
    if bad:
        notes.append(
            f"{path}: {len(bad)} rows not read, as they have not {len(head)} columns like the "
            f"first one: rows {some([*map(str, bad)])}"
        )
    # Google's train.csv is the whole set, and no half of a division.
    return entries if path.stem != "train" or _has_test(path) else [
        (clip, dataclasses.replace(entry, split="all") if split is None else entry)
        for clip, entry in entries
    ]  # fmt: skip


def _has_test(path: Path) -> bool:
    return any(path.with_name(f"{name}{path.suffix}").is_file() for name in ("test", "val", "dev"))


def _read_json(path: Path) -> list[tuple[str, Entry]]:
    tree = load_json(path)
    if not isinstance(tree, list) or not all(isinstance(entry, dict) for entry in tree):
        return []
    if all("gloss" in entry and isinstance(entry.get("instances"), list) for entry in tree):
        instances = [
            (entry["gloss"], instance)
            for entry in tree
            for instance in entry["instances"]
            if isinstance(instance, dict)
        ]
        return [found for gloss, one in instances if (found := _entry(path, one, str(gloss)))]
    if not all(("text" in entry or "clean_text" in entry) and "label" in entry for entry in tree):
        return []
    return [
        found
        for entry in tree
        if (found := _entry(path, entry, str(entry.get("clean_text") or entry["text"])))
    ]


def _entry(path: Path, fields: Mapping[str, Any], class_name: str) -> tuple[str, Entry] | None:
    key = next((key for key in _CLIPS if isinstance(fields.get(key), str | int)), None)
    if key is None:
        return None
    signer = fields.get("signer_id")
    split = split_named(str(fields.get("split", "")))
    split = split or split_named(path.stem.rpartition("_")[2]) or "all"
    # WLASL writes -1 for a signer that is not known.
    who = None if signer is None or signer == -1 else f"signer{signer}"
    return str(fields[key]), Entry(class_name, who, split)

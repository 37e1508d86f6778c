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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
_LARGEST = 200 * 2**20  # bytes of an index; WLASL's has 6 million


@dataclass(frozen=True)
class Entry:
    """What an index says of one clip."""

    class_name: str
    signer: str | None
    split: str


Index = dict[str, Entry]


def find_index(root: Folder) -> tuple[Index, list[str]] | None:
    """The entries of a folder's index files by clip, and the files' names; None without one.

    Raises:
        ClipError: Two entries of one clip contradict each other.
    """
    index: Index = {}
    used = []
    for name in root.files:
        path = root.path / name
        if not name.lower().endswith((".csv", ".json")) or name in LABEL_FILES:
            continue
        if path.stat().st_size > _LARGEST:
            continue
        try:
            with faults_of(path):
                entries = _read_json(path) if name.lower().endswith(".json") else _read_csv(path)
        except ClipError:
            continue  # no index; what else it is, others say
        if not entries:
            continue
        used.append(name)
        for clip, entry in entries:
            other = index.setdefault(clip, entry)
            if other.class_name != entry.class_name:
                raise ClipError(
                    f"{path}: clip '{clip}' is '{entry.class_name}', but was "
                    f"'{other.class_name}' before; correct the index"
                )
    return (index, used) if index else None


def read_indexed(
    root: Folder, index: Mapping[str, Entry], used: Sequence[str], split: str, read_file: ReadFile
) -> Contents | None:
    """The clips below a folder that its index names; None where it names none of them.

    Args:
        root: The folder.
        index: Of `find_index`.
        used: The index files' names.
        split: One of train, val, test, all.
        read_file: Reads a file of whatever form.
    """
    found: list[tuple[Path, Entry, tuple[Path, ...]]] = []
    unnamed: list[str] = []
    named: set[str] = set()
    for path, frames in _candidates(root):
        keys = (path.relative_to(root.path).as_posix(), path.name, path.stem)
        key = next((key for key in keys if key in index), None)
        if key is None:
            unnamed.append(path.name)
            continue
        named.add(key)
        if split in ("all", index[key].split):
            found.append((path, index[key], frames))
    if not named:
        return None
    notes = []
    if unnamed:
        notes.append(f"{root.path}: {len(unnamed)} files that {some(list(used))} does not name are "
                     f"not read: {some(unnamed)}")  # fmt: skip
    lost = [key for key in index if key not in named]
    if lost:
        notes.append(
            f"{root.path}: {len(lost)} of {len(index)} clips that {some(list(used))} names are not "
            f"there: {some(lost)}"
        )
    return Contents(_clips(found, read_file), read_class_names(root.path), notes, len(found))


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


def _read_csv(path: Path) -> list[tuple[str, Entry]]:
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
    entries = []
    for line in lines[1:]:
        if len(line) != len(head):
            continue
        said = split_of_file if split is None else split_named(line[split]) or "all"
        who = line[signer].strip() if signer is not None else ""
        entries.append((line[clip].strip(), Entry(line[sign].strip(), who or None, said)))
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

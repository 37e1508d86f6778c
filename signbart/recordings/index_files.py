"""Index files: what a table or JSON beside clips says of each.

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
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from signbart.errors import ClipError
from signbart.recordings.folders import Folder, some
from signbart.recordings.labels import LABEL_FILES
from signbart.recordings.names import split_named
from signbart.recordings.recording import faults_of
from signbart.recordings.tables import CLASSES, SIGNERS
from signbart.recordings.text_files import delimiter_of, load_json, read_text

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

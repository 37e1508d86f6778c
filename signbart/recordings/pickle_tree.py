"""The field's tree of keypoint pickles: which files are clips, and what their places say.

``<root>/{label2id.json, id2label.json}`` and ``<root>/<split>/<class>/<name>.pkl``. Copies for
leave-one-signer-out, ``<root>_LOSO_<user>/{train, test}``, may leave the JSON files in ``<root>``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from signbart.errors import ClipError
from signbart.recordings.clip import Clip
from signbart.recordings.packed import (
    UNKNOWN_SIGNER,
)
from signbart.recordings.pickles import read_pickle

SPLITS = ("train", "val", "test", "all")

_LABEL_FILE, _NAME_FILE = "label2id.json", "id2label.json"
_LOSO_NAME = re.compile(r"(?P<original>.+)_LOSO_.+")
# user12_G10_R10.pkl: signer user12, sign 10, repetition 10.
_USER = re.compile(r"user\d+(?=_|$)")
_REPETITION = re.compile(r"_R(\d{1,9})(?=_|$)")


def is_pickle_tree(root: Path) -> bool:
    """Whether a folder looks like a tree: it has a label file or a split folder."""
    return (root / _LABEL_FILE).is_file() or any((root / split).is_dir() for split in SPLITS)


def signer_in_name(stem: str) -> str | None:
    """The ``userNN`` that a file name begins with."""
    match = _USER.match(stem)
    return match[0] if match else None


def repetition_in_name(stem: str) -> int:
    """The number of the ``_RNN`` part of a file name, or 0."""
    match = _REPETITION.search(stem)
    return int(match[1]) if match else 0


def find_pickles(root: Path, split: str) -> list[Path]:
    """What should be the pickles of a split, sorted; hidden files and folders are no clips.

    Args:
        root: The tree.
        split: One of `SPLITS`; ``all`` is the folder of that name, or where there is none the union
            of the others.

    Raises:
        ClipError: The split's folder is missing.
    """
    there = [name for name in SPLITS if (root / name).is_dir()]
    wanted = there if split == "all" and "all" not in there else [split]
    if not wanted or not set(wanted) <= set(there):
        raise ClipError(
            f"{root}: no folder '{split}' (found: {', '.join(there) or 'none of ' + str(SPLITS)});"
            " clips stand in <split>/<class>/<name>.pkl"
        )
    try:
        return sorted(
            file
            for name in wanted
            for folder in (root / name).iterdir()
            if folder.is_dir() and not folder.name.startswith(".")
            for file in folder.iterdir()
            if not file.name.startswith(".") and file.is_file()
        )
    except OSError as error:
        raise ClipError(f"{error.filename}: cannot be listed: {error.strerror}") from None


def read_class_names(root: Path) -> tuple[str, ...]:
    """The classes of a tree in the order of their labels.

    ``label2id.json`` decides; ``id2label.json`` may be missing and must not contradict it.

    Raises:
        ClipError: There is no label file, it is malformed, or the two contradict each other.
    """
    root = Path(os.path.abspath(root))
    folders = [root]
    loso = _LOSO_NAME.fullmatch(root.name)
    if loso:
        folders.append(root.with_name(loso["original"]))
    folder = next((place for place in folders if (place / _LABEL_FILE).is_file()), None)
    if folder is None:
        places = " nor in ".join(map(str, folders))
        raise ClipError(f"no {_LABEL_FILE} in {places}; write one: {{class name: label from 0}}")
    path = folder / _LABEL_FILE
    labels = _read_object(path)
    for name, label in labels.items():
        if type(label) is not int:
            raise ClipError(
                f"{path}: the label of '{name}' must be a whole number, found {label!r}"
            )
    if sorted(labels.values()) != list(range(len(labels))):
        raise ClipError(
            f"{path}: {len(labels)} classes must have the labels 0 to {len(labels) - 1}, each once;"
            f" found {str(sorted(labels.values()))[:120]}"
        )
    names = tuple(sorted(labels, key=labels.__getitem__))
    inverse = folder / _NAME_FILE
    if inverse.is_file():
        stated = _read_object(inverse)
        expected = {str(label): name for label, name in enumerate(names)}
        for label in (*expected, *stated):
            if stated.get(label) != expected.get(label):
                raise ClipError(
                    f"{inverse}: label {label} is {stated.get(label)!r}, but {_LABEL_FILE} beside "
                    f"it says {expected.get(label)!r}; correct one, or remove {_NAME_FILE}"
                )
    return names


def _read_object(path: Path) -> dict[str, object]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ClipError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ClipError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(tree, dict) or not tree:
        raise ClipError(
            f"{path}: expected an object with one entry a class, found {str(tree)[:60]}"
        )
    return tree


def tree_clips(root: Path, split: str, class_names: Sequence[str]) -> Iterator[Clip | ClipError]:
    """Reads the pickles of a tree one after the other; what cannot be a clip comes as its error."""
    labels = {name: label for label, name in enumerate(class_names)}
    for path in find_pickles(root, split):
        folder = path.parent.name
        try:
            if path.suffix != ".pkl":
                raise ClipError(
                    f"{path}: is no .pkl file; clips stand in <split>/<class>/<name>.pkl"
                )
            if folder not in labels:
                raise ClipError(f"{path}: class '{folder}' is not in label2id.json")
            pickled = read_pickle(path)
            if pickled.class_name != folder:
                raise ClipError(
                    f"{path}: field 'class' says '{pickled.class_name[:80]}', its folder '{folder}'"
                )
        except ClipError as error:
            yield error
            continue
        yield Clip(
            landmarks=pickled.landmarks,
            label=labels[folder],
            signer=pickled.user or signer_in_name(path.stem) or UNKNOWN_SIGNER,
            repetition=repetition_in_name(path.stem),
            source=str(path),
            split=path.parent.parent.name,
        )

"""Label files: which class has which number.

``label2id.json`` decides; without it ``id2label.json``, or Google's
``sign_to_prediction_index_map.json``. Copies for leave-one-signer-out, ``<root>_LOSO_<user>``, may
leave the files in ``<root>``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signbart.class_names import check_class_names, looks
from signbart.errors import ClipError
from signbart.recordings.names import whole_number
from signbart.recordings.text_files import load_json

LABEL_FILE, NAME_FILE = "label2id.json", "id2label.json"
_OTHER_FILE = "sign_to_prediction_index_map.json"
LABEL_FILES = (LABEL_FILE, NAME_FILE, _OTHER_FILE)
_LOSO_NAME = re.compile(r"(?P<original>.+)_LOSO_.+")


def read_class_names(root: Path) -> tuple[str, ...] | None:
    """The classes of a folder in the order of their labels; None where no file says them.

    Raises:
        ClipError: A label file is malformed, or two contradict each other; or the folder is a copy
            that leaves one signer out, whose labels must be those of the whole, and has none.
    """
    root = Path(os.path.abspath(root))
    folders = [root]
    loso = _LOSO_NAME.fullmatch(root.name)
    if loso:
        folders.append(root.with_name(loso["original"]))
    for folder in folders:
        present = [name for name in LABEL_FILES if (folder / name).is_file()]
        if present == [NAME_FILE]:
            return _from_numbers(folder / NAME_FILE)
        if present:
            name = next(name for name in present if name != NAME_FILE)
            return _from_names(folder / name)
    if loso:
        places = " nor in ".join(map(str, folders))
        raise ClipError(f"no {LABEL_FILE} in {places}; write one: {{class name: label from 0}}")
    return None


def read_label_file(path: Path) -> tuple[str, ...]:
    """The classes of one label file in the order of their labels.

    Raises:
        ClipError: It is missing or malformed.
    """
    return _from_numbers(path) if path.name == NAME_FILE else _from_names(path)


def label_index(class_names: Sequence[str]) -> dict[str, int]:
    """Class -> label, by the names as they look.

    Raises:
        ClipError: Two names look the same, or one is empty or cannot be printed.
    """
    names = check_class_names(tuple(class_names), "the data set", ClipError)
    return {looks(name): label for label, name in enumerate(names)}


def _from_names(path: Path) -> tuple[str, ...]:
    labels = _read_object(path)
    for name, label in labels.items():
        if type(label) is not int:
            raise ClipError(
                f"{path}: the label of '{name}' must be a whole number, found {label!r}"
            )
    _check_numbers(path, labels)
    names = check_class_names(sorted(labels, key=labels.__getitem__), str(path), ClipError)
    inverse = path.with_name(NAME_FILE)
    if path.name == LABEL_FILE and inverse.is_file():
        stated = _read_object(inverse)
        expected = {str(label): name for label, name in enumerate(names)}
        for label in (*expected, *stated):
            if _look(stated.get(label)) != _look(expected.get(label)):
                raise ClipError(
                    f"{inverse}: label {label} is {stated.get(label)!r}, but {LABEL_FILE} beside "
                    f"it says {expected.get(label)!r}; correct one, or remove {NAME_FILE}"
                )
    return names


def _from_numbers(path: Path) -> tuple[str, ...]:
    """``{"0": "hello"}`` alone."""
    stated = _read_object(path)
    if not all(
        whole_number(label) is not None and isinstance(name, str) for label, name in stated.items()
    ):
        raise ClipError(f"{path}: expected {{label from 0: class name}}")
    in_order = sorted(stated, key=int)
    names = check_class_names([stated[label] for label in in_order], str(path), ClipError)
    _check_numbers(path, {stated[label]: int(label) for label in in_order})
    return names


def _check_numbers(path: Path, labels: Mapping[str, Any]) -> None:
    if sorted(labels.values()) != list(range(len(labels))):
        raise ClipError(
            f"{path}: {len(labels)} classes must have the labels 0 to {len(labels) - 1}, each once;"
            f" found {str(sorted(labels.values()))[:120]}"
        )


def _look(name: object) -> object:
    return looks(name) if isinstance(name, str) else name


def _read_object(path: Path) -> dict[str, Any]:
    tree = load_json(path, unique=True)
    if not isinstance(tree, dict) or not tree:
        raise ClipError(
            f"{path}: expected an object with one entry a class, found {str(tree)[:60]}"
        )
    return tree

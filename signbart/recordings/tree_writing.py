"""The field's form of a data set: a tree of pickles, ``[split/]class/name.pkl``, and labels."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from signbart.errors import ClipError
from signbart.files import make_folder, remove_left_overs, temporary_folder
from signbart.landmarks.layouts import LAYOUTS
from signbart.recordings.clip import Clip, ClipSet
from signbart.recordings.labels import LABEL_FILE, NAME_FILE
from signbart.recordings.names import SPLITS, UNKNOWN_SIGNER, is_system_file, split_named

_PROTOCOL = 4  # what Python 3.4 and later read


def write_tree(clip_set: ClipSet, root: Path) -> None:
    """Writes a tree of pickles, whole or not at all.

    A clip is a dict with ``keypoints`` (T, K, D) float32, ``class`` and, where it is known,
    ``user``; its name says the repetition. What is in no split stands in ``all``.

    Raises:
        ClipError: There is something at `root`, it cannot be written, or the form cannot hold what
            the clips are: landmarks that their number does not name, or classes whose names are no
            folders'.
    """
    remove_left_overs(root.parent)
    if root.exists():
        raise ClipError(f"{root}: exists already; name a new folder")
    count = clip_set.clips[0].landmarks.shape[1]
    if clip_set.landmark_names is not None or all(
        layout.num_keypoints != count for layout in LAYOUTS.values()
    ):
        raise ClipError(
            f"{root}: pickles do not say which {count} landmarks they hold; write a packed file, "
            "which does, or take those of a layout with --layout"
        )
    for name in clip_set.class_names:
        unfit = is_system_file(name) or any(sign in name for sign in '/\\:*?"<>|')
        if unfit or split_named(name):
            raise ClipError(f"{root}: class '{name}' cannot be a folder's name; rename it")
    splits = {clip.split for clip in clip_set.clips}
    if "all" in splits and len(splits) > 1:
        count = sum(clip.split == "all" for clip in clip_set.clips)
        others = " or ".join(name for name in SPLITS if name in splits - {"all"})
        raise ClipError(
            f"{root}: {count} of {len(clip_set)} clips are in no split, the others in {others}; a "
            "tree has folders of splits or none, so write a packed file, which holds both, or "
            "write them apart"
        )
    make_folder(root.parent)
    labels = {name: label for label, name in enumerate(clip_set.class_names)}
    try:
        with temporary_folder(root.parent) as folder:
            beside = folder / root.name
            beside.mkdir()
            _write_json(beside / LABEL_FILE, labels)
            _write_json(beside / NAME_FILE, {str(label): name for name, label in labels.items()})
            _write_clips(clip_set.clips, clip_set.class_names, beside)
            os.replace(beside, root)
    except OSError as error:
        raise ClipError(f"{root}: cannot be written: {error.strerror or error}") from None


def _write_clips(clips: Iterable[Clip], class_names: tuple[str, ...], root: Path) -> None:
    for index, clip in enumerate(clips):
        name = class_names[clip.label]
        folder = root / clip.split / name
        folder.mkdir(parents=True, exist_ok=True)
        fields = {"keypoints": np.ascontiguousarray(clip.landmarks), "class": name}
        if clip.signer != UNKNOWN_SIGNER:
            fields["user"] = clip.signer
        # The number keeps the order of a class's clips, and apart what is called alike.
        path = folder / f"{index:06d}_{clip.signer}_R{clip.repetition}.pkl"
        path.write_bytes(pickle.dumps(fields, protocol=_PROTOCOL))


def _write_json(path: Path, tree: dict) -> None:
    path.write_text(json.dumps(tree, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

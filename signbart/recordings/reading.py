"""Reads recordings, whatever form they are kept in: a whole data set, or one clip.

The forms are the packed ``.npz`` of `packed`, and the field's tree of pickles (`pickle_tree`,
`pickles`); one clip may also be a bare array (`arrays`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from signbart.errors import ClipError
from signbart.recordings.arrays import read_array
from signbart.recordings.clip import Clip, ClipSet, find_fault
from signbart.recordings.packed import (
    UNKNOWN_SIGNER,
    load_packed,
    packed_clips,
)
from signbart.recordings.pickle_tree import (
    SPLITS,
    is_pickle_tree,
    read_class_names,
    tree_clips,
)
from signbart.recordings.pickles import read_pickle

_NAMED = 20  # files that a message lists
CLIP_FORMS = (
    "a .pkl with 'keypoints', an .npy of (T, K, 2 or 3), or one clip of a packed file, x.npz[12]"
)
_IN_PACKED = re.compile(r"(.+\.npz)\[(\d+)\]")


def read_single_clip(source: str) -> Clip:
    """Reads one recording.

    Args:
        source: The path of a keypoint pickle (the field ``class`` may be missing) or of an ``.npy``
            array, or ``x.npz[12]``, as messages name the clips of a packed file.

    Returns:
        The clip; its label means nothing.

    Raises:
        ClipError: There is no such recording, it is damaged, or no sign can be read from it.
    """
    packed = _IN_PACKED.fullmatch(source)
    if packed:
        clips = read_clips(packed[1]).clips
        index = int(packed[2])
        if index >= len(clips):
            raise ClipError(f"{source}: {packed[1]} has clips 0 to {len(clips) - 1}")
        return clips[index]
    path = Path(source)
    if path.suffix == ".pkl":
        landmarks = read_pickle(path, labelled=False).landmarks
    elif path.suffix == ".npy":
        landmarks = read_array(path)
    else:
        raise ClipError(f"{source}: expected {CLIP_FORMS}")
    clip = Clip(landmarks, 0, UNKNOWN_SIGNER, 0, source)
    fault = find_fault(clip)
    if fault:
        raise ClipError(fault)
    return clip


DATA_SET_FORMS = (
    "a packed .npz, a folder that holds one, or a tree of pickles "
    "(label2id.json and <split>/<class>/<name>.pkl)"
)


def read_clips(path: str | Path, *, split: str = "all", skip_bad: bool = False) -> ClipSet:
    """Reads a data set in either form.

    Args:
        path: A packed ``.npz``, a folder that holds exactly one, or a tree of pickles.
        split: One of train, val, test, all. A packed file has other splits than ``all`` only where
            it carries the array ``split``.
        skip_bad: Leaves bad clips out and says why in `ClipSet.skipped`, instead of raising.

    Raises:
        ClipError: Nothing readable is there, a file is malformed, a clip is bad, or none is left.
    """
    path = Path(path)
    where = f"{path}" if split == "all" else f"{path}, split '{split}'"
    if split not in SPLITS:
        raise ClipError(f"unknown split '{split}'; known: {', '.join(SPLITS)}")
    if not path.exists():
        raise ClipError(f"{path}: no such file or folder; expected {DATA_SET_FORMS}")
    if path.is_dir() and is_pickle_tree(path):
        class_names = read_class_names(path)
        return _keep_good(tree_clips(path, split, class_names), class_names, where, skip_bad)
    if path.is_dir():
        packed = sorted(path.glob("*.npz"))
        if not packed:
            raise ClipError(f"{path}: holds no data set; expected {DATA_SET_FORMS}")
        if len(packed) > 1:
            names = ", ".join(file.name for file in packed[:_NAMED])
            raise ClipError(f"{path}: holds {len(packed)} .npz files; name one of them: {names}")
        path = packed[0]
    columns = load_packed(path)
    return _keep_good(packed_clips(path, split, columns), columns.class_names, where, skip_bad)


def _keep_good(
    outcomes: Iterable[Clip | ClipError], class_names: Sequence[str], where: str, skip_bad: bool
) -> ClipSet:
    """The set of the good clips; the others are skipped, or the first of them is raised."""
    for name in class_names:
        if not name.strip() or not name.isprintable():
            raise ClipError(
                f"{where}: class {name!r} is empty or has control characters; rename it"
            )
    clips: list[Clip] = []
    skipped: list[str] = []

    def refuse(fault: str) -> None:
        if not skip_bad:
            raise ClipError(
                f"{fault}; repair or remove it, or pass --skip-bad to leave such clips out"
            )
        skipped.append(fault)

    for outcome in outcomes:
        fault = str(outcome) if isinstance(outcome, ClipError) else find_fault(outcome)
        if fault is None:
            clips.append(outcome)
        else:
            refuse(fault)
    shapes = Counter(clip.landmarks.shape[1:] for clip in clips)
    usual = max(shapes, key=shapes.__getitem__, default=None)
    good = []
    for clip in clips:
        found = clip.landmarks.shape[1:]
        if found == usual:
            good.append(clip)
            continue
        refuse(
            f"{clip.source}: {found[0]} keypoints of {found[1]} coordinates, but most clips "
            f"({shapes[usual]} of {len(clips)}) have {usual[0]} of {usual[1]}"
        )
    if not good:
        reason = f"all {len(skipped)} are bad, first {skipped[0]}" if skipped else "none found"
        raise ClipError(f"{where}: no clips: {reason}; expected {DATA_SET_FORMS}")
    return ClipSet(tuple(good), tuple(class_names), tuple(skipped))


def read_recordings(path: str | None) -> ClipSet | None:
    """The recordings at `path`, bad ones left out and counted aloud; None without a path."""
    if path is None:
        return None
    clips = read_clips(path, skip_bad=True)
    if clips.skipped:
        print(f"{len(clips.skipped)} bad clips of {path} left out, first {clips.skipped[0]}")
    return clips

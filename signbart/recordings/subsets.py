"""Parts of sets, and several sets as one."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from signbart.errors import ClipError
from signbart.recordings.clip import ClipSet
from signbart.recordings.folders import some
from signbart.recordings.names import looks


def select_classes(clips: ClipSet, names: Sequence[str], source: str) -> ClipSet:
    """The clips of some classes, which are numbered anew in the order that they are named in.

    Args:
        clips: A set.
        names: Of classes, as they look.
        source: Its path, for messages.

    Raises:
        ClipError: There is no such class, or one is named twice.
    """
    places = {looks(name): label for label, name in enumerate(clips.class_names)}
    unknown = [name for name in names if looks(name) not in places]
    if unknown:
        raise ClipError(
            f"{source} has no class {some(unknown)}; its classes are {some([*clips.class_names])}"
        )
    labels = {places[looks(name)]: at for at, name in enumerate(names)}
    if len(labels) < len(names):
        raise ClipError(f"--classes names one twice: {', '.join(names)}")
    chosen = tuple(
        dataclasses.replace(clip, label=labels[clip.label])
        for clip in clips.clips
        if clip.label in labels
    )
    ordered = tuple(sorted(labels, key=labels.__getitem__))
    class_names = tuple(clips.class_names[label] for label in ordered)
    return dataclasses.replace(clips, clips=chosen, class_names=class_names)


def clips_by(clips: ClipSet, signers: Sequence[str], source: str) -> ClipSet:
    """The clips by some signers; `source` is the set's path, for messages.

    Raises:
        ClipError: There is no such signer.
    """
    unknown = [name for name in signers if name not in clips.signer_names]
    if unknown:
        known = some([*clips.signer_names])
        raise ClipError(f"{source} has no clips by {some(unknown)}; the signers are {known}")
    return clips.select(at for at, signer in enumerate(clips.signers) if signer in signers)


def cap_clips(clips: ClipSet, most: int, seed: int) -> ClipSet:
    """At most so many clips of each class by each signer, chosen by the seed; in their order."""
    groups: dict[tuple[int, str], list[int]] = defaultdict(list)
    for at, clip in enumerate(clips.clips):
        groups[clip.label, clip.signer].append(at)
    rng = np.random.default_rng(seed)
    kept = [
        at
        for _, members in sorted(groups.items())
        for at in rng.permutation(members)[:most].tolist()
    ]
    chosen = tuple(clips.clips[at] for at in sorted(kept))
    return dataclasses.replace(clips, clips=chosen)


def merge_sets(sets: Sequence[ClipSet], sources: Sequence[str]) -> ClipSet:
    """Several sets as one: classes that look the same are the same, and so are signers' names.

    Args:
        sets: With the same landmarks.
        sources: Their paths, for messages.

    Raises:
        ClipError: They differ in landmarks or in coordinates.
    """
    first = sets[0]
    shape = first.clips[0].landmarks.shape[1:]
    for other, source in zip(sets[1:], sources[1:], strict=True):
        own = other.clips[0].landmarks.shape[1:]
        if own != shape or other.landmark_names != first.landmark_names:
            raise ClipError(
                f"{source}: {own[0]} landmarks of {own[1]} coordinates, but {sources[0]} has "
                f"{shape[0]} of {shape[1]}, or they are named otherwise; pack both with the same "
                "--layout first"
            )
    names: dict[str, str] = {}
    for one in sets:
        for name in one.class_names:
            names.setdefault(looks(name), name)
    place = {look: at for at, look in enumerate(names)}
    merged = tuple(
        dataclasses.replace(clip, label=place[looks(one.class_names[clip.label])])
        for one in sets
        for clip in one.clips
    )
    return ClipSet(
        merged,
        tuple(names.values()),
        tuple(line for one in sets for line in one.skipped),
        first.landmark_names,
        tuple(line for one in sets for line in one.notes),
    )

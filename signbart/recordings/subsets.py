"""Parts of sets, and several sets as one."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from signbart.class_names import looks
from signbart.errors import ClipError
from signbart.recordings.clip import Clip, ClipSet
from signbart.recordings.folders import some
from signbart.recordings.packed import DEFAULT_SCALE


def from_source(clips: ClipSet, source: str) -> ClipSet:
    """The set, noting where it is from: the name of its path, and what identifies its clips."""
    known = clips.fingerprint()
    return clips.after(f"{Path(source).name}: {len(clips)} clips, SHA-256 {known}", clips)


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
    part = dataclasses.replace(clips, clips=chosen, class_names=class_names)
    return part.after(f"classes {', '.join(class_names)}", clips)


def clips_by(clips: ClipSet, signers: Sequence[str], source: str) -> ClipSet:
    """The clips by some signers; `source` is the set's path, for messages.

    Raises:
        ClipError: There is no such signer.
    """
    _require_signers(clips, signers, source)
    chosen = clips.select(at for at, signer in enumerate(clips.signers) if signer in signers)
    return chosen.after(f"signers {', '.join(signers)}", clips)


def clips_not_by(clips: ClipSet, signers: Sequence[str], source: str) -> ClipSet:
    """The clips by all other signers; see `clips_by`.

    Raises:
        ClipError: There is no such signer, or no other.
    """
    _require_signers(clips, signers, source)
    rest = clips.select(at for at, signer in enumerate(clips.signers) if signer not in signers)
    if not len(rest):
        raise ClipError(f"{source} has no clips by others than {some([*signers])}")
    return rest.after(f"without signers {', '.join(signers)}", clips)


def _require_signers(clips: ClipSet, signers: Sequence[str], source: str) -> None:
    unknown = [name for name in signers if name not in clips.signer_names]
    if unknown:
        known = some([*clips.signer_names])
        raise ClipError(f"{source} has no clips by {some(unknown)}; the signers are {known}")


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
    part = dataclasses.replace(clips, clips=chosen)
    return part.after(f"at most {most} clips of a class by a signer, seed {seed}", clips)


def merge_sets(sets: Sequence[ClipSet], sources: Sequence[str]) -> ClipSet:
    """Several sets as one: classes that look the same are the same, and so are signers' names.

    Args:
        sets: With the same landmarks.
        sources: Their paths, for messages.

    Raises:
        ClipError: They differ in landmarks or in coordinates, or have clips in common.
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
    _refuse_doubles(sets, sources)
    return ClipSet(
        merged,
        tuple(names.values()),
        tuple(line for one in sets for line in one.skipped),
        first.landmark_names,
        tuple(line for one in sets for line in one.notes),
        tuple(line for one in sets for line in one.made_from),
    )


def _refuse_doubles(sets: Sequence[ClipSet], sources: Sequence[str]) -> None:
    """Refuses a clip of two sets, also where one of them was packed, and so rounded."""
    seen: dict[tuple[str, str, int], list[tuple[int, Clip]]] = defaultdict(list)
    for at, one in enumerate(sets):
        for clip in one.clips:
            alike = seen[looks(one.class_names[clip.label]), clip.signer, len(clip.landmarks)]
            for other_at, other in alike:
                if other_at != at and np.allclose(
                    clip.landmarks, other.landmarks, rtol=0, atol=DEFAULT_SCALE
                ):
                    raise ClipError(
                        f"{sources[at]}: {clip.source} is in {sources[other_at]} too, of the same "
                        "class and signer; merge sets without a clip in common, or it would count "
                        "twice"
                    )
            alike.append((at, clip))

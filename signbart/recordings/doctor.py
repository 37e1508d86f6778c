"""What looks wrong about a set of recordings, and what it holds in numbers.

Looks at landmarks (`geometry`), signers, classes and splits. It repairs nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from signbart.landmarks.layouts import LAYOUTS
from signbart.recordings.clip import Clip, ClipSet
from signbart.recordings.folders import some
from signbart.recordings.geometry import Finding, examine, fit, shares
from signbart.recordings.names import UNKNOWN_SIGNER
from signbart.waiting import track

# Clips whose landmarks are looked at; more say nothing new.
_SAMPLE = 200
# Of the picture, or metres; a head does not move so far from one frame to the next.
_JUMP = 0.25
# Times the usual largest value of a clip: no limb is so far away. Sound clips reach 3 times.
_WILD = 10


@dataclass(frozen=True)
class Report:
    """What the doctor saw.

    Attributes:
        findings: What is suspicious.
        facts: Name -> value, for people.
    """

    findings: tuple[Finding, ...]
    facts: dict[str, str]


def examine_clips(clips: ClipSet) -> Report:
    """Looks at a set of clips."""
    facts: dict[str, str] = {}
    findings = [*_of_landmarks(clips, facts), *_of_values(clips), *_of_signers(clips),
                *_of_classes(clips), *_of_duplicates(clips, facts)]  # fmt: skip
    return Report(tuple(findings), facts)


def _of_landmarks(clips: ClipSet, facts: dict[str, str]) -> list[Finding]:
    count, coordinates = clips.clips[0].landmarks.shape[1:]
    own = next((layout for layout in LAYOUTS.values() if layout.num_keypoints == count), None)
    if clips.landmark_names is None and own is None:
        facts["layout"] = "not known"
        return [
            Finding(
                "layout",
                f"nothing says what the {count} landmarks are",
                "pass --source-layout, with a name or a YAML file that describes them",
            )
        ]
    if clips.landmark_names is not None:
        names = clips.landmark_names
        facts["layout"] = f"{len(names)} landmarks, by name"
    else:
        names = own.names
        facts["layout"] = f"{own.name}, by the number of landmarks"
    metres = "Neck" in names and coordinates == 3
    chosen = clips.clips[:: max(1, len(clips) // _SAMPLE)]
    points = np.concatenate([clip.landmarks for clip in chosen])
    found = points[(points[..., :2] != 0).any(axis=-1)]
    if len(found):
        low, high = np.quantile(found[:, :2], 0.01, axis=0), np.quantile(found[:, :2], 0.99, axis=0)
        facts["range"] = (
            f"x {low[0]:.2f} to {high[0]:.2f}, y {low[1]:.2f} to {high[1]:.2f} (98 % of the points)"
        )
    sure = fit(points, names, metres)
    if sure is not None:
        what = "head, spine and hands" if metres else "hands, nose and shoulders"
        facts["layout"] += f"; {what} fit in {sure:.0%} of the frames"
    parts = shares(points, names)
    facts["found"] = ", ".join(f"{part} {share:.0%}" for part, share in parts.items())
    findings = examine(points, names, metres)
    findings += [
        Finding(
            "never found",
            f"the {part} was found in no frame",
            "look whether the detector ran, and whether the landmarks are in the order that they "
            "are taken for (--source-layout)",
        )
        for part, share in parts.items()
        if share == 0
    ]
    jumps = _jumps(chosen, names, metres)
    if jumps is not None:
        facts["jumps"] = f"the head jumps in {jumps:.1%} of the frames"
        if jumps > 0.05 and not findings:
            findings.append(
                Finding(
                    "jumps",
                    f"the head moves more than {_JUMP:g} within one frame in {jumps:.0%} of them",
                    "look whether several people or several clips are in one recording",
                )
            )
    return findings


def _jumps(clips: tuple[Clip, ...], names: tuple[str, ...], metres: bool) -> float | None:
    """The share of steps from frame to frame in which the head moves too far."""
    head = "Head" if metres else "nose"
    if head not in names:
        return None
    place = names.index(head)
    steps = []
    for clip in clips:
        points = clip.landmarks[:, place, :2]
        there = (points != 0).any(axis=1)
        moved = np.hypot(*np.diff(points, axis=0).T)
        steps.append(moved[there[1:] & there[:-1]])
    moved = np.concatenate(steps)
    return float((moved > _JUMP).mean()) if len(moved) else None


def _of_values(clips: ClipSet) -> list[Finding]:
    """Single numbers far beyond all others."""
    largest = np.array([float(np.abs(clip.landmarks).max(initial=0)) for clip in clips.clips])
    usual = float(np.median(largest))
    wild = np.flatnonzero(largest > _WILD * usual) if usual > 0 else ()
    if not len(wild):
        return []
    return [
        Finding(
            "wild values",
            f"{len(wild)} clips have values of up to {largest.max():.4g} where most have none "
            f"above {usual:.2g}: {some([clips.clips[at].source for at in wild])}",
            "repair those clips or take them out",
        )
    ]


def _of_signers(clips: ClipSet) -> list[Finding]:
    known = set(clips.signers) - {UNKNOWN_SIGNER}
    splits = _signers_by_split(clips)
    both = sorted(splits["train"] & splits["test"] - {UNKNOWN_SIGNER})
    if not both or not known:
        return []
    return [
        Finding(
            "signers in both",
            f"{len(both)} signers are in train and in test: {some(both)}",
            "the test then says little about strangers; divide by signers, or use --test-signers",
        )
    ]


def _signers_by_split(clips: ClipSet) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for clip in clips.clips:
        found[clip.split].add(clip.signer)
    return found


def _of_classes(clips: ClipSet) -> list[Finding]:
    names, findings = clips.class_names, []
    present = set(clips.labels.tolist())
    if len(present) == 1:
        findings.append(
            Finding(
                "one class",
                f"all clips are of one class, '{names[next(iter(present))]}'",
                "a folder a sign is expected: look whether the path is one level too deep",
            )
        )
    empty = [name for label, name in enumerate(names) if label not in present]
    # A part to test on need not have every class.
    if empty and not {clip.split for clip in clips.clips} <= {"val", "test"}:
        findings.append(
            Finding(
                "empty classes",
                f"{len(empty)} of {len(names)} classes have no clip: {some(empty)}",
                "a model would have outputs for them that never come; record them, or take them "
                "out of the label file",
            )
        )
    by_split: dict[str, set[int]] = defaultdict(set)
    for clip in clips.clips:
        by_split[clip.split].add(clip.label)
    if by_split["train"]:
        untrained = sorted((by_split["test"] | by_split["val"]) - by_split["train"])
        if untrained:
            findings.append(
                Finding(
                    "untrained classes",
                    f"{len(untrained)} classes are tested on and have no training clip: "
                    f"{some([names[label] for label in untrained])}",
                    "record them, or divide the clips of every class",
                )
            )
    return findings


def _of_duplicates(clips: ClipSet, facts: dict[str, str]) -> list[Finding]:
    seen: dict[bytes, Clip] = {}
    twice: list[tuple[Clip, Clip]] = []
    for clip in track(clips.clips, "comparing"):
        digest = hashlib.sha256(np.ascontiguousarray(clip.landmarks).tobytes()).digest()
        first = seen.setdefault(digest, clip)
        if first is not clip:
            twice.append((first, clip))
    if not twice:
        return []
    facts["duplicates"] = f"{len(twice)} clips are copies of others"
    findings = []
    across = [(one, other) for one, other in twice if one.split != other.split]
    if across:
        findings.append(
            Finding(
                "duplicates",
                f"{len(across)} recordings are in two splits, as {across[0][0].source} and "
                f"{across[0][1].source}",
                "a test on what was trained on says nothing; remove one of each",
            )
        )
    unlike = [(one, other) for one, other in twice if one.label != other.label]
    if unlike:
        findings.append(
            Finding(
                "two labels",
                f"{len(unlike)} recordings have two labels, as {unlike[0][0].source} and "
                f"{unlike[0][1].source}",
                "correct one of each",
            )
        )
    return findings


def counts_by_split(clips: ClipSet) -> list[tuple[str, ...]]:
    """Rows for a table: class, then clips and signers of each split that there is."""
    splits = [split for split in ("train", "val", "test", "all")
              if any(clip.split == split for clip in clips.clips)]  # fmt: skip
    number: Counter[tuple[int, str]] = Counter()
    who: dict[tuple[int, str], set[str]] = defaultdict(set)
    for clip in clips.clips:
        number[clip.label, clip.split] += 1
        who[clip.label, clip.split].add(clip.signer)
    rows = [("class", *splits)]
    for label, name in enumerate(clips.class_names):
        cells = (f"{number[label, split]} / {len(who[label, split])}" for split in splits)
        rows.append((name, *cells))
    return rows

"""Whether landmarks are what they are taken for, seen from where they lie on a body.

A pose's wrist is where the hand begins, the nose is above and between the shoulders, the detector
finds a hand whole or not at all. Where most frames say otherwise, the landmarks stand in another
order, hands are exchanged, an axis points the other way, or the unit is another one. Nothing is
repaired: each finding names the option that does it.

Legend: F frames, K landmarks, D coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from signbart.landmarks.source import LARGEST_USUAL
from signbart.landmarks.source_layouts import SOURCE_LAYOUTS
from signbart.recordings.frames import ENOUGH, PARTS, Frames, length_of, share_of

# Shares of frames. Sound recordings keep to what is checked in 98 % of theirs.
MOST, FEW = 0.8, 0.5
# Shoulder widths between a pose's wrist and the hand that begins there; sound ones: 0.2 at most in
# nine of ten frames.
_NEAR = 0.5
_SIDES = ("left", "right")
_MIDDLE = ("nose", "left_shoulder", "right_shoulder")


@dataclass(frozen=True)
class Finding:
    """Something suspicious.

    Attributes:
        kind: One word, for tests and scripts.
        text: What is seen.
        remedy: What to do about it.
    """

    kind: str
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}"


def examine(points: np.ndarray, names: Sequence[str], metres: bool) -> list[Finding]:
    """What is suspicious about frames (F, K, D) whose landmarks are taken for `names`."""
    frames = Frames(points, names)
    wrong = _order(frames, names, metres)
    if wrong:
        return [wrong]  # everything else would follow from that
    checks = (_joints,) if metres else (_unit, _direction, _mirror, _hands)
    return [finding for check in checks for finding in check(frames)]


def fit(points: np.ndarray, names: Sequence[str], metres: bool) -> float | None:
    """In which share of the frames the landmarks lie as on a body; None where nothing tells."""
    return (_joint_fit if metres else _body_fit)(Frames(points, names))


def shares(points: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Part of the body -> share of the frames in which something of it was found."""
    frames = Frames(points, names)
    parts = {"left hand": "left_hand_", "right hand": "right_hand_", "face": "face_"}
    groups = {part: frames.group(prefix) for part, prefix in parts.items()}
    rest = set(range(len(names))) - {at for members in groups.values() for at in members}
    groups = {"body": sorted(rest), **groups}
    return {
        part: float(frames.there[:, members].any(axis=1).mean())
        for part, members in groups.items()
        if members
    }


def _order(frames: Frames, names: Sequence[str], metres: bool) -> Finding | None:
    """Whether the landmarks stand in another order than they are taken for."""
    fit = _joint_fit if metres else _body_fit
    own = fit(frames)
    if own is None or own >= FEW:
        return None
    better = []
    for layout in SOURCE_LAYOUTS.values():
        # Recordings in the assumed order, read as that layout would.
        other_rows = bool(layout.parts)  # the same order as another layout
        if layout.num_keypoints != len(names) or (layout.unit == "metres") != metres or other_rows:
            continue
        other = fit(Frames(frames.points[:, layout.selection[0]], layout.selection[1]))
        if layout.names != tuple(names) and other is not None:
            better.append((other, layout.name))
    share, name = max(better, default=(0.0, ""))
    if share >= MOST:
        return Finding(
            "order",
            f"landmarks stand in another order than they are taken for: hands, nose and shoulders "
            f"fit in {own:.0%} of the frames, and in {share:.0%} as '{name}'",
            f"pass --source-layout {name}",
        )
    return Finding(
        "order",
        f"landmarks stand in no known order: hands, nose and shoulders fit in {own:.0%} of the "
        "frames",
        "describe their order in a YAML file and pass it with --source-layout",
    )


def _body_fit(frames: Frames) -> float | None:
    """How well an order fits a body in images: the smallest of the shares of what is checked.

    Which hand is whose, and where y and x point, does not count here.
    """
    found = []
    if frames.has("nose", "left_shoulder", "right_shoulder"):
        left, right = frames.at("left_shoulder"), frames.at("right_shoulder")
        width = length_of(left - right)
        off = np.abs(frames.at("nose")[:, 0] - (left + right)[:, 0] / 2)
        high = np.abs(frames.at("nose")[:, 1] - (left + right)[:, 1] / 2)
        fits = (off < width) & (high > 0.1 * width) & (high < 2.5 * width)
        found.append(share_of(fits, off, high))
        for side in _SIDES:
            if not frames.has(f"{side}_hand_wrist", "left_wrist", "right_wrist"):
                continue
            hand = frames.at(f"{side}_hand_wrist")
            to_left, to_right = (length_of(hand - frames.at(f"{arm}_wrist")) for arm in _SIDES)
            apart = np.fmin(to_left, to_right)
            found.append(share_of(apart < _NEAR * width, apart, width))
        for prefix in PARTS:
            members = frames.group(prefix)
            if len(members) > 1:
                # A hand is small, and so is a face.
                extent = frames.extent(members)
                found.append(share_of(extent < width, extent, width))
    for prefix in PARTS:
        members = frames.group(prefix)
        if len(members) > 1:
            there = frames.there[:, members].mean(axis=1)
            some = there[there > 0]
            # Single points may lack where they were unsure; half of a hand does not.
            found.append(float((some > FEW).mean()) if len(some) >= ENOUGH else None)
    known = [share for share in found if share is not None]
    return min(known) if known else None


def _joint_fit(frames: Frames) -> float | None:
    """How well an order fits a body in metres: head, neck and spine in a row, hands at wrists."""
    if not frames.has("Head", "Neck", "SpineBase", "HandLeft", "WristLeft", "ElbowLeft"):
        return None
    head, neck, base = (frames.at(name)[:, 1] for name in ("Head", "Neck", "SpineBase"))
    row = (head - neck) * (neck - base) > 0
    hand, wrist, elbow = (frames.at(f"{name}Left") for name in ("Hand", "Wrist", "Elbow"))
    near = length_of(hand - wrist) < length_of(hand - elbow)
    found = [share_of(row, head, neck, base), share_of(near, hand[:, 0], wrist[:, 0], elbow[:, 0])]
    known = [share for share in found if share is not None]
    return min(known) if known else None


def _unit(frames: Frames) -> list[Finding]:
    """Pixels, or coordinates about the picture's middle."""
    # Not the face, whose many landmarks are all at one place.
    body = [at for name, at in frames.index.items() if not name.startswith("face_")]
    found = frames.points[:, body, :2][frames.there[:, body]]
    if len(found) < ENOUGH:
        return []
    typical = float(np.median(np.abs(found)))
    if typical > LARGEST_USUAL:
        return [
            Finding(
                "pixels",
                f"coordinates are about {typical:.0f} in size and look like pixels",
                "pass --image-size WIDTHxHEIGHT",
            )
        ]
    # Only x, and only where a signer's head and shoulders are: y may point up, legs lie anywhere.
    middle = [frames.index[name] for name in _MIDDLE if frames.has(name)] or body
    found = frames.points[:, middle, 0][frames.there[:, middle]]
    below = float((found < 0).mean()) if len(found) else 0.0
    if below < 0.15:
        return []
    # Signers fill about the same part of a picture: shoulders a quarter of its width, or half of it
    # where that is 2.
    span = 0.5
    if frames.has("left_shoulder", "right_shoulder"):
        width = length_of(frames.at("left_shoulder") - frames.at("right_shoulder"))
        span = 1.0 if np.nanmedian(width) > 0.38 else 0.5
    return [
        Finding(
            "centred",
            f"x is below 0 in {below:.0%} of the points of head and shoulders: coordinates run "
            "about the middle of the picture and not from its corner",
            f"pass --centred {span:g}, or 1 where they run from -1 to 1"
            if span < 1
            else "pass --centred 1, or 0.5 where they run from -0.5 to 0.5",
        )
    ]


def _direction(frames: Frames) -> list[Finding]:
    """Whether y points up."""
    if not frames.has("nose", "left_shoulder", "right_shoulder"):
        return []
    nose = frames.at("nose")[:, 1]
    shoulders = (frames.at("left_shoulder") + frames.at("right_shoulder"))[:, 1] / 2
    below = share_of(nose > shoulders, nose, shoulders)
    if below is None or below < MOST:
        return []
    return [
        Finding(
            "y up",
            f"the nose is below the shoulders in {below:.0%} of the frames: y points up",
            "pass --flip-y",
        )
    ]


def _mirror(frames: Frames) -> list[Finding]:
    """Whether the picture was mirrored after its landmarks were found."""
    if not frames.has("left_shoulder", "right_shoulder"):
        return []
    left, right = frames.at("left_shoulder")[:, 0], frames.at("right_shoulder")[:, 0]
    crossed = share_of(left < right, left, right)
    if crossed is None or crossed < MOST:
        return []
    return [
        Finding(
            "mirrored",
            f"the left shoulder is left of the right one in {crossed:.0%} of the frames: x is "
            "mirrored, or signers turn their backs",
            "pass --mirror",
        )
    ]


def _hands(frames: Frames) -> list[Finding]:
    """Whether each hand is at the other arm's wrist."""
    shares = []
    for side, other in (("left", "right"), ("right", "left")):
        if not frames.has(f"{side}_hand_wrist", f"{side}_wrist", f"{other}_wrist"):
            return []
        hand = frames.at(f"{side}_hand_wrist")
        own = length_of(hand - frames.at(f"{side}_wrist"))
        across = length_of(hand - frames.at(f"{other}_wrist"))
        shares.append(share_of(across < own, own, across))
    known = [share for share in shares if share is not None]
    if not known or min(known) < MOST:
        return []
    return [
        Finding(
            "hands",
            f"hands are at the other arm's wrist in {min(known):.0%} of the frames: left and right "
            "hand are exchanged",
            "pass --swap-hands",
        )
    ]


def _joints(frames: Frames) -> list[Finding]:
    """In metres: where y and x point."""
    if not frames.has("Head", "SpineBase", "ShoulderLeft", "ShoulderRight"):
        return []
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]] = {
        "y up": (frames.at("Head")[:, 1], frames.at("SpineBase")[:, 1]),
        "mirrored": (frames.at("ShoulderRight")[:, 0], frames.at("ShoulderLeft")[:, 0]),
    }
    texts = {
        "y up": ("the head is below the spine's base", "y points down", "pass --flip-y"),
        "mirrored": ("the left shoulder is right of the right one", "x is mirrored, or signers "
                     "turn their backs", "pass --mirror"),
    }  # fmt: skip
    findings = []
    for kind, (greater, smaller) in pairs.items():
        wrong = share_of(greater < smaller, greater, smaller)
        if wrong is not None and wrong >= MOST:
            what, why, remedy = texts[kind]
            findings.append(Finding(kind, f"{what} in {wrong:.0%} of the frames: {why}", remedy))
    return findings

"""Landmark layouts as data: names, groups, the left/right exchange, the skeleton's edges.

Every layout is an ordered list of landmarks. The Holistic layouts are selections from MediaPipe
Holistic's 543 landmarks (33 pose, 21 left hand, 21 right hand, 468 face), so their names, edges and
mirror pairs follow from that one. Legend: K landmarks in a layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from signbart.errors import ConfigError
from signbart.landmarks import face_mesh

_POSE = (
    "nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer "
    "left_ear right_ear mouth_left mouth_right left_shoulder right_shoulder left_elbow right_elbow "
    "left_wrist right_wrist left_pinky right_pinky left_index right_index left_thumb right_thumb "
    "left_hip right_hip left_knee right_knee left_ankle right_ankle left_heel right_heel "
    "left_foot_index right_foot_index"
).split()
_HAND = (
    "wrist thumb_cmc thumb_mcp thumb_ip thumb_tip index_mcp index_pip index_dip index_tip "
    "middle_mcp middle_pip middle_dip middle_tip ring_mcp ring_pip ring_dip ring_tip "
    "pinky_mcp pinky_pip pinky_dip pinky_tip"
).split()
# Microsoft Kinect's joint names, in the order of the recordings that this layout describes.
_KINECT = (
    "Head Neck ShoulderLeft ShoulderRight ElbowLeft ElbowRight WristLeft WristRight HandLeft "
    "HandRight SpineMid SpineBase HipLeft HipRight KneeLeft KneeRight AnkleLeft AnkleRight "
    "FootLeft FootRight"
).split()

_POSE_EDGES = (
    (0, 1), (1, 2), (2, 3), (3, 7), (0, 4), (4, 5), (5, 6), (6, 8), (9, 10), (11, 12), (11, 13),
    (13, 15), (15, 17), (15, 19), (15, 21), (17, 19), (12, 14), (14, 16), (16, 18), (16, 20),
    (16, 22), (18, 20), (11, 23), (12, 24), (23, 24), (23, 25), (24, 26), (25, 27), (26, 28),
    (27, 29), (28, 30), (29, 31), (30, 32), (27, 31), (28, 32),
)  # fmt: skip
_HAND_EDGES = (
    (0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 6), (6, 7), (7, 8), (5, 9), (9, 10), (10, 11),
    (11, 12), (9, 13), (13, 14), (14, 15), (15, 16), (13, 17), (0, 17), (17, 18), (18, 19),
    (19, 20),
)  # fmt: skip
_KINECT_EDGES = (
    (0, 1), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7), (6, 8), (7, 9), (1, 10), (10, 11),
    (11, 12), (11, 13), (12, 14), (13, 15), (14, 16), (15, 17), (16, 18), (17, 19),
)  # fmt: skip

_N_POSE, _N_HAND, _N_FACE = len(_POSE), len(_HAND), len(face_mesh.MIRROR)
_LEFT_HAND = tuple(range(_N_POSE, _N_POSE + _N_HAND))
_RIGHT_HAND = tuple(range(_N_POSE + _N_HAND, _N_POSE + 2 * _N_HAND))
_FACE_START = _N_POSE + 2 * _N_HAND

_EYES = (33, 133, 160, 159, 158, 144, 145, 362, 263, 387, 386, 385, 373, 374)
# Face Mesh ids of the published selections.
_FACE_25 = (10, 338, 297, 332, 172, 152, 397, 103, 67, 109, *_EYES, 1)
# Mouth, eyes, brows, nose, with a pose of 25: for models that take 178 numbers a frame.
_FACE_22 = (
    81, 13, 311, 61, 178, 14, 402, 291, 33, 133, 159, 362, 263, 386, 70, 107, 46, 300, 336, 276,
    1, 4,
)  # fmt: skip
_FACE_25_OF_100 = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, *_EYES, 1)
_FACE_6 = (10, 338, 297, 67, 234, 454)
_POSE_15 = (0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14, 15, 16)


@dataclass(frozen=True)
class Layout:
    """An ordered set of K landmarks.

    Attributes:
        name: Key in `LAYOUTS`.
        description: One line for help texts.
        unit: ``"image"`` (x, y as shares of the image, y down, (0, 0) = not detected) or
            ``"metres"`` (x right, y up, z depth).
        names: K landmark names.
        groups: Group name -> landmark indices that are normalised together; they partition K.
        flip: K indices; ``landmarks[:, flip]`` exchanges left and right. An involution; landmarks
            without a partner map to themselves.
        edges: Pairs of indices that a drawing connects.
        holistic: K indices into holistic543, for the layouts that are selections from it; None for
            the others.
    """

    name: str
    description: str
    unit: str
    names: tuple[str, ...]
    groups: dict[str, tuple[int, ...]]
    flip: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]
    holistic: tuple[int, ...] | None = None

    @property
    def num_keypoints(self) -> int:
        """K, the number of landmarks."""
        return len(self.names)

    def index(self, name: str) -> int:
        """The index of the landmark called `name`; raises `ConfigError` where there is none."""
        try:
            return self.names.index(name)
        except ValueError:
            raise ConfigError(f"layout '{self.name}' has no landmark named '{name}'") from None


def _select(holistic: Layout, name: str, description: str, indices: Sequence[int]) -> Layout:
    """The layout that holds only `indices` of `holistic`, in that order."""
    position = {index: at for at, index in enumerate(indices)}
    groups = {
        group: tuple(position[i] for i in indices if i in set(members))
        for group, members in holistic.groups.items()
    }
    return Layout(
        name=name,
        description=description,
        unit=holistic.unit,
        names=tuple(holistic.names[i] for i in indices),
        groups={group: members for group, members in groups.items() if members},
        # A selection may hold one side of a pair only: such a landmark stays where it is.
        flip=tuple(position.get(holistic.flip[i], position[i]) for i in indices),
        edges=tuple(
            (position[a], position[b]) for a, b in holistic.edges if {a, b} <= set(indices)
        ),
        holistic=tuple(indices),
    )


def _mirror_by_name(names: Sequence[str], left: str, right: str) -> tuple[int, ...]:
    """Pairs names that differ only in `left` / `right`; every other landmark is its own mirror."""
    exchange = {left: right, right: left}
    index = {name: at for at, name in enumerate(names)}

    def mirrored(name: str) -> str:
        side = left if left in name else right if right in name else ""
        return name.replace(side, exchange[side]) if side else name

    return tuple(index[mirrored(name)] for name in names)


def _holistic_543() -> Layout:
    names = (
        *_POSE,
        *(f"left_hand_{joint}" for joint in _HAND),
        *(f"right_hand_{joint}" for joint in _HAND),
    )
    oval = [_FACE_START + i for i in face_mesh.OVAL]
    return Layout(
        name="holistic543",
        description="MediaPipe Holistic: pose 33, hands 21 + 21, face mesh 468",
        unit="image",
        names=(*names, *(f"face_{i}" for i in range(_N_FACE))),
        groups={
            "body": tuple(range(_N_POSE)),
            "left_hand": _LEFT_HAND,
            "right_hand": _RIGHT_HAND,
            "face": tuple(range(_FACE_START, _FACE_START + _N_FACE)),
        },
        flip=(
            *_mirror_by_name(names, "left", "right"),
            *(_FACE_START + i for i in face_mesh.MIRROR),
        ),
        edges=(
            *_POSE_EDGES,
            *((_LEFT_HAND[a], _LEFT_HAND[b]) for a, b in _HAND_EDGES),
            *((_RIGHT_HAND[a], _RIGHT_HAND[b]) for a, b in _HAND_EDGES),
            *zip(oval, oval[1:] + oval[:1], strict=True),
        ),
    )


def _build() -> dict[str, Layout]:
    holistic = _holistic_543()
    hands = (*_LEFT_HAND, *_RIGHT_HAND)

    def face(ids: Sequence[int]) -> tuple[int, ...]:
        return tuple(_FACE_START + i for i in ids)

    kinect = Layout(
        name="kinect20",
        description="Microsoft Kinect: 20 joints, metres",
        unit="metres",
        names=tuple(_KINECT),
        groups={"body": tuple(range(len(_KINECT)))},
        flip=_mirror_by_name(_KINECT, "Left", "Right"),
        edges=_KINECT_EDGES,
    )
    selections = (
        ("kp63", "pose 15, hands 21 + 21, face 6", (*_POSE_15, *hands, *face(_FACE_6))),
        ("kp65", "pose 23, hands 21 + 21", (*range(23), *hands)),
        ("kp75", "pose 33, hands 21 + 21", (*range(_N_POSE), *hands)),
        ("kp89", "pose 25, hands 21 + 21, face 22", (*range(25), *hands, *face(_FACE_22))),
        ("kp90", "pose 23, hands 21 + 21, face 25", (*range(23), *hands, *face(_FACE_25))),
        ("kp100", "pose 33, hands 21 + 21, face 25",
         (*range(_N_POSE), *hands, *face(_FACE_25_OF_100))),
    )  # fmt: skip
    layouts = [kinect, *(_select(holistic, *selection) for selection in selections), holistic]
    return {layout.name: layout for layout in layouts}


# In ascending number of landmarks.
LAYOUTS: dict[str, Layout] = _build()


def get_layout(name: str) -> Layout:
    """The layout called `name`; raises `ConfigError` listing the known ones."""
    try:
        return LAYOUTS[name]
    except KeyError:
        known = ", ".join(f"{key} ({value.description})" for key, value in LAYOUTS.items())
        raise ConfigError(f"unknown landmark layout '{name}'; known: {known}") from None


def smallest_image_layout(highest_index: int) -> Layout | None:
    """The image layout with the fewest landmarks that still contains `highest_index`, or None.

    The published YAML files list joint indices without saying into what; for all of them this rule
    gives the layout that their recordings have. kp89, which none of them uses, is left out.
    """
    fitting = (
        layout for layout in LAYOUTS.values() if layout.unit == "image" and layout.name != "kp89"
    )
    return next((layout for layout in fitting if layout.num_keypoints > highest_index), None)

"""Landmark layouts: what left and right, groups and edges point at is what their names say."""

import itertools
import json

import pytest

from signbart.errors import ConfigError
from signbart.landmarks import face_mesh
from signbart.landmarks.layouts import LAYOUTS, get_layout, smallest_image_layout

SIZES = {
    "kinect20": 20,
    "kp63": 63,
    "kp65": 65,
    "kp75": 75,
    "kp89": 89,
    "kp90": 90,
    "kp100": 100,
    "holistic543": 543,
}
# Written out from the data set's description: pose 0-22, hands 33-74, face 75 + Face Mesh id.
KP90_FACE = "10 338 297 332 172 152 397 103 67 109 33 133 160 159 158 144 145 362 263 387 386 385"
KP90 = [*range(23), *range(33, 75), *(75 + int(i) for i in f"{KP90_FACE} 373 374 1".split())]

every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))


def swapped(name: str) -> str:
    """A landmark's name on the other side, by letters alone."""
    for left, right in (("left", "right"), ("Left", "Right")):
        if left in name or right in name:
            return name.replace(left, "#").replace(right, left).replace("#", right)
    return name


def test_sizes_and_order():
    assert {name: layout.num_keypoints for name, layout in LAYOUTS.items()} == SIZES
    assert all(name == layout.name for name, layout in LAYOUTS.items())


@every_layout
def test_names_are_unique_and_found(layout):
    assert len(set(layout.names)) == layout.num_keypoints
    assert [layout.index(name) for name in layout.names] == [*range(layout.num_keypoints)]
    with pytest.raises(ConfigError, match=f"'{layout.name}' has no landmark named 'tail'"):
        layout.index("tail")


@every_layout
def test_flip_is_an_involution_that_exchanges_names(layout):
    assert sorted(layout.flip) == [*range(layout.num_keypoints)]
    assert [layout.flip[partner] for partner in layout.flip] == [*range(layout.num_keypoints)]
    for name, partner in zip(layout.names, layout.flip, strict=True):
        if name.startswith("face_"):
            mirror = f"face_{face_mesh.MIRROR[int(name.removeprefix('face_'))]}"
            expected = mirror if mirror in layout.names else name
        else:
            expected = swapped(name)
        assert layout.names[partner] == expected
    # Otherwise a flip that does nothing would pass for layouts whose names say no side.
    assert sum(at != partner for at, partner in enumerate(layout.flip)) >= 16


def test_swapped_names_are_different_names():
    """The control of the test above."""
    assert swapped("left_hand_wrist") == "right_hand_wrist"
    assert swapped("HipRight") == "HipLeft"
    assert swapped("nose") == "nose"


@pytest.mark.parametrize(
    ("one", "other"),
    # Outer and inner eye corners, lids, brows' ends, cheeks, jaw, mouth corners; then the mid-line.
    [(33, 263), (133, 362), (159, 386), (145, 374), (234, 454), (172, 397), (61, 291),
     (1, 1), (10, 10), (152, 152)],
)  # fmt: skip
def test_face_landmarks_mirror_as_on_a_face(one, other):
    assert (face_mesh.MIRROR[one], face_mesh.MIRROR[other]) == (other, one)


@every_layout
def test_groups_partition_the_landmarks(layout):
    members = [index for group in layout.groups.values() for index in group]
    assert sorted(members) == [*range(layout.num_keypoints)]
    assert all(layout.groups.values()), "an empty group"
    for group, indices in layout.groups.items():
        prefixes = ("left_hand_", "right_hand_", "face_")
        own = next((prefix for prefix in prefixes if prefix == f"{group}_"), None)
        assert list(indices) == [
            index
            for index, name in enumerate(layout.names)
            if (name.startswith(own) if own else not name.startswith(prefixes))
        ]
        # The flip stays within the face and the body, and carries one hand onto the other.
        partner = layout.groups[swapped(group)]
        assert {layout.flip[index] for index in indices} == set(partner)


@every_layout
def test_edges_join_landmarks_of_the_layout_and_mirror_each_other(layout):
    edges = {frozenset(edge) for edge in layout.edges}
    assert len(edges) == len(layout.edges) and all(len(edge) == 2 for edge in edges)
    assert all(0 <= index < layout.num_keypoints for edge in edges for index in edge)
    lonely = {  # landmarks whose partner was not selected
        i
        for i, partner in enumerate(layout.flip)
        if i == partner and layout.holistic
        if LAYOUTS["holistic543"].flip[layout.holistic[i]] != layout.holistic[i]
    }
    for edge in edges:
        if not edge & lonely:
            assert frozenset(layout.flip[index] for index in edge) in edges
    for hand in (layout.groups.get("left_hand", ()), layout.groups.get("right_hand", ())):
        assert len([edge for edge in edges if edge <= set(hand)]) == len(hand)


def named_edges(layout) -> set[frozenset[str]]:
    return {frozenset(layout.names[index] for index in edge) for edge in layout.edges}


def test_edges_of_the_hands_follow_the_fingers():
    palm = "thumb_cmc wrist index_mcp middle_mcp ring_mcp pinky_mcp wrist"
    chains = ["thumb_cmc thumb_mcp thumb_ip thumb_tip", palm]
    for finger in ("index", "middle", "ring", "pinky"):
        chains.append(" ".join(f"{finger}_{joint}" for joint in ("mcp", "pip", "dip", "tip")))
    pairs = [pair for chain in chains for pair in itertools.pairwise(chain.split())]
    found = named_edges(get_layout("kp65"))
    for side in ("left", "right"):
        expected = {frozenset(f"{side}_hand_{joint}" for joint in pair) for pair in pairs}
        assert {edge for edge in found if all(f"{side}_hand" in name for name in edge)} == expected
    assert {"left_elbow", "left_wrist"} in found and {"left_elbow", "right_wrist"} not in found


def test_edges_of_the_kinect_skeleton_follow_the_limbs():
    chains = ["Head Neck SpineMid SpineBase"]
    for side in ("Left", "Right"):
        arm, leg = "Shoulder Elbow Wrist Hand", "Hip Knee Ankle Foot"
        chains.append(" ".join(["Neck", *(f"{joint}{side}" for joint in arm.split())]))
        chains.append(" ".join(["SpineBase", *(f"{joint}{side}" for joint in leg.split())]))
    expected = {frozenset(pair) for chain in chains for pair in itertools.pairwise(chain.split())}
    assert named_edges(get_layout("kinect20")) == expected


@every_layout
def test_selections_carry_the_names_of_what_they_select(layout):
    if layout.holistic is None:
        assert layout.name in ("kinect20", "holistic543")
        return
    names = LAYOUTS["holistic543"].names
    assert [names[index] for index in layout.holistic] == list(layout.names)


def test_kp90_is_the_published_selection():
    assert list(get_layout("kp90").holistic) == KP90
    assert KP90[22:24] == [22, 33] and KP90[64:66] == [74, 85] and KP90[-1] == 76


def test_kp90_is_the_selection_that_the_recordings_name(fsl7_holistic):
    meta = json.loads((fsl7_holistic / "meta.json").read_text(encoding="utf-8"))
    assert list(get_layout("kp90").holistic) == meta["kp90_index"]


def test_kinect20_has_the_order_of_the_recordings(isl_kinect30):
    meta = json.loads((isl_kinect30 / "meta.json").read_text(encoding="utf-8"))
    assert list(get_layout("kinect20").names) == meta["keypoints"]


def test_kp89_is_the_published_apps():
    face = "81 13 311 61 178 14 402 291 33 133 159 362 263 386 70 107 46 300 336 276 1 4"
    kp89 = get_layout("kp89")
    assert list(kp89.holistic) == [
        *range(25), *range(33, 75), *(75 + int(index) for index in face.split())
    ]  # fmt: skip
    assert kp89.names[23:26] == ("left_hip", "right_hip", "left_hand_wrist")
    pairs = {(81, 311), (178, 402), (61, 291), (33, 263), (133, 362), (159, 386), (70, 300),
             (107, 336), (46, 276), (13, 13), (14, 14), (1, 1), (4, 4)}  # fmt: skip
    for one, other in pairs:
        index = kp89.index(f"face_{one}")
        assert kp89.names[kp89.flip[index]] == f"face_{other}"


@pytest.mark.parametrize(
    ("highest", "name"),
    [(0, "kp63"), (62, "kp63"), (63, "kp65"), (74, "kp75"), (75, "kp90"), (89, "kp90"),
     (90, "kp100"), (100, "holistic543"), (542, "holistic543"), (543, None)],
)  # fmt: skip
def test_the_smallest_image_layout(highest, name):
    layout = smallest_image_layout(highest)
    assert (layout.name if layout else None) == name


def test_an_unknown_layout_lists_the_known_ones():
    with pytest.raises(ConfigError) as raised:
        get_layout("kp91")
    assert "'kp91'" in str(raised.value)
    assert all(name in str(raised.value) for name in SIZES)

"""The landmarks of other programs, by the names that `layouts` uses.

What no model layout has, keeps the name that its program gives it.
"""

from __future__ import annotations

from signbart.landmarks.layouts import LAYOUTS

_HOLISTIC = LAYOUTS["holistic543"]

POSE = tuple(_HOLISTIC.names[index] for index in _HOLISTIC.groups["body"])
LEFT_HAND = tuple(_HOLISTIC.names[index] for index in _HOLISTIC.groups["left_hand"])
RIGHT_HAND = tuple(_HOLISTIC.names[index] for index in _HOLISTIC.groups["right_hand"])
FACE = tuple(_HOLISTIC.names[index] for index in _HOLISTIC.groups["face"])
FACE_WITH_IRISES = tuple(f"face_{index}" for index in range(478))

# OpenPose's BODY_25. A big toe is where MediaPipe's foot index is.
OPENPOSE_BODY = tuple(
    "nose body_neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist "
    "body_mid_hip right_hip right_knee right_ankle left_hip left_knee left_ankle right_eye "
    "left_eye right_ear left_ear left_foot_index left_small_toe left_heel right_foot_index "
    "right_small_toe right_heel".split()
)
COCO_BODY = tuple(
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow "
    "right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle "
    "right_ankle".split()
)
COCO_FEET = tuple(
    "left_foot_index left_small_toe left_heel right_foot_index right_small_toe right_heel".split()
)

# The 68 landmarks of iBUG's scheme, which OpenPose and COCO-WholeBody use, and the Face Mesh ids at
# the same places of a face. The sides of the jaw (0 to 16 but for the chin) have none: they follow
# the outline that the camera sees. 68 and 69 are OpenPose's pupils.
_IBUG_AS_MESH = {
    8: 152,
    17: 70, 18: 63, 19: 105, 20: 66, 21: 107, 22: 336, 23: 296, 24: 334, 25: 293, 26: 300,
    27: 168, 28: 197, 29: 5, 30: 4, 31: 75, 32: 97, 33: 2, 34: 326, 35: 305,
    36: 33, 37: 160, 38: 158, 39: 133, 40: 153, 41: 144,
    42: 362, 43: 385, 44: 387, 45: 263, 46: 373, 47: 380,
    48: 61, 49: 39, 50: 37, 51: 0, 52: 267, 53: 269, 54: 291, 55: 405, 56: 314, 57: 17, 58: 84,
    59: 181, 60: 78, 61: 82, 62: 13, 63: 312, 64: 308, 65: 317, 66: 14, 67: 87,
    68: 468, 69: 473,
}  # fmt: skip
OPENPOSE_FACE = tuple(
    f"face_{_IBUG_AS_MESH[index]}" if index in _IBUG_AS_MESH else f"jaw_{index}"
    for index in range(70)
)

# The orders of Microsoft's SDKs; v1 names three joints of the spine otherwise.
KINECT_V1 = tuple(
    "SpineBase SpineMid Neck Head ShoulderLeft ElbowLeft WristLeft HandLeft ShoulderRight "
    "ElbowRight WristRight HandRight HipLeft KneeLeft AnkleLeft FootLeft HipRight KneeRight "
    "AnkleRight FootRight".split()
)
KINECT_V2 = (
    *KINECT_V1,
    *"SpineShoulder HandTipLeft ThumbLeft HandTipRight ThumbRight".split(),
)

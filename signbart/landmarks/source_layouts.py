"""Source layouts: which landmark stands where in the recordings that people bring.

A source layout names its landmarks as the model layouts do (`layouts`), so that any source that has
a model layout's landmarks feeds it, whatever their order there. Landmarks that no model layout has
keep a name of their own.

Legend: T frames, K landmarks of the source, D numbers a landmark.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from signbart.errors import ClipError, ConfigError
from signbart.landmarks import source_names as names
from signbart.landmarks.layouts import LAYOUTS
from signbart.landmarks.source import METRES, XYC, SourceLayout, as_source


def _build() -> dict[str, SourceLayout]:
    pose, left, right = names.POSE, names.LEFT_HAND, names.RIGHT_HAND
    face = names.FACE
    layouts = [
        *(as_source(layout) for layout in LAYOUTS.values()),
        SourceLayout(
            "pose-left-right-face",
            "MediaPipe Holistic, 543: the order of holistic543",
            (*pose, *left, *right, *face),
        ),
        SourceLayout(
            "face-left-pose-right",
            "MediaPipe Holistic, 543: the order of Google's tables",
            (*face, *left, *pose, *right),
        ),
        SourceLayout(
            "pose-face-left-right",
            "MediaPipe Holistic, 543: the order of tutorials and of .pose files",
            (*pose, *face, *left, *right),
        ),
        SourceLayout(
            "tutorial1662",
            "a row of 1662 a frame: pose 33 × 4, face 468 × 3, hands 21 × 3 each",
            (*pose, *face, *left, *right),
            channels={4: "xyzv"},
            parts=((33, 4), (468, 3), (42, 3)),
        ),
        SourceLayout(
            "tutorial258",
            "a row of 258 a frame: pose 33 × 4, hands 21 × 3 each",
            (*pose, *left, *right),
            channels={4: "xyzv"},
            parts=((33, 4), (42, 3)),
        ),
        SourceLayout(
            "left-pose-right",
            "MediaPipe without a face, 75: the order of Google's tables",
            (*left, *pose, *right),
        ),
        SourceLayout(
            "left-right-pose",
            "MediaPipe without a face, 75: hands 21 + 21, then pose 33",
            (*left, *right, *pose),
        ),
        SourceLayout(
            "tasks553",
            "MediaPipe Tasks: pose 33, hands 21 + 21, face 478 with the irises",
            (*pose, *left, *right, *names.FACE_WITH_IRISES),
        ),
        SourceLayout("pose33", "MediaPipe Pose alone, 33", pose),
        SourceLayout("hands42", "hands alone: left 21, right 21", (*left, *right)),
        SourceLayout(
            "openpose137",
            "OpenPose: body 25, hands 21 + 21, face 70; x, y, confidence",
            (*names.OPENPOSE_BODY, *left, *right, *names.OPENPOSE_FACE),
            channels=XYC,
            min_confidence=0.05,  # below this OpenPose itself does not draw a landmark
        ),
        SourceLayout(
            "coco-wholebody133",
            "COCO-WholeBody: body 17, feet 6, face 68, hands 21 + 21; x, y, confidence",
            (*names.COCO_BODY, *names.COCO_FEET, *names.OPENPOSE_FACE[:68], *left, *right),
            channels=XYC,
            min_confidence=0.3,  # MMPose's own limit for drawing
        ),
        SourceLayout(
            "coco17",
            "COCO's body, 17; x, y, confidence",
            names.COCO_BODY,
            channels=XYC,
            min_confidence=0.3,
        ),
        SourceLayout(
            "kinect-v1",
            "Kinect v1: 20 joints in the order of its SDK, metres",
            names.KINECT_V1,
            channels=METRES,
            unit="metres",
            up=True,
        ),
        SourceLayout(
            "kinect-v2",
            "Kinect v2: 25 joints in the order of its SDK, metres",
            names.KINECT_V2,
            channels=METRES,
            unit="metres",
            up=True,
        ),
    ]
    return {layout.name: layout for layout in layouts}


SOURCE_LAYOUTS: dict[str, SourceLayout] = _build()

# What K landmarks are where nobody says so; for other numbers nothing is supposed, such as for 17,
# which are COCO's in images and Human3.6M's in metres.
_BY_COUNT = {
    **{layout.num_keypoints: layout.name for layout in LAYOUTS.values()},
    **{33: "pose33", 42: "hands42", 133: "coco-wholebody133", 137: "openpose137", 553: "tasks553"},
}


def get_source_layout(name: str) -> SourceLayout:
    """The source layout called `name`, or described by the YAML file of that path.

    Raises:
        ConfigError: There is none; lists the known ones.
    """
    if name in SOURCE_LAYOUTS:
        return SOURCE_LAYOUTS[name]
    if name.endswith((".yaml", ".yml")):
        from signbart.landmarks.source_file import read_source_layout

        return read_source_layout(Path(name))
    raise ConfigError(
        f"unknown source layout '{name}'; known: {', '.join(SOURCE_LAYOUTS)}, or a .yaml file that "
        "describes one"
    )


def guess_source_layout(shape: Sequence[int]) -> tuple[SourceLayout | None, int]:
    """What frames of this shape are, where nobody says so, and how many numbers a landmark has.

    Args:
        shape: (T, K, D), or (T, F) for frames as rows.

    Returns:
        The layout and D, 0 for rows in parts; (None, 0) where nothing known has that shape.

    Raises:
        ClipError: Several known layouts have rows of this length.
    """
    if len(shape) == 3:
        found = SOURCE_LAYOUTS.get(_BY_COUNT.get(shape[1], ""))
        return (found, shape[2]) if found and shape[2] in found.channels else (None, 0)
    if len(shape) != 2:
        return None, 0
    # Orders that a count of landmarks does not tell apart are not guessed either.
    candidates = [SOURCE_LAYOUTS[name] for name in dict.fromkeys(_BY_COUNT.values())]
    candidates += [layout for layout in SOURCE_LAYOUTS.values() if layout.parts]
    fitting = [(layout, layout.widths()[shape[1]]) for layout in candidates
               if shape[1] in layout.widths()]  # fmt: skip
    if len(fitting) > 1:
        choices = ", ".join(f"{layout.name} × {each}" for layout, each in fitting)
        raise ClipError(
            f"{shape[1]} numbers a frame may be {choices}; say which with --source-layout"
        )
    return fitting[0] if fitting else (None, 0)

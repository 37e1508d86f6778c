"""From landmarks to model input: the contract that every checkpoint and artifact carries.

In order: into the plane (image layouts: clip to [0, 1]; metres: body-centred; `gaps_filled`: fill
short gaps first), select joints, resample to `max_frames` or less, [augment,] normalise each group,
pad, and for models that take one vector a frame flatten. The published order. As there, a landmark
beyond both the left and the upper edge is clipped to (0, 0), which is missing.

Legend: B batch, T frames, K keypoints, D coordinates (2 or 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from signbart.configuration.schema import RunConfig
from signbart.landmarks.layouts import Layout
from signbart.recordings.clip import ClipSet
from signbart.resampling import (
    LONGEST_GAP,
    describe_resampling,
    fill_gaps,
    frame_indices,
    resample_linear,
)

BOX_MARGIN = 0.05  # published: 5 % of the longer side, on every side

# Degenerate skeletons (every joint in one point) must not divide by zero; metres.
SHORTEST_TORSO = 1e-3
BODY_FRAME = ("Neck", "SpineBase", "ShoulderLeft", "ShoulderRight")  # Kinect's names

_FLATTEN = (
    "Write each frame as one vector: x and y of the first landmark, of the second, and so on."
)


def describe_steps(config: RunConfig) -> list[str]:
    """The preprocessing of a run in words, in order, exact enough to be written again elsewhere."""
    data = config.data
    linear = data.resample == "linear"
    steps = [
        describe_resampling(data.max_frames, holes=data.landmark_layout.unit == "image")
        if linear
        else f"Of a clip of T > {data.max_frames} frames keep those at floor(i (T - 1) / (n - 1)), "
        f"i = 0 … n - 1, n = {data.max_frames}; keep shorter clips whole."
    ]
    flatten = [_FLATTEN] if config.takes_features else []
    if data.normalization == "body_centred":
        steps.insert(
            0,
            "In metres, x right, y up, z depth, per clip from means over its frames: subtract the "
            "mean Neck; divide by the distance of the mean Neck and the mean SpineBase; with "
            "(dx, dz) the mean ShoulderRight minus the mean ShoulderLeft and w its length, the new "
            "x is (dx x + dz z) / w and the new y is -y"
            + (", the new z (dx z - dz x) / w." if config.coordinates == 3 else "."),
        )
        steps.insert(1, "Select the joints `joint_idx`, in that order.")
        return [*steps, *flatten]
    if data.normalization == "gaps_filled":
        return [
            "x and y as shares of the image's width and height, y down, (0, 0) for what was not "
            "detected. Select the joints `joint_idx`, in that order.",
            f"Where a joint is missing for at most {LONGEST_GAP} frames between two in which it is "
            "there, take x and y from the straight line between those two. Clip to [0, 1].",
            *steps,
            *flatten,
        ]
    missing = (
        "Points at exactly (0, 0) are missing: they do not count for the box and stay (0, 0)."
        if data.normalization == "bbox_ignore_missing"
        else "Points at (0, 0), which are missing ones, count like any other."
    )
    return [
        "x and y as shares of the image's width and height, y down, (0, 0) for what was not "
        "detected. Select the joints `joint_idx`, in that order, and clip to [0, 1].",
        *steps,
        "In each frame and each of `groups`: take the bounding box; widen it on every side by "
        f"{BOX_MARGIN:g} of its longer side, and the shorter side to the longer about its centre; "
        "cut it at 0 and 1; map it to [0, 1]. A box side of length 0 leaves its coordinate as it "
        f"is. {missing}",
        *flatten,
    ]


def preprocess(landmarks: np.ndarray, config: RunConfig) -> np.ndarray:
    """One recording as the model wants it, before padding.

    Args:
        landmarks: (T, K_layout, D) finite, in the layout that `config.data` names.
        config: The run's configuration.

    Returns:
        (T', K, D) float32, T' as `num_frames` says; D as the model takes, 2 (x, y) or 3.
    """
    return normalize(prepare(landmarks, config), config)


def num_frames(recorded: int, config: RunConfig) -> int:
    """T', the frames that a clip of `recorded` frames has for a model."""
    longest = config.data.max_frames
    return longest if config.data.resample == "linear" else min(recorded, longest)


def prepare(landmarks: np.ndarray, config: RunConfig, coordinates: int | None = None) -> np.ndarray:
    """The steps that come before augmentation: plane, joints, length.

    Args:
        landmarks: (T, K_layout, D) finite.
        config: The run's configuration.
        coordinates: D of the result; as the model takes by default.

    Returns:
        (T', K, D) float32.
    """
    landmarks = np.asarray(landmarks)
    linear = config.data.resample == "linear"
    layout = config.data.landmark_layout
    joints = np.asarray(config.joint_idx)
    coordinates = coordinates or config.coordinates
    frames: slice | np.ndarray = (
        slice(None) if linear else frame_indices(len(landmarks), config.data.max_frames)
    )
    if layout.unit == "metres":
        points = body_centred(landmarks, layout, coordinates)[frames].take(joints, axis=1)
    elif config.data.normalization == "gaps_filled":
        points = np.clip(fill_gaps(landmarks[..., :2].take(joints, axis=1)), 0.0, 1.0)[frames]
    else:
        # `take` needs a tenth of the time of an index on two axes.
        points = np.clip(landmarks[frames][..., :2].take(joints, axis=1), 0.0, 1.0)
    points = np.ascontiguousarray(points, dtype=np.float32)
    if linear:
        points = resample_linear(points, config.data.max_frames, holes=layout.unit == "image")
    return points


def normalize(points: np.ndarray, config: RunConfig) -> np.ndarray:
    """The step that comes after augmentation. (…, K, D) -> the same shape, float32."""
    if config.data.normalization in ("body_centred", "gaps_filled"):
        return points  # done by `prepare`, where the whole skeleton and every frame are at hand
    return normalize_boxes(
        points,
        joint_groups(config),
        ignore_missing=config.data.normalization == "bbox_ignore_missing",
    )


def as_model_input(points: np.ndarray, config: RunConfig) -> np.ndarray:
    """The last step, after padding: the shape that the model takes.

    (…, K, D) stays so for models that take points; those that take features get (…, D K), the
    landmarks in their order with their coordinates interleaved.
    """
    if not config.takes_features:
        return points
    return points.reshape(*points.shape[:-2], points.shape[-1] * points.shape[-2])


def joint_groups(config: RunConfig) -> dict[str, tuple[int, ...]]:
    """The layout's groups as positions among the selected joints; empty groups are left out."""
    layout = config.data.landmark_layout
    position = {joint: at for at, joint in enumerate(config.joint_idx)}
    groups = {
        name: tuple(position[joint] for joint in members if joint in position)
        for name, members in layout.groups.items()
    }
    return {name: members for name, members in groups.items() if members}


def joint_flip(config: RunConfig) -> np.ndarray:
    """(K,) positions that exchange left and right among the selected joints.

    A joint whose partner was not selected stays in its place.
    """
    layout = config.data.landmark_layout
    position = {joint: at for at, joint in enumerate(config.joint_idx)}
    return np.array([position.get(layout.flip[joint], at) for joint, at in position.items()])


def normalize_boxes(
    points: np.ndarray, groups: Mapping[str, Sequence[int]], *, ignore_missing: bool
) -> np.ndarray:
    """Maps each group, frame by frame, from its bounding box to [0, 1].

    The box gets a 5 % margin and is made square about its centre, then cut at the image's edges;
    a side of length zero leaves its coordinate as it is (SignBART's published preprocessing).

    Args:
        points: (…, K, 2), in [0, 1]; (0, 0) is a missing point.
        groups: Group name -> positions along K.
        ignore_missing: True: missing points neither widen the box nor move. False: they count as
            points at the corner of the image.

    Returns:
        A new array of the same shape, float32.
    """
    # Coordinates first: the smallest and largest of numbers that stand side by side are found
    # several times as fast.
    points = np.moveaxis(np.asarray(points, dtype=np.float32), -1, 0)
    result = points.copy()
    for members in groups.values():
        members = list(members)
        group = points[..., members]  # (2, …, G)
        if ignore_missing:
            counted = (group != 0.0).any(axis=0)
            low = np.where(counted, group, np.inf).min(axis=-1, keepdims=True)
            high = np.where(counted, group, -np.inf).max(axis=-1, keepdims=True)
            empty = ~counted.any(axis=-1, keepdims=True)
            low, high = np.where(empty, 0.0, low), np.where(empty, 0.0, high)
        else:
            low, high = group.min(axis=-1, keepdims=True), group.max(axis=-1, keepdims=True)
        sides = high - low
        longer = sides.max(axis=0)
        margin = BOX_MARGIN * longer + (longer - sides) / 2
        start = np.clip(low - margin, 0.0, 1.0)
        size = np.clip(high + margin, 0.0, 1.0) - start
        flat = size == 0.0
        scaled = np.where(flat, group, (group - start) / np.where(flat, 1.0, size))
        result[..., members] = np.where(counted, scaled, group) if ignore_missing else scaled
    return np.ascontiguousarray(np.moveaxis(result, 0, -1))


def body_centred(landmarks: np.ndarray, layout: Layout, coordinates: int = 2) -> np.ndarray:
    """Joints in metres seen from the front of the body, independent of place, heading and build.

    In each clip: the neck's mean position becomes the origin, the skeleton turns about the vertical
    until the shoulders face the camera, the mean torso (neck to the base of the spine) gets length
    1, and y points down as in images. One frame of reference for the whole clip, from means over
    its frames, so that leaning and turning remain visible as motion.

    Args:
        landmarks: (T, K, 3), metres, x right, y up, z depth.
        layout: A layout in metres with Kinect's joint names.
        coordinates: D of the result: 2 without a depth, or 3.

    Returns:
        (T, K, D) float32, in torso lengths: x and, where there is one, z turned with the body.
    """
    joints = landmarks[:, [layout.index(name) for name in BODY_FRAME]]
    # In float64 to the end: float32 means are rounded by their place in the room, which a short
    # torso magnifies, and the order in which float32 numbers are summed shows.
    neck, base, left, right = joints.mean(axis=0, dtype=np.float64)
    torso = max(float(np.linalg.norm(neck - base)), SHORTEST_TORSO)
    across = right - left
    width = float(np.hypot(across[0], across[2]))
    cosine, sine = (across[0] / width, across[2] / width) if width > 0 else (1.0, 0.0)
    centred = (landmarks - neck) / torso
    x = cosine * centred[..., 0] + sine * centred[..., 2]
    z = cosine * centred[..., 2] - sine * centred[..., 0]
    return np.stack([x, -centred[..., 1], z][:coordinates], axis=-1).astype(np.float32)


def pad(clips: Sequence[np.ndarray], length: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Stacks clips of different lengths.

    Args:
        clips: Arrays (T_i, K, D).
        length: T of the result; the longest clip's by default.

    Returns:
        ``keypoints`` (B, T, K, D) float32, zeros behind each clip, and ``attention_mask`` (B, T)
        int32, 1 a frame and 0 padding. The mask comes from lengths, never from coordinates: a frame
        in which nothing was detected is still a frame.
    """
    lengths = np.array([len(clip) for clip in clips])
    length = int(lengths.max()) if length is None else length
    keypoints = np.zeros((len(clips), length, *clips[0].shape[1:]), np.float32)
    for row, clip in zip(keypoints, clips, strict=True):
        row[: len(clip)] = clip
    mask = (np.arange(length) < lengths[:, None]).astype(np.int32)
    return keypoints, mask


def model_inputs(clips: ClipSet, config: RunConfig) -> tuple[np.ndarray, np.ndarray]:
    """Recordings as inputs of a model for `config.data.max_frames`.

    Args:
        clips: N recordings with the landmarks of the run's layout.
        config: The run's configuration.

    Returns:
        ``keypoints`` (N, T, K, D) float32, or (N, T, D K) for models that take features; padded
        frames are full of NaN, which a model must never read. ``attention_mask`` (N, T) int32.

    Raises:
        ClipError: The recordings do not fit the layout.
    """
    clips = clips.to_layout(config.data.landmark_layout)
    keypoints, mask = pad(
        [preprocess(clip.landmarks, config) for clip in clips.clips], config.data.max_frames
    )
    keypoints[mask == 0] = np.nan
    return as_model_input(keypoints, config), mask

"""Writes clips into the forms that people bring, as their own programs write them."""

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from signbart.landmarks.layouts import LAYOUTS
from signbart.recordings.clip import ClipSet

HOLISTIC = LAYOUTS["holistic543"].names
# In the order of a set's clips: every form's recordings are sorted by these.
Clips = list[tuple[str, str, np.ndarray]]  # class, name, (T, K, 2) in layout kp75 or holistic543


def named(clip_set: ClipSet) -> Clips:
    """Class, a name that says the signer and the repetition, and landmarks of each clip."""
    names = clip_set.class_names
    return [
        (names[clip.label], f"user{clip.signer[1:]}_{at:04d}_R{clip.repetition}", clip.landmarks)
        for at, clip in enumerate(clip_set.clips)
    ]


def with_gaps(landmarks: np.ndarray) -> np.ndarray:
    """Missing points as NaN, which is how most programs write them."""
    return np.where((landmarks == 0).all(axis=-1, keepdims=True), np.nan, landmarks)


def tree(write: Callable[[Path, np.ndarray], object], suffix: str):
    """`ROOT/<class>/<name><suffix>`, without label files."""

    def write_all(root: Path, clips: Clips) -> Path:
        for class_name, name, landmarks in clips:
            folder = root / class_name
            folder.mkdir(parents=True, exist_ok=True)
            write(folder / f"{name}{suffix}", landmarks)
        return root

    return write_all


def write_npy(path: Path, landmarks: np.ndarray) -> None:
    np.save(path, with_gaps(landmarks))


def write_big_endian(path: Path, landmarks: np.ndarray) -> None:
    np.save(path, np.asfortranarray(landmarks.astype(">f8")))


def write_flat(path: Path, landmarks: np.ndarray) -> None:
    np.save(path, landmarks.reshape(len(landmarks), -1))


def write_with_visibility(path: Path, landmarks: np.ndarray) -> None:
    more = np.full((*landmarks.shape[:2], 2), 0.25, np.float32)
    np.save(path, np.concatenate([landmarks, more], axis=-1))


def write_masked_npz(path: Path, landmarks: np.ndarray) -> None:
    """Rubbish where nothing was found, and a mask that says so; an array of objects beside it."""
    mask = (landmarks != 0).any(axis=-1)
    rubbish = np.where(mask[..., None], landmarks, 0.77)
    np.savez(path, X=rubbish.reshape(len(rubbish), -1), mask=mask, meta=np.array({"a": 1}))


def write_masked_pickle(path: Path, landmarks: np.ndarray) -> None:
    masked = np.ma.masked_invalid(with_gaps(landmarks))
    path.write_bytes(pickle.dumps({"keypoints": masked}))


def write_bare_pickle(path: Path, landmarks: np.ndarray) -> None:
    path.write_bytes(pickle.dumps(landmarks, protocol=2))


def write_tutorial_frames(path: Path, landmarks: np.ndarray) -> None:
    """A folder with a vector a frame: 1662 or 258 numbers, as the tutorials save them."""
    path.mkdir()
    count = landmarks.shape[1]
    for at, frame in enumerate(landmarks):
        pose = np.zeros((33, 4))
        pose[:, :2] = frame[:33]
        pose[:, 3] = 0.9
        hands, face = np.zeros((42, 3)), np.zeros((count - 75, 3))
        hands[:, :2], face[:, :2] = frame[33:75], frame[75:]
        np.save(path / f"{at}.npy", np.concatenate([pose.ravel(), face.ravel(), hands.ravel()]))


COMPONENTS = {
    "POSE_LANDMARKS": ([name.upper() for name in HOLISTIC[:33]], range(33)),
    "FACE_LANDMARKS": ([str(at) for at in range(468)], range(75, 543)),
    "LEFT_HAND_LANDMARKS": (None, range(33, 54)),
    "RIGHT_HAND_LANDMARKS": (None, range(54, 75)),
    "POSE_WORLD_LANDMARKS": ([name.upper() for name in HOLISTIC[:33]], range(33)),
}


def finger_names() -> list[str]:
    names = [name.removeprefix("left_hand_").upper() for name in HOLISTIC[33:54]]
    return [
        name.replace("_", "_FINGER_") if name.split("_")[0] in ("INDEX", "MIDDLE", "RING") else name
        for name in names
    ]


def write_pose(path: Path, landmarks: np.ndarray, version: float = 0.2) -> None:
    """A `.pose` file with two people, the first of whom was hardly found; pixels of 640 x 480."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value)) + value.encode()

    used = {
        name: part
        for name, part in COMPONENTS.items()
        if landmarks.shape[1] == 543 or name != "FACE_LANDMARKS"
    }
    parts = [struct.pack("<f3HH", version, 640, 480, 0, len(used))]
    order = []
    for name, (points, places) in used.items():
        points = points or finger_names()
        parts.append(text(name) + text("XYZC") + struct.pack("<3H", len(points), 1, 1))
        parts += [text(point) for point in points]
        parts.append(struct.pack("<2H3H", 0, 1, 255, 0, 0))
        order += list(places)
    frames = len(landmarks)
    if version == 0.2:
        parts.append(struct.pack("<fIH", 25.0, frames, 2))
    else:
        parts.append(struct.pack("<3H", 25, frames, 2))
    there = (landmarks != 0).any(axis=-1)
    pixels = np.zeros((frames, 2, len(order), 3), np.float32)
    pixels[..., :2] = (np.where(there[..., None], landmarks, 0.5) * (640, 480))[:, None, order]
    pixels[:, :, -33:] += 1000  # the world landmarks, which must not be taken for the pose
    pixels[:, 0] += 33
    confidence = np.zeros((frames, 2, len(order)), np.float32)
    confidence[:, 0] = 0.01
    confidence[:, 1] = there[:, order]
    path.write_bytes(
        b"".join(parts) + pixels.astype("<f4").tobytes() + confidence.astype("<f4").tobytes()
    )


def write_pose_v01(path: Path, landmarks: np.ndarray) -> None:
    write_pose(path, landmarks, 0.1)


def write_json(path: Path, landmarks: np.ndarray) -> None:
    """Pixels and the picture's size; null for what is missing; a mark in front, as editors do."""
    there = (landmarks != 0).any(axis=-1)
    points = [
        [[x * 640, y * 480] if found else [None, None]
         for (x, y), found in zip(frame.tolist(), have, strict=True)]
        for frame, have in zip(landmarks, there, strict=True)
    ]  # fmt: skip
    path.write_text(json.dumps({"keypoints": points, "width": 640, "height": 480}), "utf-8-sig")


def write_json_parts(path: Path, landmarks: np.ndarray) -> None:
    """MediaPipe's results a frame, in UTF-16 as Windows' editor may save them."""
    places = {"poseLandmarks": (0, 33), "leftHandLandmarks": (33, 54),
              "rightHandLandmarks": (54, 75), "faceLandmarks": (75, 543)}  # fmt: skip
    frames = []
    for frame in landmarks:
        parts = {}
        for name, (start, end) in places.items():
            own = frame[start:end]
            found = [{"x": x, "y": y, "z": 0.0, "visibility": 1.0} for x, y in own.tolist()]
            parts[name] = found if own.any() else []
        frames.append(parts)
    path.write_text(json.dumps(frames), "utf-16")


def write_json_list(root: Path, clips: Clips) -> Path:
    """All clips in one list of objects."""
    root.mkdir()
    path = root / "clips.json"
    path.write_text(json.dumps([
        {"keypoints": with_gaps(landmarks).tolist(), "label": class_name,
         "signer": name.split("_")[0], "repetition": int(name.rpartition("R")[2])}
        for class_name, name, landmarks in clips
    ]).replace("NaN", "null"))  # fmt: skip
    return path


def annotations(clips: Clips) -> tuple[list[str], dict]:
    """PYSKL's content, two people a clip; and the classes that its labels count."""
    names = sorted({class_name for class_name, *_ in clips})
    entries = []
    for class_name, name, landmarks in clips:
        there = (landmarks != 0).any(axis=-1)
        pixels = np.where(there[..., None], landmarks * (1920, 1080), 5).astype(np.float32)
        score = there.astype(np.float16)
        entries.append({
            "frame_dir": name, "label": names.index(class_name), "img_shape": (1080, 1920),
            "original_shape": (1080, 1920), "total_frames": len(landmarks),
            "keypoint": np.stack([pixels[::-1], pixels]),
            "keypoint_score": np.stack([score * 0, score]),
        })  # fmt: skip
    train = [entry["frame_dir"] for entry in entries]
    return names, {"split": {"xsub_train": train, "xset_val": train[:1]}, "annotations": entries}


def write_pyskl(root: Path, clips: Clips) -> Path:
    root.mkdir()
    names, content = annotations(clips)
    labels = {name: label for label, name in enumerate(names)}
    (root / "label2id.json").write_text(json.dumps(labels))
    (root / "set.pkl").write_bytes(pickle.dumps(content, protocol=4))
    return root / "set.pkl"


def write_pyskl_json(root: Path, clips: Clips) -> Path:
    root.mkdir()
    names, content = annotations(clips)
    (root / "id2label.json").write_text(json.dumps(dict(enumerate(names))))
    (root / "set.json").write_text(json.dumps(content, default=lambda array: array.tolist()))
    return root / "set.json"


def write_hdf5(root: Path, clips: Clips) -> Path:
    import h5py

    with h5py.File(root.with_suffix(".h5"), "w") as file:
        for class_name, name, landmarks in clips:
            group = file.create_group(f"train/{class_name}/{name}")
            group.create_dataset("keypoints", data=with_gaps(landmarks))
            group.attrs["signer"] = name.split("_")[0]
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
        file.create_dataset(
            "train/stolen/clip", (4, 75, 2), "i1", external=[("/etc/passwd", 0, 600)]
        )
    return root.with_suffix(".h5")


def long_table(landmarks: np.ndarray) -> dict[str, list]:
    """A row a landmark, as Google's competition has it: face, left hand, pose, right hand."""
    kinds = {"face": (75, landmarks.shape[1]), "left_hand": (33, 54), "pose": (0, 33),
             "right_hand": (54, 75)}  # fmt: skip
    columns = {key: [] for key in ("frame", "row_id", "type", "landmark_index", "x", "y", "z")}
    for at, frame in enumerate(with_gaps(landmarks).tolist()):
        for kind, (start, end) in kinds.items():
            for index, (x, y) in enumerate(frame[start:end]):
                row = (20 + at, f"{20 + at}-{kind}-{index}", kind, index, x, y, 0.0)
                for key, value in zip(columns, row, strict=True):
                    columns[key].append(value)
    return columns


def write_parquet(path: Path, columns: dict[str, list]) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path)


def write_google(root: Path, clips: Clips) -> Path:
    """A Parquet a clip below participants' folders, an index, and the labels' numbers."""
    lines = ["path,participant_id,sequence_id,sign"]
    for at, (class_name, name, landmarks) in enumerate(clips):
        signer = name.split("_")[0]
        folder = root / "train_landmark_files" / signer
        folder.mkdir(parents=True, exist_ok=True)
        write_parquet(folder / f"{1000 + at}.parquet", long_table(landmarks))
        place = f"train_landmark_files/{signer}/{1000 + at}.parquet"
        lines.append(f"{place},{signer},{1000 + at},{class_name}")
    (root / "train.csv").write_text("\n".join(lines) + "\n")
    names = sorted({class_name for class_name, *_ in clips})
    labels = {name: at for at, name in enumerate(names)}
    (root / "sign_to_prediction_index_map.json").write_text(json.dumps(labels))
    return root


def write_long_csv(root: Path, clips: Clips) -> Path:
    """One CSV for all clips, a row a landmark."""
    lines = ["sequence_id,sign,participant_id,frame,type,landmark_index,x,y"]
    for class_name, name, landmarks in clips:
        table = long_table(landmarks)
        rows = zip(*(table[key] for key in ("frame", "type", "landmark_index", "x", "y")),
                   strict=True)  # fmt: skip
        signer = name.split("_")[0]
        lines += [
            f"{name},{class_name},{signer},{frame},{kind},{index},"
            + ("," if np.isnan(x) else f"{x!r},{y!r}")
            for frame, kind, index, x, y in rows
        ]
    root.with_suffix(".csv").write_text("\n".join(lines) + "\n")
    return root.with_suffix(".csv")


def write_wide_parquet(root: Path, clips: Clips) -> Path:
    """One Parquet for all clips, a row a frame, its columns in an order of their own."""
    columns: dict[str, list] = {"clip": [], "sign": [], "signer": [], "frame": []}
    keys = [f"{kind}_{at}" for kind, count in (("right_hand", 21), ("pose", 33), ("left_hand", 21))
            for at in range(count)]  # fmt: skip
    starts = {"pose": 0, "left_hand": 33, "right_hand": 54}
    for class_name, name, landmarks in clips:
        for at, frame in enumerate(with_gaps(landmarks)):
            columns["clip"].append(name)
            columns["sign"].append(class_name)
            columns["signer"].append(name.split("_")[0])
            columns["frame"].append(at)
            for key in keys:
                kind, _, index = key.rpartition("_")
                x, y = frame[starts[kind] + int(index)].tolist()
                columns.setdefault(f"x_{key}", []).append(x)
                columns.setdefault(f"y_{key}", []).append(y)
    write_parquet(root.with_suffix(".parquet"), columns)
    return root.with_suffix(".parquet")


def write_wlasl(root: Path, clips: Clips) -> Path:
    """WLASL's index beside a folder of clips by their numbers; one instance has no clip."""
    (root / "clips").mkdir(parents=True)
    glosses: dict[str, list] = {}
    for at, (class_name, name, landmarks) in enumerate(clips):
        np.save(root / "clips" / f"{60000 + at}.npy", with_gaps(landmarks))
        glosses.setdefault(class_name, []).append(
            {"video_id": str(60000 + at), "split": "train" if at else "test",
             "signer_id": int(name.split("_")[0].removeprefix("user")), "fps": 25}
        )  # fmt: skip
    glosses[clips[0][0]].append({"video_id": "99999", "split": "train", "signer_id": 1})
    content = [{"gloss": gloss, "instances": found} for gloss, found in glosses.items()]
    (root / "WLASL_v0.3.json").write_text(json.dumps(content))
    return root


# Form -> how a set is written, for clips of layout kp75 and for those of holistic543.
ANY = {
    "tree of .npy": tree(write_npy, ".npy"),
    "tree of .npy, big-endian": tree(write_big_endian, ".npy"),
    "tree of .npy, flat": tree(write_flat, ".npy"),
    "tree of .npy, x y z visibility": tree(write_with_visibility, ".npy"),
    "tree of .npy without an ending": tree(
        lambda path, landmarks: path.write_bytes(_npy_bytes(landmarks)), ""
    ),
    "tree of .npz with masks": tree(write_masked_npz, ".npz"),
    "tree of masked pickles": tree(write_masked_pickle, ".pkl"),
    "tree of arrays in pickles": tree(write_bare_pickle, ".pickle"),
    "tree of vectors a frame": tree(write_tutorial_frames, ""),
    "tree of .pose": tree(write_pose, ".pose"),
    "tree of .pose 0.1": tree(write_pose_v01, ".pose"),
    "tree of JSON in pixels": tree(write_json, ".json"),
    "tree of JSON by parts": tree(write_json_parts, ".json"),
    "JSON list": write_json_list,
    "PYSKL": write_pyskl,
    "PYSKL as JSON": write_pyskl_json,
    "HDF5": write_hdf5,
    "Google's Parquet": write_google,
    "long CSV": write_long_csv,
    "WLASL": write_wlasl,
}
KP75 = {"wide Parquet": write_wide_parquet}


def _npy_bytes(landmarks: np.ndarray) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    np.save(buffer, with_gaps(landmarks))
    return buffer.getvalue()

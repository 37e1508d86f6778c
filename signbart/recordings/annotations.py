"""One annotation file for a whole set, as PYSKL and MMAction2 keep them.

``{"split": {name: [frame_dir, …]}, "annotations": [{"frame_dir", "label", "keypoint", …}, …]}``, in
a pickle or in JSON. An annotation's ``keypoint`` is (M, T, K, D) for M people, ``keypoint_score``
(M, T, K) their confidence, ``img_shape`` the height and width of the picture.

Legend: M people, T frames, K keypoints, D coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from signbart.errors import ClipError
from signbart.memory import raise_shortage
from signbart.recordings.names import split_named
from signbart.recordings.recording import Contents, Recording

ToArray = Callable[[object], np.ndarray]


def annotated_clips(path: Path, content: Mapping[str, object], to_array: ToArray) -> Contents:
    """The clips of an annotation file.

    Args:
        path: The file, for messages.
        content: What it holds.
        to_array: Makes an array of what stands for one in such a file.

    Raises:
        ClipError: ``split`` or ``annotations`` is malformed.
    """
    annotations = content["annotations"]
    if type(annotations) is not list:
        raise ClipError(f"{path}: field 'annotations' must be a list")
    notes: list[str] = []
    splits = _splits(path, content.get("split"), notes)
    recordings = _recordings(path, annotations, splits, to_array)
    return Contents(recordings, notes=notes, total=len(annotations))


def _splits(path: Path, given: object, notes: list[str]) -> dict[str, str]:
    """frame_dir -> train, val or test."""
    if given is None:
        return {}
    if type(given) is not dict or not all(type(n) in (list, tuple) for n in given.values()):
        raise ClipError(f"{path}: field 'split' must give a list of 'frame_dir' for each split")
    # xsub_train and xsub_val are one way to divide the set, xset_train and xset_val another.
    known = {name: split_named(str(name).rpartition("_")[2]) for name in given}
    divisions = list(dict.fromkeys(str(name).rpartition("_")[0] for name in known if known[name]))
    chosen = divisions[0] if divisions else ""
    splits: dict[str, str] = {}
    for name, split in known.items():
        if split is None:
            notes.append(f"{path}: split '{name}' is none of train, val and test, and is not used")
        elif str(name).rpartition("_")[0] != chosen:
            notes.append(f"{path}: split '{name}' is not used, but those of '{chosen}'")
        else:
            splits |= {str(entry): split for entry in given[name] if type(entry) in (str, int)}
    return splits


def _recordings(
    path: Path, annotations: list[object], splits: Mapping[str, str], to_array: ToArray
) -> Iterator[Recording | ClipError]:
    for number, fields in enumerate(annotations):
        source = f"{path}[{number}]"
        try:
            yield _recording(fields, source, splits, to_array)
        except ClipError as error:
            yield error
        # What cannot be made an array says so in an error of the file's own form.
        except Exception as error:
            raise_shortage(source, error)
            yield ClipError(f"{source}: field 'keypoint' cannot be read: {str(error)[:120]}")


def _recording(
    fields: object, source: str, splits: Mapping[str, str], to_array: ToArray
) -> Recording:
    if type(fields) is not dict or "keypoint" not in fields or "label" not in fields:
        raise ClipError(f"{source}: needs the fields 'keypoint' and 'label'")
    points = to_array(fields["keypoint"])
    score = None
    if fields.get("keypoint_score") is not None:
        score = to_array(fields["keypoint_score"])
    if points.ndim == 4:
        person = 0 if score is None or score.ndim != 3 else int(score.mean(axis=(1, 2)).argmax())
        if not len(points):
            raise ClipError(f"{source}: nobody was found in it")
        points = points[person]
        score = score[person] if score is not None and score.ndim == 3 else score
    shape = fields.get("img_shape") or fields.get("original_shape")
    size = None
    if type(shape) in (list, tuple) and len(shape) == 2 and all(type(s) is int for s in shape):
        size = (float(shape[1]), float(shape[0]))
    name = str(fields.get("frame_dir", ""))
    signer = next((fields[key] for key in ("signer", "user") if fields.get(key)), None)
    return Recording(
        points,
        f"{source} {name}".rstrip(),
        class_name=str(fields["label"]),
        signer=None if signer is None else str(signer),
        split=splits.get(name, "all" if not splits else None),
        confidence=score,
        size=size,
        name=name,
    )

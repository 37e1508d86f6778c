"""A recording (`Clip`) and a data set (`ClipSet`), wherever they were read from.

Legend: N clips, T frames, K keypoints, D coordinates, C classes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from signbart.errors import ClipError
from signbart.landmarks.layouts import LAYOUTS, Layout
from signbart.landmarks.source import LARGEST_USUAL
from signbart.recordings.mapped import MappedLandmarks
from signbart.waiting import track

_LISTED = 8  # names that a message lists

# Names become folders, rows of tables and lines of label files.
_SIGNER_NAME = re.compile(r"\w[\w.\- ]{0,63}")


@dataclass(frozen=True)
class Clip:
    """One recording of one sign.

    Attributes:
        landmarks: (T, K, D) float32, finite; D 2 (image x, y) or 3 (metres x, y, z). They may be
            left in their file: `np.asarray` makes an array of either.
        label: Index into the set's class names.
        signer: Who signs; ``unknown`` where nothing says.
        repetition: Which of the signer's repetitions; 0 where nothing says.
        source: Where it came from, for messages: ``x.npz[12]`` or the pickle's path.
        split: ``train``, ``val`` or ``test`` where the recordings come divided, otherwise ``all``.
    """

    landmarks: np.ndarray | MappedLandmarks
    label: int
    signer: str
    repetition: int
    source: str
    split: str = "all"


@dataclass(frozen=True)
class ClipSet:
    """Clips and the classes that their labels count.

    Attributes:
        clips: In a fixed order.
        class_names: C names; the index is the label.
        skipped: One message a bad clip that ``skip_bad`` left out.
        landmark_names: K names, where they are known and the number of landmarks does not say
            which model layout they are.
        notes: What was there and not read, or supposed when it was read; one line each.
        made_from: What ``clips pack`` made it from and how, step by step; empty where it did not.
    """

    clips: tuple[Clip, ...]
    class_names: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    landmark_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    made_from: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64."""
        return np.array([clip.label for clip in self.clips], dtype=np.int64)

    @property
    def signers(self) -> tuple[str, ...]:
        """One signer a clip."""
        return tuple(clip.signer for clip in self.clips)

    @property
    def signer_names(self) -> tuple[str, ...]:
        """Every signer once, sorted."""
        return tuple(sorted(set(self.signers)))

    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of all that training depends on: landmarks, labels, signers, splits.

        Sources do not count: the same recordings may be read from elsewhere.
        """
        digest = hashlib.sha256(repr(self.class_names).encode())
        if self.landmark_names is not None and _layout_of(self.landmark_names) is None:
            digest.update(repr(self.landmark_names).encode())
        for clip in track(self.clips, "identifying"):
            about = (clip.landmarks.shape, clip.label, clip.signer, clip.split)
            digest.update(repr(about).encode())
            digest.update(np.ascontiguousarray(clip.landmarks).tobytes())
        return digest.hexdigest()

    def select(self, indices: Iterable[int]) -> ClipSet:
        """The clips at `indices`, in that order, under the same class names."""
        clips = tuple(self.clips[index] for index in indices)
        return ClipSet(clips, self.class_names, landmark_names=self.landmark_names)

    def after(self, step: str, whole: ClipSet) -> ClipSet:
        """The same, made from `whole` by this step."""
        return dataclasses.replace(self, made_from=(*whole.made_from, step))

    def relabel(self, class_names: Sequence[str], source: str) -> ClipSet:
        """The clips with labels that count a model's classes.

        Args:
            class_names: The model's, of which the clips have some or all, in whatever order.
            source: The recordings' path, for the message.

        Raises:
            ClipError: A clip's class is none of the model's.
        """
        place = {name: at for at, name in enumerate(class_names)}
        used = {self.class_names[clip.label] for clip in self.clips}
        unknown = sorted(used - set(place))
        if unknown:
            raise ClipError(
                f"{source} has clips of class '{unknown[0]}', which the model does not know; its "
                f"classes are {', '.join(class_names[:8])}{', …' if len(class_names) > 8 else ''}. "
                "A published .pth needs --labels label2id.json"
            )
        clips = tuple(
            dataclasses.replace(clip, label=place[self.class_names[clip.label]])
            for clip in self.clips
        )
        return dataclasses.replace(self, clips=clips, class_names=tuple(class_names))

    def to_layout(self, layout: Layout) -> ClipSet:
        """The clips with the landmarks and coordinates of `layout`, which are found by name.

        Clips without names of landmarks are of the model layout that has their number, and give
        the layouts whose landmarks they all have. Clips with names give every layout of which they
        have some; the others are missing, (0, 0), which `lacking` says. Image layouts drop a third
        coordinate.

        Raises:
            ClipError: A clip has landmarks that do not give this layout.
        """
        clips = tuple(
            dataclasses.replace(clip, landmarks=landmarks_in(clip, layout, self.landmark_names))
            for clip in track(self.clips, "selecting")
        )
        return dataclasses.replace(self, clips=clips, landmark_names=None)

    def gives(self, layout: Layout) -> bool:
        """Whether the clips have every landmark of `layout`."""
        count = self.clips[0].landmarks.shape[1]
        names = self.landmark_names
        if names is None:
            own = next((known for known in LAYOUTS.values() if known.num_keypoints == count), None)
            names = own.names if own else ()
        return set(layout.names) <= set(names)

    def lacking(self, layout: Layout) -> str | None:
        """What `to_layout` will have to leave missing, in words; None where that is nothing."""
        names = self.landmark_names
        absent = [] if names is None else [name for name in layout.names if name not in names]
        if not absent:
            return None
        shown = ", ".join(absent[:_LISTED]) + (", …" if len(absent) > _LISTED else "")
        return (
            f"the recordings lack {len(absent)} of the {layout.num_keypoints} landmarks of layout "
            f"'{layout.name}', which stay missing: {shown}"
        )


def _layout_of(names: tuple[str, ...]) -> Layout | None:
    """The model layout that has these landmarks in this order."""
    return next((layout for layout in LAYOUTS.values() if layout.names == names), None)


def landmarks_in(
    clip: Clip, layout: Layout, names: tuple[str, ...] | None
) -> np.ndarray | MappedLandmarks:
    """A clip's landmarks and coordinates of `layout`; see `ClipSet.to_layout`."""
    landmarks = _select(clip, layout, names)
    coordinates = landmarks.shape[-1]
    if layout.unit == "image":
        mapped = isinstance(landmarks, MappedLandmarks)
        # A view would keep the third coordinate in memory, and all that was not selected.
        landmarks = landmarks.cut(2) if mapped else np.ascontiguousarray(landmarks[..., :2])
        points = np.asarray(landmarks)
        detected = np.abs(points[points != 0.0])
        if detected.size and np.median(detected) > LARGEST_USUAL:
            raise ClipError(
                f"{clip.source}: landmarks are about {np.median(detected):.0f} in size and look "
                f"like pixels; layout '{layout.name}' takes shares of the image: divide x by its "
                "width and y by its height, or pass --image-size WIDTHxHEIGHT"
            )
        return landmarks
    if coordinates != 3:
        raise ClipError(
            f"{clip.source}: found {coordinates} coordinates a keypoint, but layout "
            f"'{layout.name}' is in metres and needs 3 (x, y, z); set data.layout to one in image "
            "coordinates"
        )
    return landmarks


def _select(
    clip: Clip, layout: Layout, names: tuple[str, ...] | None
) -> np.ndarray | MappedLandmarks:
    """The landmarks of `layout` by name, as the clip has them; 0 for those that it lacks."""
    found = clip.landmarks.shape[1]
    if names is None:
        if found == layout.num_keypoints:
            return clip.landmarks
        own = next((known for known in LAYOUTS.values() if known.num_keypoints == found), None)
        if own is None or not set(layout.names) <= set(own.names):
            fitting = [name for name, known in LAYOUTS.items() if known.num_keypoints == found]
            raise ClipError(
                f"{clip.source}: found {found} keypoints, but layout '{layout.name}' has "
                f"{layout.num_keypoints}; layouts with {found}: {', '.join(fitting) or 'none'}; "
                "set data.layout to one that fits, say with --source-layout which landmarks these "
                "are, or read other recordings"
            )
        names = own.names
    if names == layout.names:
        return clip.landmarks
    there, chosen = _places(names, layout.names)
    if not there:
        raise ClipError(
            f"{clip.source}: has none of the landmarks of layout '{layout.name}'; the first ones "
            f"are {', '.join(names[:_LISTED])}; set data.layout to one that fits"
        )
    if len(there) == layout.num_keypoints:
        if isinstance(clip.landmarks, MappedLandmarks):
            return clip.landmarks.take(chosen)
        return clip.landmarks[:, chosen]
    landmarks = np.zeros((len(clip.landmarks), layout.num_keypoints, clip.landmarks.shape[2]))
    landmarks[:, there] = clip.landmarks[:, chosen]
    return landmarks.astype(np.float32)


@lru_cache(maxsize=8)
def _places(names: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """Which of the wanted landmarks are there, and where among `names`."""
    index = {name: at for at, name in enumerate(names)}
    there = [at for at, name in enumerate(wanted) if name in index]
    return there, [index[wanted[at]] for at in there]


def find_fault(clip: Clip) -> str | None:
    """What is wrong with a clip, or None."""
    if not _SIGNER_NAME.fullmatch(clip.signer):
        return (
            f"{clip.source}: signer {clip.signer[:80]!r}: a name takes up to 64 letters, digits, "
            "'_', '-', '.' and spaces, and starts with one of the first three"
        )
    shape = clip.landmarks.shape
    if len(shape) and shape[0] < 2:
        found = "one frame" if shape[0] else "no frames"
        return f"{clip.source}: the clip has {found}; a sign takes at least 2"
    if len(shape) != 3 or shape[1] < 1 or shape[2] not in (2, 3):
        return f"{clip.source}: keypoints have shape {shape}, expected (T, K, 2 or 3)"
    landmarks = np.asarray(clip.landmarks)  # once: they may be in their file
    finite = np.isfinite(landmarks)
    if not finite.all():
        frame, keypoint, _ = np.argwhere(~finite)[0]
        return f"{clip.source}: keypoint {keypoint} of frame {frame} is NaN or infinite"
    if not landmarks[..., :2].any():
        return (
            f"{clip.source}: no landmark of any frame is there: every one is NaN or infinite, "
            "masked or at (0, 0); look whether the detector found anybody"
        )
    return None

"""Recordings: `Clip`, `ClipSet`, and the on-disk forms that they are read from and written to.

Two forms are read, and the first is written: the packed ``.npz`` of `signbart.packed`, and the
field's tree of pickles (`signbart.pickle_tree`, `signbart.pickles`).

Legend: N clips, T frames, K keypoints, D coordinates, C classes.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signbart.console import print_table, run_command
from signbart.errors import ClipError
from signbart.layouts import LAYOUTS, Layout
from signbart.packed import UNKNOWN_SIGNER, Packed, load_packed, packing_scale, save_packed
from signbart.pickle_tree import (
    SPLITS,
    find_pickles,
    is_pickle_tree,
    read_class_names,
    repetition_in_name,
    signer_in_name,
)
from signbart.pickles import read_pickle

_FORMS = (
    "a packed .npz, a folder that holds one, or a tree of pickles "
    "(label2id.json and <split>/<class>/<name>.pkl)"
)
# Shares of the image may leave [0, 1] somewhat; most of a clip beyond this is another unit.
_LARGEST_USUAL = 2.0
# Names become folders, rows of tables and lines of label files.
_SIGNER_NAME = re.compile(r"\w[\w.\- ]{0,63}")
# Longer listings on the screen end in a count.
_LISTED = 20


@dataclass(frozen=True)
class Clip:
    """One recording of one sign.

    Attributes:
        landmarks: (T, K, D) float32, finite; D 2 (image x, y) or 3 (metres x, y, z).
        label: Index into the set's class names.
        signer: Who signs; ``unknown`` where nothing says.
        repetition: Which of the signer's repetitions; 0 where nothing says.
        source: Where it came from, for messages: ``x.npz[12]`` or the pickle's path.
        split: ``train``, ``val`` or ``test`` where the recordings come divided, otherwise ``all``.
    """

    landmarks: np.ndarray
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
    """

    clips: tuple[Clip, ...]
    class_names: tuple[str, ...]
    skipped: tuple[str, ...] = ()

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
        for clip in self.clips:
            about = (clip.landmarks.shape, clip.label, clip.signer, clip.split)
            digest.update(repr(about).encode())
            digest.update(np.ascontiguousarray(clip.landmarks).tobytes())
        return digest.hexdigest()

    def select(self, indices: Iterable[int]) -> ClipSet:
        """The clips at `indices`, in that order, under the same class names."""
        return ClipSet(tuple(self.clips[index] for index in indices), self.class_names)

    def to_layout(self, layout: Layout) -> ClipSet:
        """The clips with the landmarks and coordinates of `layout`.

        Clips of all 543 MediaPipe Holistic landmarks are cut to the layouts selected from them, and
        image layouts drop a third coordinate.

        Raises:
            ClipError: A clip has landmarks that do not give this layout.
        """
        clips = tuple(
            dataclasses.replace(clip, landmarks=_landmarks_in(clip, layout)) for clip in self.clips
        )
        return dataclasses.replace(self, clips=clips)


def _landmarks_in(clip: Clip, layout: Layout) -> np.ndarray:
    landmarks = clip.landmarks
    _, found, coordinates = landmarks.shape
    if found != layout.num_keypoints:
        if found != LAYOUTS["holistic543"].num_keypoints or layout.holistic is None:
            fitting = [name for name, known in LAYOUTS.items() if known.num_keypoints == found]
            raise ClipError(
                f"{clip.source}: found {found} keypoints, but layout '{layout.name}' has "
                f"{layout.num_keypoints}; layouts with {found}: {', '.join(fitting) or 'none'}; "
                "set data.layout to one that fits, or read other recordings"
            )
        landmarks = landmarks[:, list(layout.holistic)]
    if layout.unit == "image":
        landmarks = landmarks[..., :2]
        detected = np.abs(landmarks[landmarks != 0.0])
        if detected.size and np.median(detected) > _LARGEST_USUAL:
            raise ClipError(
                f"{clip.source}: landmarks are about {np.median(detected):.0f} in size and look "
                f"like pixels; layout '{layout.name}' takes shares of the image: divide x by its "
                "width and y by its height"
            )
        return landmarks
    if coordinates != 3:
        raise ClipError(
            f"{clip.source}: found {coordinates} coordinates a keypoint, but layout "
            f"'{layout.name}' is in metres and needs 3 (x, y, z); set data.layout to one in image "
            "coordinates"
        )
    return landmarks


def read_clips(path: str | Path, *, split: str = "all", skip_bad: bool = False) -> ClipSet:
    """Reads a data set in either form.

    Args:
        path: A packed ``.npz``, a folder that holds exactly one, or a tree of pickles.
        split: One of train, val, test, all. A packed file has other splits than ``all`` only where
            it carries the array ``split``.
        skip_bad: Leaves bad clips out and says why in `ClipSet.skipped`, instead of raising.

    Raises:
        ClipError: Nothing readable is there, a file is malformed, a clip is bad, or none is left.
    """
    path = Path(path)
    where = f"{path}" if split == "all" else f"{path}, split '{split}'"
    if split not in SPLITS:
        raise ClipError(f"unknown split '{split}'; known: {', '.join(SPLITS)}")
    if not path.exists():
        raise ClipError(f"{path}: no such file or folder; expected {_FORMS}")
    if path.is_dir() and is_pickle_tree(path):
        class_names = read_class_names(path)
        return _keep_good(_tree_clips(path, split, class_names), class_names, where, skip_bad)
    if path.is_dir():
        packed = sorted(path.glob("*.npz"))
        if not packed:
            raise ClipError(f"{path}: holds no data set; expected {_FORMS}")
        if len(packed) > 1:
            names = ", ".join(file.name for file in packed[:_LISTED])
            raise ClipError(f"{path}: holds {len(packed)} .npz files; name one of them: {names}")
        path = packed[0]
    columns = load_packed(path)
    return _keep_good(_packed_clips(path, split, columns), columns.class_names, where, skip_bad)


def write_packed(clip_set: ClipSet, path: str | Path) -> None:
    """Writes a packed ``.npz``, whole or not at all, in place of an existing one.

    Landmarks are rounded to steps of 1e-4, or of what int16 needs to hold the largest; zeros stay
    zeros.

    Raises:
        ClipError: The clips differ in K or D, there are none, or the file cannot be written.
    """
    columns = Packed(
        landmarks=[clip.landmarks for clip in clip_set.clips],
        labels=[clip.label for clip in clip_set.clips],
        signers=clip_set.signers,
        repetitions=[clip.repetition for clip in clip_set.clips],
        class_names=clip_set.class_names,
        splits=[clip.split for clip in clip_set.clips]
        if any(clip.split != "all" for clip in clip_set.clips)
        else None,
    )
    save_packed(columns, Path(path))


def _packed_clips(path: Path, split: str, columns: Packed) -> Iterator[Clip]:
    if split != "all" and columns.splits is None:
        raise ClipError(f"{path}: has no split '{split}', nor any other; read it with split 'all'")
    rows = zip(columns.landmarks, columns.labels, columns.signers, columns.repetitions, strict=True)
    for index, row in enumerate(rows):
        if split == "all" or columns.splits[index] == split:
            own = "all" if columns.splits is None else columns.splits[index]
            yield Clip(*row, source=f"{path.name}[{index}]", split=own)


def _tree_clips(root: Path, split: str, class_names: Sequence[str]) -> Iterator[Clip | ClipError]:
    """Reads the pickles of a tree one after the other; what cannot be a clip comes as its error."""
    labels = {name: label for label, name in enumerate(class_names)}
    for path in find_pickles(root, split):
        folder = path.parent.name
        try:
            if path.suffix != ".pkl":
                raise ClipError(
                    f"{path}: is no .pkl file; clips stand in <split>/<class>/<name>.pkl"
                )
            if folder not in labels:
                raise ClipError(f"{path}: class '{folder}' is not in label2id.json")
            pickled = read_pickle(path)
            if pickled.class_name != folder:
                raise ClipError(
                    f"{path}: field 'class' says '{pickled.class_name[:80]}', its folder '{folder}'"
                )
        except ClipError as error:
            yield error
            continue
        yield Clip(
            landmarks=pickled.landmarks,
            label=labels[folder],
            signer=pickled.user or signer_in_name(path.stem) or UNKNOWN_SIGNER,
            repetition=repetition_in_name(path.stem),
            source=str(path),
            split=path.parent.parent.name,
        )


def _keep_good(
    outcomes: Iterable[Clip | ClipError], class_names: Sequence[str], where: str, skip_bad: bool
) -> ClipSet:
    """The set of the good clips; the others are skipped, or the first of them is raised."""
    for name in class_names:
        if not name.strip() or not name.isprintable():
            raise ClipError(
                f"{where}: class {name!r} is empty or has control characters; rename it"
            )
    clips: list[Clip] = []
    skipped: list[str] = []

    def refuse(fault: str) -> None:
        if not skip_bad:
            raise ClipError(
                f"{fault}; repair or remove it, or pass --skip-bad to leave such clips out"
            )
        skipped.append(fault)

    for outcome in outcomes:
        fault = str(outcome) if isinstance(outcome, ClipError) else find_fault(outcome)
        if fault is None:
            clips.append(outcome)
        else:
            refuse(fault)
    shapes = Counter(clip.landmarks.shape[1:] for clip in clips)
    usual = max(shapes, key=shapes.__getitem__, default=None)
    good = []
    for clip in clips:
        found = clip.landmarks.shape[1:]
        if found == usual:
            good.append(clip)
            continue
        refuse(
            f"{clip.source}: {found[0]} keypoints of {found[1]} coordinates, but most clips "
            f"({shapes[usual]} of {len(clips)}) have {usual[0]} of {usual[1]}"
        )
    if not good:
        reason = f"all {len(skipped)} are bad, first {skipped[0]}" if skipped else "none found"
        raise ClipError(f"{where}: no clips: {reason}; expected {_FORMS}")
    return ClipSet(tuple(good), tuple(class_names), tuple(skipped))


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
    finite = np.isfinite(clip.landmarks)
    if not finite.all():
        frame, keypoint, _ = np.argwhere(~finite)[0]
        return f"{clip.source}: keypoint {keypoint} of frame {frame} is NaN or infinite"
    return None


def _print_summary(clip_set: ClipSet) -> None:
    frames = [len(clip.landmarks) for clip in clip_set.clips]
    keypoints, coordinates = clip_set.clips[0].landmarks.shape[1:]
    layouts = [name for name, layout in LAYOUTS.items() if layout.num_keypoints == keypoints]
    per_class = np.bincount(clip_set.labels, minlength=len(clip_set.class_names))
    print(f"clips      {len(clip_set)}")
    print(f"signers    {len(clip_set.signer_names)}")
    print(
        f"classes    {len(per_class)}, clips of each {_spread(per_class)}: "
        f"{', '.join(_shorten(clip_set.class_names))}"
    )
    print(
        f"keypoints  {keypoints} of {coordinates} coordinates "
        f"(layouts: {', '.join(layouts) or 'none known'})"
    )
    print(f"frames     {_spread(frames)}")


def _spread(values: Sequence[int]) -> str:
    return f"{min(values)} / {np.median(values):g} / {max(values)} (min/median/max)"


def _print_skipped(clip_set: ClipSet) -> None:
    if clip_set.skipped:
        print(f"skipped    {len(clip_set.skipped)} bad clips:")
        for line in _shorten(clip_set.skipped):
            print(f"  {line}")


def _shorten(lines: Sequence[str]) -> list[str]:
    rest = len(lines) - _LISTED
    return [*lines[:_LISTED], *([f"… and {rest} more"] if rest > 0 else [])]


def _pack(arguments: argparse.Namespace) -> None:
    target = Path(arguments.out)
    if target.exists() and not arguments.force:
        raise ClipError(f"{target}: exists already; pass --force to replace it")
    clip_set = read_clips(arguments.path, split=arguments.split, skip_bad=arguments.skip_bad)
    write_packed(clip_set, target)
    scale = packing_scale([clip.landmarks for clip in clip_set.clips])
    _print_summary(clip_set)
    _print_skipped(clip_set)
    print(f"wrote      {target}, {target.stat().st_size} bytes")
    print(f"rounding   at most {scale / 2:g} (landmarks are multiples of {scale:g})")
    print(f"next       python -m signbart.clips info {target}")


def _info(arguments: argparse.Namespace) -> None:
    clip_set = read_clips(arguments.path, split=arguments.split, skip_bad=arguments.skip_bad)
    _print_summary(clip_set)
    _print_skipped(clip_set)
    by_signer: dict[str, list[Clip]] = {name: [] for name in clip_set.signer_names}
    for clip in clip_set.clips:
        by_signer[clip.signer].append(clip)
    rows = [
        (name, len(clips), len({clip.label for clip in clips}), len({c.repetition for c in clips}))
        for name, clips in by_signer.items()
    ]
    print_table("", ("signer", "clips", "classes", "repetitions"), rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Packs a data set into one file, or says what one holds; returns the exit status."""
    parser = argparse.ArgumentParser(prog="signbart-clips", description=main.__doc__.split(";")[0])
    commands = parser.add_subparsers(required=True, metavar="pack|info")
    source = argparse.ArgumentParser(add_help=False)
    source.add_argument("path", help=_FORMS)
    source.add_argument("--split", choices=SPLITS, default="all", help="default: %(default)s")
    source.add_argument("--skip-bad", action="store_true", help="leave bad clips out, say which")
    pack = commands.add_parser("pack", parents=[source], help="write a packed .npz")
    pack.add_argument("out", help="the .npz to write")
    pack.add_argument("--force", action="store_true", help="replace an existing file")
    pack.set_defaults(run=_pack)
    info = commands.add_parser("info", parents=[source], help="classes, signers, frames, keypoints")
    info.set_defaults(run=_info)
    arguments = parser.parse_args(argv)
    arguments.run(arguments)
    return 0


def command() -> None:
    """The console script ``signbart-clips``."""
    run_command(main)


if __name__ == "__main__":
    command()

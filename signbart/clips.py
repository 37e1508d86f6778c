"""``python -m signbart.clips``: what a data set holds, and packing it into one file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from signbart.console import next_command, print_table, program_name, run_command
from signbart.errors import ClipError
from signbart.landmarks.layouts import LAYOUTS
from signbart.recordings.clip import Clip, ClipSet
from signbart.recordings.packed import (
    packing_scale,
    write_packed,
)
from signbart.recordings.pickle_tree import (
    SPLITS,
)
from signbart.recordings.reading import DATA_SET_FORMS, read_clips

# Longer listings on the screen end in a count.
_LISTED = 20


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
    print(f"next       {next_command('signbart.clips')} info {target}")


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
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart.clips"), description=main.__doc__.split(";")[0]
    )
    commands = parser.add_subparsers(required=True, metavar="pack|info")
    source = argparse.ArgumentParser(add_help=False)
    source.add_argument("path", help=DATA_SET_FORMS)
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


if __name__ == "__main__":
    run_command(main)

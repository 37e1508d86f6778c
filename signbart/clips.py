"""``python -m signbart.clips``: what a data set holds, pictures of it, and writing it otherwise."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from signbart.console import (
    at_least,
    next_command,
    print_table,
    program_name,
    require_tables,
    run_command,
)
from signbart.errors import ClipError
from signbart.landmarks.layouts import LAYOUTS, get_layout
from signbart.recordings.clip import Clip, ClipSet
from signbart.recordings.data_set import DATA_SET_FORMS
from signbart.recordings.doctor import counts_by_split
from signbart.recordings.names import SPLITS, UNKNOWN_SIGNER
from signbart.recordings.options import (
    SignerNames,
    add_reading_arguments,
    data_source,
    read_data,
    read_examined,
    reading_options,
)
from signbart.recordings.packed import write_packed
from signbart.recordings.pictures import draw_clip
from signbart.recordings.reading import CLIP_FORMS, CLIP_OF_SET, read_clips, read_single_clip
from signbart.recordings.subsets import (
    cap_clips,
    clips_by,
    clips_not_by,
    from_source,
    merge_sets,
    select_classes,
)
from signbart.recordings.tree_writing import write_tree

# Longer listings on the screen end in a count.
_LISTED = 20
# Layout -> the shipped configuration for anybody's recordings of it, the fullest first.
_CONFIGS = {"kp90": "kp90", "kp75": "kp75", "kinect20": "isl_kinect30"}


def _print_summary(clip_set: ClipSet) -> None:
    frames = [len(clip.landmarks) for clip in clip_set.clips]
    keypoints, coordinates = clip_set.clips[0].landmarks.shape[1:]
    layouts = [name for name, layout in LAYOUTS.items() if clip_set.gives(layout)]
    per_class = np.bincount(clip_set.labels, minlength=len(clip_set.class_names))
    print(f"clips      {len(clip_set)}")
    print(f"signers    {_signers(clip_set)}")
    print(
        f"classes    {len(per_class)}, clips of each {_spread(per_class)}: "
        f"{', '.join(_shorten(clip_set.class_names))}"
    )
    named = ", by name" if clip_set.landmark_names else ""
    print(
        f"keypoints  {keypoints} of {coordinates} coordinates "
        f"(layouts: {', '.join(layouts) or 'none known'}{named})"
    )
    print(f"frames     {_spread(frames)}")


def _signers(clip_set: ClipSet) -> str:
    unknown = clip_set.signers.count(UNKNOWN_SIGNER)
    if unknown == len(clip_set):
        return "not known"
    rest = f", one of them '{UNKNOWN_SIGNER}': {unknown} clips name none" if unknown else ""
    return f"{len(clip_set.signer_names)}{rest}"


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
    clip_set = _shaped(read_data(arguments), arguments)
    step = write_packed(clip_set, target, mapped=arguments.only_layout is not None)
    _print_summary(clip_set)
    _print_skipped(clip_set)
    print(f"wrote      {target}, {target.stat().st_size} bytes")
    kept = f"at most {step / 2:g} (landmarks are multiples of {step:g})" if step else "none"
    print(f"rounding   {kept}")
    print(f"next       {next_command('signbart.clips')} info {target}")


def _shaped(clip_set: ClipSet, arguments: argparse.Namespace) -> ClipSet:
    """The set with others, and the part of it that was asked for; what was done is noted in it."""
    wanted = ("merge", "classes", "signers", "without_signers", "max_clips")
    if not any(getattr(arguments, name) for name in wanted):
        return clip_set
    clip_set = from_source(clip_set, arguments.data)
    if arguments.merge:
        others = [
            from_source(
                data_source(arguments, path).read(
                    split=arguments.split, skip_bad=arguments.skip_bad, only=arguments.only_layout
                )[0],
                path,
            )
            for path in arguments.merge
        ]
        clip_set = merge_sets([clip_set, *others], [arguments.data, *arguments.merge])
    source = " and ".join([arguments.data, *arguments.merge])
    if arguments.classes:
        clip_set = select_classes(clip_set, arguments.classes, source)
        source = f"what was chosen of {source}"
    if arguments.signers:
        clip_set = clips_by(clip_set, arguments.signers, source)
    if arguments.without_signers:
        clip_set = clips_not_by(clip_set, arguments.without_signers, source)
    counts = np.bincount(clip_set.labels, minlength=len(clip_set.class_names))
    for name in np.array(clip_set.class_names)[counts == 0]:
        print(f"warning: no clip is left of class '{name}'; name its signers too, or drop it",
              file=sys.stderr)  # fmt: skip
    if arguments.max_clips:
        if UNKNOWN_SIGNER in clip_set.signers:
            print("warning: clips of unknown signers count as one person's for --max-clips; say "
                  "with --signer-pattern who signs", file=sys.stderr)  # fmt: skip
        clip_set = cap_clips(clip_set, arguments.max_clips, arguments.seed)
    return clip_set


def _unpack(arguments: argparse.Namespace) -> None:
    clip_set, target = _shaped(read_data(arguments), arguments), Path(arguments.out)
    write_tree(clip_set, target)
    _print_summary(clip_set)
    _print_skipped(clip_set)
    print(f"wrote      {target}, {len(clip_set)} pickles")
    print(f"next       {next_command('signbart.clips')} info {target}")


def _info(arguments: argparse.Namespace) -> None:
    require_tables()
    clip_set, report = read_examined(arguments)
    _print_summary(clip_set)
    for step in clip_set.made_from:
        print(f"made from  {step}")
    for name, value in report.facts.items():
        print(f"{name:<10} {value}")
    _print_skipped(clip_set)
    by_signer: dict[str, list[Clip]] = {name: [] for name in clip_set.signer_names}
    for clip in clip_set.clips:
        by_signer[clip.signer].append(clip)
    rows = [
        (name, len(clips), len({clip.label for clip in clips}), len({c.repetition for c in clips}))
        for name, clips in by_signer.items()
    ]
    print_table("", ("signer", "clips", "classes", "repetitions"), rows)
    columns, *rows = counts_by_split(clip_set)
    print_table("clips / signers", columns, rows)
    _print_training(clip_set, arguments)


def _print_training(clip_set: ClipSet, arguments: argparse.Namespace) -> None:
    """The command that trains on them, where a layout has their landmarks."""
    layouts = [name for name, layout in LAYOUTS.items() if clip_set.gives(layout)]
    if not layouts:
        return
    shipped = [_CONFIGS[name] for name in _CONFIGS if name in layouts]
    command = ["--config", f"configs/{shipped[0] if shipped else 'kp90'}.yaml"]
    if not shipped:
        command += ["--set", f"data.layout={layouts[-1]}"]
    others = [word for word in arguments.given[1:] if word != arguments.data]
    command += ["--data", arguments.data, *others, "--output", "runs/NAME"]
    print(f"next       {next_command('signbart_torch.train')} {shlex.join(command)}")


def _show(arguments: argparse.Namespace) -> None:
    inner = CLIP_OF_SET.fullmatch(arguments.clip)
    reading = reading_options(arguments)
    if inner and Path(inner[1]).is_dir():
        clip_set, index = read_clips(inner[1], **reading), int(inner[2])
    else:
        clip_set, index = read_single_clip(arguments.clip, **reading), 0
    for written in draw_clip(clip_set, index, Path(arguments.output)):
        print(f"wrote      {written}")


def main(argv: Sequence[str] | None = None) -> int:
    """Says what a data set holds, draws it, or writes it otherwise; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart.clips"),
        description="Say what recordings hold, draw one, or write them in another form.",
    )
    commands = parser.add_subparsers(required=True, metavar="pack|unpack|info|show")
    source = argparse.ArgumentParser(add_help=False)
    source.add_argument("data", metavar="DATA", help=DATA_SET_FORMS)
    source.add_argument("--split", choices=SPLITS, default="all", help="default: %(default)s")
    source.add_argument(
        "--skip-bad", action="store_true", help="leave bad clips out, and say which"
    )
    add_reading_arguments(source)
    part = argparse.ArgumentParser(add_help=False)
    part.add_argument(
        "--layout",
        dest="only_layout",
        type=get_layout,
        metavar="NAME",
        help="keep only this layout's landmarks; a packed file is then uncompressed, so that large "
        f"sets are mapped and not loaded: {', '.join(LAYOUTS)} (default: all, compressed)",
    )
    part.add_argument("--merge", nargs="+", default=[], metavar="PATH", help="append these sets")
    part.add_argument(
        "--classes", nargs="+", metavar="CLASS", help="these alone, numbered in this order"
    )
    whose = part.add_mutually_exclusive_group()
    for option, what in (
        ("--signers", "of these alone"),
        ("--without-signers", "of all but these"),
    ):
        whose.add_argument(
            option,
            nargs="+",
            action=SignerNames,
            metavar="SIGNER",
            help=f"clips {what}; @FILE reads them from a file, one a line",
        )
    part.add_argument(
        "--max-clips",
        type=at_least(1),
        metavar="N",
        help="at most N clips of each class by each signer, chosen by --seed",
    )
    part.add_argument("--seed", type=at_least(0), default=0, help="default: %(default)s")
    pack = commands.add_parser("pack", parents=[source, part], help="write a packed .npz")
    pack.add_argument("out", metavar="OUT.npz", help="the file to write")
    pack.add_argument("--force", action="store_true", help="replace an existing file")
    pack.set_defaults(run=_pack)
    unpack = commands.add_parser("unpack", parents=[source, part], help="write a tree of pickles")
    unpack.add_argument("out", metavar="FOLDER", help="the folder to write")
    unpack.set_defaults(run=_unpack)
    info = commands.add_parser("info", parents=[source], help="say what is in a data set")
    info.set_defaults(run=_info)
    show = commands.add_parser("show", help="draw a clip: a strip of skeletons, and a moving one")
    show.add_argument("clip", metavar="CLIP", help=f"{CLIP_FORMS}; or FOLDER[12], a clip of a set")
    show.add_argument(
        "--output",
        default="clip",
        metavar="PATH",
        help="write PATH.png and PATH.gif (default: clip)",
    )
    add_reading_arguments(show, signers=False)
    show.set_defaults(run=_show)
    arguments = parser.parse_args(argv)
    arguments.given = sys.argv[1:] if argv is None else list(argv)
    arguments.run(arguments)
    return 0


if __name__ == "__main__":
    run_command(main)

"""Command-line options that say how recordings are to be understood; used wherever --data is."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from signbart.errors import ClipError, ConfigError
from signbart.landmarks.layouts import get_layout
from signbart.recordings.clip import ClipSet
from signbart.recordings.doctor import Report, examine_clips
from signbart.recordings.reading import read_clips
from signbart.recordings.recording import Changes

_READ_AS = (
    "source_layout", "signer_pattern", "image_size", "centred", "flip_y", "mirror", "swap_hands",
)  # fmt: skip


def add_reading_arguments(parser: argparse.ArgumentParser, *, signers: bool = True) -> None:
    """What the recordings do not say of themselves, and with `signers` how their names tell who."""
    parser.add_argument(
        "--source-layout",
        metavar="NAME|YAML",
        help="which landmark stands where in the recordings (default: what they or their number of "
        "landmarks say); docs/data.md lists the names",
    )
    if signers:
        parser.add_argument(
            "--signer-pattern",
            metavar="PATTERN",
            help="how file names tell the signer: user, autsl, lsa64, or a regular expression with "
            "(?P<signer>…) (default: the three in turn)",
        )
        parser.add_argument(
            "--strict", action="store_true", help="end where recordings look suspicious"
        )
    parser.add_argument(
        "--image-size",
        metavar="WIDTHxHEIGHT",
        help="size of the pictures, for landmarks in pixels, as in 640x480",
    )
    parser.add_argument(
        "--centred",
        type=float,
        metavar="R",
        help="coordinates run from -R to R about the middle of the picture",
    )
    parser.add_argument("--flip-y", action="store_true", help="y points the other way")
    parser.add_argument("--mirror", action="store_true", help="x points the other way")
    parser.add_argument(
        "--swap-hands", action="store_true", help="left and right hand are exchanged"
    )


def reading_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_reading_arguments`, as the functions of `reading` take them."""
    changes = Changes(options.centred, options.flip_y, options.mirror, options.swap_hands)
    names = ("source_layout", "signer_pattern", "image_size")
    given = {name: getattr(options, name) for name in names if hasattr(options, name)}
    return {**given, "changes": changes}


def require_plain(options: argparse.Namespace) -> None:
    """For commands that read the recordings again elsewhere, without these options.

    Raises:
        ConfigError: One of them is given.
    """
    given = [name for name, value in vars(options).items()
             if name in _READ_AS and value not in (None, False)]  # fmt: skip
    if given:
        option = "--" + given[0].replace("_", "-")
        raise ConfigError(
            f"{option}: this command reads {options.data} several times; write it once as it is "
            f"meant, python -m signbart.clips pack {options.data} OUT.npz {option} …, and give that"
        )


def read_data(
    options: argparse.Namespace, *, layout: str | None = None, quiet: bool = False
) -> ClipSet:
    """The recordings of ``--data``, and on stderr what of them was not read or is suspicious.

    Args:
        options: With ``data`` and ``skip_bad``, perhaps ``split``, and those of
            `add_reading_arguments`.
        layout: The model layout that will be asked of them, to say what they lack of it.
        quiet: Say nothing.

    Raises:
        ClipError: Something is suspicious, and ``--strict`` is given.
        SignBartError: See `reading.read_clips`.
    """
    return read_examined(options, layout=layout, quiet=quiet)[0]


def read_examined(
    options: argparse.Namespace, *, layout: str | None = None, quiet: bool = False
) -> tuple[ClipSet, Report]:
    """See `read_data`; with what was seen when the recordings were looked at."""
    clips = read_clips(
        options.data,
        split=getattr(options, "split", "all"),
        skip_bad=options.skip_bad,
        only=getattr(options, "only_layout", None),
        **reading_options(options),
    )
    report = examine_clips(clips)
    findings = report.findings
    if options.strict and findings:
        raise ClipError(
            f"{options.data}: {len(findings)} things look wrong: "
            + "; ".join(f"{number}. {found}" for number, found in enumerate(findings, start=1))
        )
    if not quiet:
        lacking = None if layout is None else clips.lacking(get_layout(layout))
        for note in (*clips.notes, *([lacking] if lacking else [])):
            print(f"note: {note}", file=sys.stderr)
        for finding in findings:
            print(f"warning: {finding}", file=sys.stderr)
    return clips, report

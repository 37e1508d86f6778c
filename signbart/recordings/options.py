"""Command-line options that say how recordings are to be understood; used wherever --data is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signbart.errors import ClipError
from signbart.landmarks.layouts import Layout
from signbart.recordings.clip import ClipSet
from signbart.recordings.data_source import DataSource
from signbart.recordings.recording import Changes
from signbart.recordings.text_files import read_text

if TYPE_CHECKING:
    from signbart.recordings.doctor import Report


class SignerNames(argparse.Action):
    """Takes signers by name, or ``@FILE``, which names one a line: a division that stays fixed.

    Raises `ClipError` where there is no such file, or it names nobody. Empty lines and what is
    behind a ``#`` do not count.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        """Keeps the names, each once."""
        names = []
        for value in values:
            named = _names_in(Path(value[1:])) if value.startswith("@") else [value]
            names += [name for name in named if name not in names]
        setattr(namespace, self.dest, names)


def _names_in(path: Path) -> list[str]:
    lines = [line.partition("#")[0].strip() for line in read_text(path).splitlines()]
    names = [line for line in lines if line]
    if not names:
        raise ClipError(f"{path}: names no signer; write one a line")
    return names


def add_reading_arguments(parser: argparse.ArgumentParser, *, signers: bool = True) -> None:
    """What the recordings do not say of themselves, and with `signers` how their names tell who."""
    parser.add_argument(
        "--source-layout",
        metavar="NAME|YAML",
        help="which landmark stands where in the recordings; docs/data.md lists the names "
        "(default: what the recordings say, else what their number of landmarks says)",
    )
    if signers:
        parser.add_argument(
            "--signer-pattern",
            metavar="PATTERN",
            help="how a file's name tells the signer: user, autsl, lsa64, or a regular expression "
            "with (?P<signer>…) (default: each of the three is tried)",
        )
        parser.add_argument(
            "--strict", action="store_true", help="end, not warn, where recordings look suspicious"
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
    parser.add_argument(
        "--flip-y", action="store_true", help="turn y round: it points the other way"
    )
    parser.add_argument(
        "--mirror", action="store_true", help="turn x round: it points the other way"
    )
    parser.add_argument(
        "--swap-hands", action="store_true", help="exchange left and right hand: they are swapped"
    )


def reading_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_reading_arguments`, as the functions of `reading` take them."""
    changes = Changes(options.centred, options.flip_y, options.mirror, options.swap_hands)
    names = ("source_layout", "signer_pattern", "image_size")
    given = {name: getattr(options, name) for name in names if hasattr(options, name)}
    return {**given, "changes": changes}


def data_source(options: argparse.Namespace, path: str | None) -> DataSource | None:
    """The recordings at `path`, understood as the options of `add_reading_arguments` say."""
    if path is None:
        return None
    return DataSource(path, **reading_options(options), strict=options.strict)


def read_data(
    options: argparse.Namespace, *, layout: Layout | None = None, quiet: bool = False
) -> ClipSet:
    """The recordings of ``--data``; see `DataSource.read`.

    Args:
        options: With ``data`` and ``skip_bad``, perhaps ``split``, and those of
            `add_reading_arguments`.
        layout: The model layout that will be asked of them.
        quiet: Say nothing.

    Raises:
        SignBartError: See `DataSource.read`.
    """
    return read_examined(options, layout=layout, quiet=quiet)[0]


def read_examined(
    options: argparse.Namespace, *, layout: Layout | None = None, quiet: bool = False
) -> tuple[ClipSet, Report]:
    """See `read_data`; with what was seen when the recordings were looked at."""
    return data_source(options, options.data).read(
        split=getattr(options, "split", "all"),
        skip_bad=options.skip_bad,
        only=getattr(options, "only_layout", None),
        layout=layout,
        quiet=quiet,
    )

"""How commands speak: errors on one line without a traceback, tables that survive a pipe."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import shlex
import sys
import tempfile
import traceback
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from signbart import __version__
from signbart.errors import SignBartError
from signbart.extras import explain_missing
from signbart.files import own_temporaries, require_ordinary
from signbart.memory import naming_shortage
from signbart.process import (
    BROKEN_PIPE,
    Terminated,
    discard_output,
    end_on_signals,
    prepare_streams,
)

if TYPE_CHECKING:
    from rich.console import Console

_LONGEST = 300  # characters of a command, and of an exception, on a line

_INTERRUPTED = 128 + 2  # what a shell says of Ctrl-C: SIGINT is 2
DEFECT = 70  # exit status of what is a fault of ours; sysexits.h: EX_SOFTWARE
_SHOW_TRACEBACK = "SIGNBART_TRACEBACK"

NOT_RUN = "not run"  # stands in tables for what was not measured


def run_command(main: Callable[[], int | None]) -> None:
    """Runs a command's ``main`` and ends the process with its exit status.

    A `SignBartError` becomes ``error: …`` on stderr and exit status 2 (bad input), and so does a
    package that is not installed, with the extra that brings it. Ctrl-C becomes 130, SIGTERM 143
    and SIGHUP 129, after the same tidying up. Where who read the output has gone, as ``| head``
    does, nothing is said and the status is that of Unix tools, 141. Anything else is a defect of
    ours: one line that says where its traceback is, and exit status `DEFECT`. With
    ``SIGNBART_TRACEBACK=1`` it keeps its traceback.
    """
    prepare_streams()
    with end_on_signals() as received:
        try:
            status = _status_of(main)
        except BaseException as error:
            # What breaks because the process is to end, such as a worker that was ended, too.
            if received:
                status = 0
            elif isinstance(error, OSError):  # of the message itself: stderr is full, or gone
                discard_output()
                status = 2
            elif isinstance(error, Exception):
                status = _report_defect(error)
            else:
                raise
    if received:
        if status != _INTERRUPTED:  # what a library makes of any signal
            with contextlib.suppress(OSError):
                print("interrupted", file=sys.stderr, flush=True)
        status = 128 + received[0]
    raise SystemExit(status)


def _status_of(main: Callable[[], int | None]) -> int:
    try:
        try:
            require_ordinary(sys.argv[1:])
            with own_temporaries(), naming_shortage(sys.argv[0]):
                status = main() or 0
        except SystemExit as end:  # argparse's, and of rich where nobody reads it any more
            if isinstance(end.__context__, BrokenPipeError):
                raise end.__context__ from None
            if not isinstance(end.code, int | None):
                raise
            status = end.code or 0
        # Here and not at exit, where Python would complain of a reader that has gone.
        sys.stdout.flush()
        return status
    except SignBartError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
    except ModuleNotFoundError as error:
        explained = explain_missing(error.name)
        if explained is None:
            raise
        print(f"error: {explained}", file=sys.stderr)
    except BrokenPipeError:
        discard_output()
        return BROKEN_PIPE
    except OSError as error:
        text = f"{error.filename or 'system'}: {error.strerror or error}"
        print(f"error: {printable(text)}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # a full disk: Python would try again at exit
            discard_output(sys.stdout)
    except Terminated:
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    return 2


def _report_defect(error: Exception) -> int:
    """Says on one line what happened, and asks for a report with the traceback, which is in a file.

    That is in the system's folder for temporary files: the folders that a command works in may be
    read as recordings, or not be to be written to. Returns the exit status.
    """
    if os.environ.get(_SHOW_TRACEBACK, "0") not in ("", "0"):
        raise error
    said = "".join(sign for sign in f"{type(error).__name__}: {error}" if sign.isprintable())
    command = f"{sys.argv[0]} {shlex.join(sys.argv[1:])}".strip()
    about = f"{command}\nsignbart {__version__}, Python {sys.version}, {platform.platform()}\n\n"
    text = about + "".join(traceback.format_exception(error))
    try:
        number, path = tempfile.mkstemp(prefix="signbart-traceback-", suffix=".txt")
        with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        where = f"please report it with {path}, which says where"
    except OSError as unwritable:
        why = unwritable.strerror
        where = f"its traceback cannot be written ({why}); {_SHOW_TRACEBACK}=1 shows it"
    print(
        f"error: {command[:_LONGEST]}: a fault of SignBART's own, {said[:_LONGEST]}: {where}",
        file=sys.stderr,
    )
    return DEFECT


def printable(text: str) -> str:
    r"""A text whose control characters are written as escapes (``\x1b``), but for ends of lines.

    Names and contents of files stand in messages, and terminals obey such characters.
    """
    return "".join(
        sign
        if sign in "\n\t" or unicodedata.category(sign) != "Cc"
        else sign.encode("unicode_escape").decode()
        for sign in text
    )


def program_name(usual: str) -> str:
    """What the help of the running command calls it.

    Args:
        usual: Its name when Python starts its module; ``signbart VERB`` where that script did.
    """
    return sys.argv[0] if sys.argv[0].startswith("signbart ") else usual


def next_command(module: str) -> str:
    """How to start another command in the way in which this one was: ``python -m``, or as a verb.

    Args:
        module: Such as ``bridge.parity``, whose verb is ``parity``.
    """
    verb = module.rpartition(".")[2]
    return f"signbart {verb}" if sys.argv[0].startswith("signbart ") else f"python -m {module}"


def console() -> Console:
    """A rich console: styled on a terminal, plain text in a pipe or under ``NO_COLOR``."""
    from rich.console import Console

    interactive = sys.stdout.isatty()
    # Off a terminal rich assumes 80 columns and would fold the tables that logs are read for.
    columns = os.environ.get("COLUMNS", "")
    width = None if interactive else int(columns) if columns.isdigit() and int(columns) else 160
    # No markup: a name in brackets is a name.
    return Console(width=width, highlight=False, markup=False, soft_wrap=not interactive)


def require_tables() -> None:
    """Ends a command that is going to print a table before it works, where Rich is missing.

    Raises:
        ModuleNotFoundError: Which `run_command` explains.
    """
    importlib.import_module("rich.table")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table whose columns after the first are aligned to the right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*(printable(str(cell)) for cell in row))
    console().print(table)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """The same table as GitHub Markdown, for reports and the README."""
    lines = [
        "| " + " | ".join(columns) + " |",
        "|" + "|".join("---" if index == 0 else "---:" for index in range(len(columns))) + "|",
    ]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(value: float | None, form: str = ".2f") -> str:
    """A number for a table; what was not measured says so."""
    return NOT_RUN if value is None else format(value, form)


@contextlib.contextmanager
def redirect_output(
    log: Path, verbose: bool = False, descriptors: Sequence[int] = (1, 2)
) -> Iterator[None]:
    """Sends all output, that of C++ libraries included, to the end of a file.

    Converters and quantizers say a lot that nobody wants to read while they work.

    Args:
        log: The file.
        verbose: Leave the output where it goes.
        descriptors: Which output: 1 is stdout, 2 stderr.
    """
    if verbose:
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(descriptor) for descriptor in descriptors]
    with open(log, "ab") as file:
        for descriptor in descriptors:
            os.dup2(file.fileno(), descriptor)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, kept in zip(descriptors, saved, strict=True):
            os.dup2(kept, descriptor)
            os.close(kept)


def at_least(lowest: int) -> Callable[[str], int]:
    """An argparse type: a whole number no smaller than `lowest`."""

    def number(text: str) -> int:
        from argparse import ArgumentTypeError

        value = int(text)
        if value < lowest:
            raise ArgumentTypeError(f"{value} is less than {lowest}")
        return value

    number.__name__ = "whole number"
    return number


def not_negative(text: str) -> float:
    """An argparse type: a finite number that is not negative."""
    from argparse import ArgumentTypeError

    value = float(text)
    if not 0 <= value < float("inf"):
        raise ArgumentTypeError(f"{text} is not a finite number of at least 0")
    return value

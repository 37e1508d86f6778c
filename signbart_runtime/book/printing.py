"""The main tables of runs, printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.errors import BridgeError
from signbart.console import console, print_table
from signbart.errors import SignBartError
from signbart.training.comparison import compare, folds_of, print_comparison

if TYPE_CHECKING:
    from signbart_runtime.book.results import Run


def report(folders: Sequence[Path], output: Path | None) -> int:
    """Prints the main tables of folders of `signbart_runtime.loso`; `output` receives their report.

    Two folders are also compared clip by clip. They may then be without artifacts, of trainings
    alone.

    Returns:
        0 if every artifact agrees with PyTorch, otherwise 1.

    Raises:
        BridgeError: A folder is no such run, or two of them would have one name in the report.
        SignBartError: Two folders, of which one is without artifacts, cannot be compared.
    """
    import datetime

    from bridge.verification.verdict import PASS
    from signbart_runtime.book.pages import write_book
    from signbart_runtime.book.reading import holds_exports, read_run

    if len(folders) == 2 and not all(map(holds_exports, folders)):
        if output is not None:
            bare = next(folder for folder in folders if not holds_exports(folder))
            raise BridgeError(
                f"{bare} holds no fold with exports: --output writes the report of runs of "
                "signbart loso-report; without it the two are compared"
            )
        print_comparison(compare(*folders), *folders)
        return 0
    runs = [read_run(folder) for folder in folders]
    twice = [name for name, count in Counter(run.data for run in runs).items() if count > 1]
    if twice and output is not None:
        raise BridgeError(
            f"two of the runs would both be called '{twice[0]}', so their rows could not be told "
            "apart; report on each by itself, or train one with --set name=OTHER"
        )
    for run in runs:
        _print_run(run, str(run.folder) if run.data in twice else run.data)
    if len(folders) == 2 and set.intersection(*(set(folds_of(folder)) for folder in folders)):
        try:
            print_comparison(compare(*folders), *folders)
        except SignBartError as error:
            print(f"not compared clip by clip: {error}")
    if output is not None:
        written = write_book(runs, output, datetime.date.today())
        print(f"wrote {' and '.join(map(str, written))}, with tables and pictures beside them")
    wrong = [result for run in runs for result in run.results if result.verdict != PASS]
    for r in wrong:
        print(f"{r.data} {r.fold} {r.training} {r.route} {r.scheme}: {r.verdict}: {r.reason}")
    return 1 if wrong else 0


def _print_run(run: Run, name: str) -> None:
    from signbart_runtime.book.answer import answer
    from signbart_runtime.book.tables import files, per_signer

    out = console()
    found = answer(run)
    out.print(f"{name}. {found.headline}", style="bold")
    for what, text in found.measured:
        out.print(f"  {what}: {text}")
    for text in found.notes:
        out.print(text)
    for table in (files(run), per_signer(run)):
        if table.width <= out.width:
            print_table(f"{name}. {table.title}", table.columns, table.rows)
            continue
        out.print(f"\n  {name}. {table.title}\n")
        for first, rest in table.cards():
            out.print(f"  {first}: {rest}")
        out.print()

"""``python -m signbart_runtime.report``: the results report over runs of loso, or two compared."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from signbart.console import program_name, run_command
from signbart_runtime.book.printing import report


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0 if every artifact passed, 1 if not."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart_runtime.report"),
        description="Print tables over runs of signbart loso-report; with --output write the "
        "results report: report_<date>.md and .html, CSV tables, confusion matrices, training "
        "curves. Of two runs, which may also be of train or loso, say whether they differ by more "
        "than chance on the clips that both were tested on.",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="output folders of loso-report; or two of train or loso",
    )
    parser.add_argument("--output", metavar="FOLDER", help="receives the report")
    options = parser.parse_args(arguments)
    return report(
        [Path(run) for run in options.runs], Path(options.output) if options.output else None
    )


if __name__ == "__main__":
    run_command(main)

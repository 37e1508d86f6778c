"""``python -m signbart_runtime.integrity``, ``signbart verify``: is a folder what it promises?"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from signbart.console import print_table, printable, program_name, require_tables, run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0 if every promise holds, 1 if not."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart_runtime.integrity"),
        description="Check all that a folder of artifacts says of itself: hashes, metadata, inputs "
        "and outputs, operators, figures, and the answers of golden.json. The checkpoint is not "
        "needed; signbart parity compares with it.",
        epilog="exit status: 0 all of it holds, 1 something does not, 2 there is no such folder",
    )
    parser.add_argument("folder", metavar="FOLDER", help="what signbart convert wrote")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    if not options.json:
        require_tables()

    from signbart_runtime.integrity.promises import check_folder

    found = check_folder(Path(options.folder))
    broken = [finding for finding in found if finding.problem]
    if options.json:
        print(json.dumps([dataclasses.asdict(one) for one in found], indent=2, ensure_ascii=False))
    else:
        print_table(
            "",
            ["file", "promise", "holds"],
            [[f.file, f.promise, "NO" if f.problem else "?" if f.note else "yes"] for f in found],
        )
        for finding in found:
            if finding.problem or finding.note:
                text = finding.problem or f"note: {finding.note}"
                print(printable(f"{finding.file}: {finding.promise}: {text}"))
        print(f"{len(found) - len(broken)} of {len(found)} hold")
    return 1 if broken else 0


if __name__ == "__main__":
    run_command(main)

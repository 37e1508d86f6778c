"""Whether what lies in a folder of artifacts is one conversion's, wholly."""

from __future__ import annotations

import json
import time
from pathlib import Path

from signbart.errors import ArtifactError
from signbart.json_text import read_json_file

# What a conversion says of its folder's files. While they are exchanged, it says that instead.
MANIFEST, RESULTS = "manifest.json", "export_results.json"
PAPERS = (MANIFEST, RESULTS)
REJECTED = "rejected"
_INCOMPLETE = "incomplete"
_LONGEST = 1000  # bytes of a note; a manifest of artifacts has more


def incomplete_note() -> str:
    """What stands in a manifest's place while the files that it is to list are exchanged."""
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    why = "files are being exchanged; where no command is at it, one was killed: give it again"
    return json.dumps({_INCOMPLETE: {"since": since, "why": why}}, indent=2) + "\n"


def artifacts_folder(path: Path) -> Path:
    """The folder of artifacts whose manifest is also that of `path`: itself, or of a file in it."""
    folder = path if path.is_dir() else path.parent
    return folder.parent if folder.name == REJECTED else folder


def require_complete(path: Path) -> None:
    """Refuses an artifact, or a folder of them, where an exchange of files did not end.

    Raises:
        ArtifactError: Says what to do.
    """
    for paper in (artifacts_folder(path) / name for name in PAPERS):
        try:
            tree = read_json_file(paper) if paper.stat().st_size < _LONGEST else None
        except (OSError, ValueError, RecursionError):
            continue  # none, or not of this project
        if isinstance(tree, dict) and _INCOMPLETE in tree:
            raise ArtifactError(
                f"{paper}: says that the files beside it are being exchanged, so they may be of "
                "two conversions; where none is running any more, give the killed command again, "
                "which first puts them back, or convert again into this folder"
            )

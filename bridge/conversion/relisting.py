"""A file that papers are about, made anew by itself: what they say of it then."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bridge.conversion.artifact_record import Artifact
from bridge.conversion.folder import Change
from bridge.conversion.golden import GOLDEN
from bridge.conversion.manifest import entry
from bridge.verification.report import parity_json
from signbart.artifacts.completeness import MANIFEST
from signbart.artifacts.contents import multiply_accumulates, operators
from signbart.files import file_sha256
from signbart.json_text import read_json_file


def list_again(change: Change, artifact: Artifact) -> bool:
    """Writes the papers anew where the folder's manifest lists the artifact.

    Manifest and ``parity.json`` get the new numbers, ``golden.json`` loses the old answers, and the
    pages for people get a note.

    Args:
        change: Receives them.
        artifact: In `change.made`.

    Returns:
        Whether it is listed.
    """
    name = artifact.path.name

    def in_manifest(tree: Any) -> None:
        (at,) = (
            at for at, one in enumerate(tree["artifacts"]) if Path(one.get("file", "")).name == name
        )
        found = dataclasses.replace(
            artifact,
            operators=dict(operators(artifact.path).most_common()),
            multiply_accumulates=multiply_accumulates(artifact.path),
        )
        tree["artifacts"][at] = entry(found, change.made) | {"judged by": "its float form"}

    def in_parity(tree: Any) -> None:
        others = [one for one in tree["results"] if one["artifact"] != name]
        tree["results"] = others + json.loads(parity_json(artifact.verdicts, {}))["results"]

    def in_golden(tree: Any) -> None:
        for clip in tree["clips"]:
            shorter = clip.get("shorter_answers", {}).values()
            for answers in (clip.get("answers", {}), clip.get("raw_answers", {}), *shorter):
                answers.pop(name, None)

    def in_files(tree: Any) -> None:
        for paper in tree.get("files", {}):
            tree["files"][paper] = file_sha256(_latest(change, paper))

    if not _edit(change, MANIFEST, in_manifest):
        return False
    _edit(change, "parity.json", in_parity)
    _edit(change, GOLDEN, in_golden)
    note = (
        f"\n{name} was quantized again since, by itself: what stands above is of the file before, "
        f"and {MANIFEST} has the numbers of the present one.\n"
    )
    for page in ("parity.md", "MODEL_CARD.md"):
        if (change.output / page).is_file():
            text = (change.output / page).read_text(encoding="utf-8").replace(note, "") + note
            (change.made / page).write_text(text, encoding="utf-8")
    _edit(change, MANIFEST, in_files)  # last: hashes of all that was written above
    return True


def _latest(change: Change, name: str) -> Path:
    made = change.made / name
    return made if made.exists() else change.output / name


def _edit(change: Change, name: str, alter: Callable[[Any], None]) -> bool:
    """Writes a JSON file of the folder with what `alter` does to it; whether it can be done."""
    try:
        tree = read_json_file(_latest(change, name))
        alter(tree)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # none, or another program's
    text = json.dumps(tree, indent=None if name == GOLDEN else 2, ensure_ascii=False) + "\n"
    (change.made / name).write_text(text, encoding="utf-8")
    return True

"""JSON of untrusted files: the standard library's reader, behind a bound on how deep it nests.

That reader descends once a level on the C stack. Python's recursion limit stops it at a thousand,
but libraries raise that limit for the whole process, and then a file of brackets ends it.
"""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

_LONGEST = 256 << 20  # bytes of a file; what a run writes has a few millions at most
DEEPEST = 100  # levels; configurations, manifests and recordings have ten at most
# Possessive: what may be given back is remembered, a hundred bytes a character.
_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def parse_json(text: str | bytes, **options: Any) -> Any:
    """As `json.loads`, whose further arguments `options` are.

    Raises:
        ValueError: It is no JSON, or nests deeper than `DEEPEST`.
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text), "surrogatepass")
    depth = 0
    for found in _BRACKETS.finditer(text):
        sign = found[0]
        if sign in "[{":
            depth += 1
            if depth > DEEPEST:
                raise ValueError(f"it nests deeper than {DEEPEST} levels")
        elif sign in "]}":
            depth -= 1
    return json.loads(text, **options)


def read_json_file(path: Path) -> Any:
    """What a file holds that this project wrote beside others: a manifest, results, an index.

    Raises:
        ValueError: It is no JSON, is no file but a pipe or a device, or is far too long.
        OSError: It cannot be read.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError("it is no file")
    if about.st_size > _LONGEST:
        raise ValueError(f"it has {about.st_size:,} bytes, over {_LONGEST:,}")
    return parse_json(path.read_text(encoding="utf-8"))

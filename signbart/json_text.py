"""JSON of untrusted files: the standard library's reader, behind a bound on how deep it nests.

That reader descends once a level on the C stack. Python's recursion limit stops it at a thousand,
but libraries raise that limit for the whole process, and then a file of brackets ends it.
"""

from __future__ import annotations

import json
import re
from typing import Any

DEEPEST = 100  # levels; configurations, manifests and recordings have ten at most
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


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

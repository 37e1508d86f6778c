"""Text and JSON as every editor writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from signbart.archives import check_unpacked
from signbart.errors import ClipError
from signbart.json_text import parse_json


def text_encoding(head: bytes) -> str:
    """The encoding of a text by its byte order mark; UTF-8 where it has none."""
    return "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"


def delimiter_of(text: str) -> str:
    """What parts the columns of a CSV: whichever of comma, semicolon and tab its head has most."""
    head = text.lstrip("\r\n").partition("\n")[0]
    return max(",;\t", key=head.count)


def read_text(path: Path) -> str:
    """A text file in UTF-8 or UTF-16, with or without the mark that editors put in front.

    Raises:
        ClipError: It cannot be read, or is in another encoding.
    """
    try:
        # As a tree of Python's objects it takes more; what is larger than all memory is no text.
        check_unpacked(path, path.stat().st_size, ClipError)
        data = path.read_bytes()
    except OSError as error:
        raise ClipError(f"{path}: cannot be read: {error.strerror or error}") from None
    encoding = text_encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ClipError(
            f"{path}: byte {error.start} is no {encoding.removesuffix('-sig').upper()}; save it as "
            "UTF-8"
        ) from None


def load_json(path: Path, *, unique: bool = False) -> Any:
    """What a JSON file holds.

    Args:
        path: The file.
        unique: Whether an object may have a key once only; Python's own takes the last silently.

    Raises:
        ClipError: It cannot be read, is no JSON, or has a key twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for at, key in enumerate(keys) if key in keys[:at])
            raise ClipError(f"{path}: {twice[:80]!r} stands more than once; keep one of them")
        return found

    try:
        return parse_json(read_text(path), object_pairs_hook=once if unique else None)
    except (ValueError, RecursionError) as error:
        raise ClipError(f"{path}: not valid JSON: {str(error)[:120]}") from None

"""What names of files and folders say: signer, repetition, split, and what is no recording."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from signbart.errors import ConfigError

UNKNOWN_SIGNER = "unknown"
SPLITS = ("train", "val", "test", "all")
_SYNONYMS = {
    "training": "train", "trn": "train", "tr": "train",
    "valid": "val", "validation": "val", "validate": "val", "dev": "val", "development": "val",
    "testing": "test", "tst": "test",
}  # fmt: skip

# What operating systems leave in folders, in lower case; names with a dot in front are theirs too.
_SYSTEM_FILES = frozenset(
    {
        "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "$recycle.bin", "@eadir",
        "lost+found", "system volume information",
    }
)  # fmt: skip


def split_named(name: str) -> str | None:
    """Which of `SPLITS` a folder or a field of that name means, or None."""
    lower = name.strip().lower()
    return lower if lower in SPLITS else _SYNONYMS.get(lower)


def is_system_file(name: str) -> bool:
    """Whether a file or folder of that name is an operating system's, or hidden."""
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def whole_number(text: str) -> int | None:
    """A number of at most nine digits, or None; Python refuses to read one of over 4,300."""
    return int(text) if text.isdecimal() and len(text) < 10 else None


@dataclass(frozen=True)
class SignerPattern:
    """How names of files tell who signs, and which repetition it is.

    Attributes:
        expressions: Each has a group ``signer``, a group ``repetition`` (a number), or both.
    """

    expressions: tuple[re.Pattern[str], ...]

    def read(self, stem: str) -> tuple[str | None, int]:
        """Signer and repetition in a file's name without its ending; None and 0 if not there."""
        found: dict[str, str] = {}
        for expression in self.expressions:
            match = expression.search(stem)
            groups = match.groupdict() if match else {}
            found |= {name: text for name, text in groups.items() if text and name not in found}
        return found.get("signer"), whole_number(found.get("repetition", "")) or 0


def _pattern(*expressions: str) -> SignerPattern:
    return SignerPattern(tuple(map(re.compile, expressions)))


SIGNER_PATTERNS = {
    # user12_G10_R10: signer user12, sign 10, repetition 10.
    "user": _pattern(r"^(?P<signer>user\d+)(?=_|$)", r"_R(?P<repetition>\d{1,9})(?=_|$)"),
    # AUTSL: signer12_sample345, perhaps with _color.
    "autsl": _pattern(r"^(?P<signer>signer\d+)_sample(?P<repetition>\d{1,9})(?=_|$)"),
    # LSA64: 001_003_002 is sign 1, signer 3, repetition 2.
    "lsa64": _pattern(r"^\d{3}_(?P<signer>\d{3})_(?P<repetition>\d{3})$"),
}
DEFAULT_PATTERNS: tuple[SignerPattern, ...] = tuple(SIGNER_PATTERNS.values())


def get_signer_pattern(text: str) -> SignerPattern:
    """A built-in pattern by its name, or a regular expression with a group ``signer``.

    A group ``repetition`` may be there too.

    Raises:
        ConfigError: It is neither.
    """
    if text in SIGNER_PATTERNS:
        return SIGNER_PATTERNS[text]
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ConfigError(f"--signer-pattern {text!r}: no regular expression: {error}") from None
    if "signer" not in pattern.groupindex:
        raise ConfigError(
            f"--signer-pattern {text!r}: needs a group (?P<signer>…), or is one of "
            f"{', '.join(SIGNER_PATTERNS)}"
        )
    return SignerPattern((pattern,))


def read_name(
    stem: str, patterns: Sequence[SignerPattern] = DEFAULT_PATTERNS
) -> tuple[str | None, int]:
    """Signer and repetition that a file's name without its ending tells; None and 0 if none."""
    read = [pattern.read(stem) for pattern in patterns]
    return (
        next((signer for signer, _ in read if signer), None),
        next((repetition for _, repetition in read if repetition), 0),
    )

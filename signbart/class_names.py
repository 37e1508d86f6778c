"""Labels: texts that one can print and tell apart. Checked at every border by one function."""

from __future__ import annotations

import unicodedata
from typing import Any

_LONGEST = 1000  # characters of a name
# Of Unicode: controls, halves of a pair, and what ends lines. Format characters stay: scripts of
# India and Persia need joiners.
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}


def looks(name: str) -> str:
    """A name as it looks: the same for every way that Unicode has to write it, and for spaces."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def check_class_names(
    names: Any, where: str, error: type[Exception], *, classes: int | None = None
) -> tuple[str, ...]:
    """The names of classes in the order of their labels, if they can be that.

    Args:
        names: What should be a list of them.
        where: They are found, for messages.
        error: What to raise.
        classes: How many there must be, where that is known.

    Raises:
        Exception: Of the class `error`: they are no texts, too few or too many, two of them look
            the same, or one is empty, far too long, or cannot be printed.
    """
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise error(f"{where}: labels must be a list of texts, found {str(names)[:80]!r}")
    if classes is not None and len(names) != classes:
        raise error(f"{where}: {len(names)} labels for {classes} classes")
    seen: dict[str, int] = {}
    for label, name in enumerate(names):
        if len(name) > _LONGEST:
            raise error(
                f"{where}: class {label} has a name of {len(name):,} characters, and may have "
                f"{_LONGEST:,}; rename it"
            )
        if not name.strip() or any(unicodedata.category(each) in _UNPRINTABLE for each in name):
            raise error(
                f"{where}: class {label} is named {name[:80]!r}, which is empty or cannot be "
                "printed; rename it"
            )
        other = seen.setdefault(looks(name), label)
        if other != label:
            raise error(
                f"{where}: classes {other} and {label} look the same, '{looks(name)[:80]}': they "
                "are equal, or differ in spaces or in how Unicode writes a letter; rename one"
            )
    return tuple(names)

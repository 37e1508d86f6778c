"""What people add to a model card: whose weights they are, and what no conversion knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from bridge.errors import BridgeError
from signbart.recordings.text_files import read_text
from signbart.yaml_files import parse_yaml

_FENCE = "---\n"
_LONGEST = 1 << 16  # bytes; a card is read, not searched


@dataclass(frozen=True)
class CardNotes:
    """A person's part of a model card.

    Attributes:
        text: Markdown, which stands behind the card's first paragraph. What its heading
            ``## Recognition`` has is shown by the page of ``signbart_runtime.web``, too.
        license: SPDX name, or another one line; None where the file does not say.
    """

    text: str
    license: str | None = None


def read_card_notes(path: str | Path) -> CardNotes:
    """Reads Markdown, with ``license: NAME`` between two lines ``---`` in front, if wanted.

    Raises:
        SignBartError: The file cannot be read, is empty or too long, or has another front matter.
    """
    path = Path(path)
    if path.is_file() and path.stat().st_size > _LONGEST:
        raise BridgeError(f"{path}: more than {_LONGEST:,} bytes; a card links to the rest")
    text, found = read_text(path).replace("\r\n", "\n"), {}
    if text.startswith(_FENCE):
        front, fence, text = text.removeprefix(_FENCE).partition(f"\n{_FENCE}")
        try:
            found = parse_yaml(front) if fence else None
        except yaml.YAMLError:
            found = None
        name = found.get("license") if isinstance(found, dict) and len(found) == 1 else None
        if not isinstance(name, str) or not name.strip() or "\n" in name:
            raise BridgeError(f"{path}: between its first lines --- belongs 'license: NAME' alone")
    if not text.strip():
        raise BridgeError(f"{path}: holds no text for the card")
    return CardNotes(text.strip(), found.get("license"))

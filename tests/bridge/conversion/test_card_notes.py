"""A person's part of the model card, and what is none."""

import pytest

from bridge.conversion.card_notes import read_card_notes
from signbart.errors import SignBartError
from tests.conftest import REPOSITORY


def test_a_licence_and_markdown(tmp_path):
    path = tmp_path / "notes.md"
    path.write_bytes(
        b"---\r\nlicense: mit\r\n---\r\n\r\nOf P01.\r\n\r\n## Recognition\r\n\r\nGood.\r\n"
    )
    notes = read_card_notes(path)
    assert notes.license == "mit" and notes.text == "Of P01.\n\n## Recognition\n\nGood."
    path.write_text("Plain.\n---\nlicense: no\n", encoding="utf-8")
    assert read_card_notes(path).license is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no text"),
        (b"---\nlicense: mit\n---\n\n", "no text"),
        (b"---\nlicense: mit\n", "'license: NAME' alone"),
        (b"---\nlicense: mit\ntags: []\n---\nx", "'license: NAME' alone"),
        (b"---\nlicense: [mit]\n---\nx", "'license: NAME' alone"),
        (b"---\nlicense: {\n---\nx", "'license: NAME' alone"),
        (b"---\n---\nx", "'license: NAME' alone"),
        (b"\xff", "no UTF-8"),
        (b"x" * 70_000, "more than 65,536 bytes"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_part_of_a_card(tmp_path, content, message):
    path = tmp_path / "notes.md"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SignBartError, match=rf"notes\.md: .*{message}"):
        read_card_notes(path)


@pytest.mark.parametrize("name", ["example", "asl10", "isl30"])
def test_the_shipped_cards_hold_their_notes(name):
    notes = read_card_notes(REPOSITORY / "configs" / f"{name}_card.md")
    card = (REPOSITORY / "exports" / name / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"\n\n{notes.text}\n\n## Which file" in card
    assert card.startswith(f"---\nlicense: {notes.license}\n")

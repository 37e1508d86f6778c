"""The README as the site's first page; named in mkdocs.yml, which calls these by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

README = Path(__file__).resolve().parents[1] / "README.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the README, whose links begin in docs/ here."""
    text = README.read_text(encoding="utf-8").replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lets links to the README lead to that page, and names pages by words instead of files."""
    markdown = markdown.replace("](../README.md", "](index.md")
    return re.sub(
        r"\[(?:docs/)?(\w+)\.md\](?=\()", lambda m: f"[{m[1].replace('_', ' ')}]", markdown
    )

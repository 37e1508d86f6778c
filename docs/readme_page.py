"""The README as the site's first page; named in mkdocs.yml, which calls these by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
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


def on_page_markdown(markdown: str, config: MkDocsConfig, **_: Any) -> str:
    """Lets links to the README lead to that page, and names pages as the navigation does."""
    markdown = markdown.replace("](../README.md", "](index.md")
    titles = dict(_titles(config.nav or []))
    return re.sub(
        r"\[(?:docs/)?(\w+\.md)\](?=\()", lambda m: f"[{titles.get(m[1], m[1])}]", markdown
    )


def _titles(nav: list[Any]) -> Iterator[tuple[str, str]]:
    """File and title of every page that the navigation gives one."""
    for entry in nav:
        for title, there in entry.items() if isinstance(entry, dict) else ():
            yield from _titles(there) if isinstance(there, list) else [(there, title)]

"""``make site``: builds without a warning, loads nothing from elsewhere, notices dead links."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, REPOSITORY

# A folder of whoever built it.
MACHINE = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|usr|opt)/\w+")
LOADED = re.compile(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?(https?://[^\"' >]+)")


def build(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", folder, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    built = build(folder)
    assert built.returncode == 0 and "WARNING" not in built.stdout, built.stdout
    return folder


def test_every_page_is_there(site):
    names = {"index" if page == "README.md" else Path(page).stem for page in PAGES}
    assert names <= {path.stem for path in site.glob("*.html")}
    packages = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")}
    assert {path.stem for path in site.glob("api/*.html")} == packages - {"benchmarks", "tests"}


def test_the_readme_is_the_first_page_with_its_links(site):
    first = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="recognition.html"' in first and 'src="pictures/overview.png"' in first
    migration = (site / "migration.html").read_text(encoding="utf-8")
    assert 'href="index.html#train-and-fine-tune"' in migration


def test_the_api_has_signatures_and_what_is_raised(site):
    page = (site / "api" / "bridge.html").read_text(encoding="utf-8")
    assert "bridge.conversion.pipeline.convert" in page and "ConversionError" in page


def test_pages_load_nothing_from_elsewhere_and_name_no_machine(site):
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not LOADED.findall(text), path
        assert not MACHINE.findall(text), path


def test_a_link_that_leads_nowhere_ends_it(tmp_path):
    pytest.importorskip("mkdocs")
    (tmp_path / "docs").mkdir()
    dead = ("nowhere.md", "index.md#nowhere", "/index.md", "../README.md#nowhere")
    text = "\n\n".join(("# Page", *(f"[there]({link})" for link in dead)))
    (tmp_path / "docs" / "page.md").write_text(text, encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_text(
        f"INHERIT: {REPOSITORY / 'mkdocs.yml'}\nhooks: [{REPOSITORY / 'docs' / 'readme_page.py'}]\n"
        "nav: [index.md, page.md]\n",
        encoding="utf-8",
    )
    built = build(tmp_path / "site", "--config-file", str(tmp_path / "mkdocs.yml"))
    assert built.returncode
    for link in dead:
        assert f"link '{link.replace('../README', 'index')}'" in built.stdout, built.stdout

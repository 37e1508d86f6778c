"""What the page keeps for use without a network: whole files only, and never at its own cost."""

import hashlib
from contextlib import contextmanager
from pathlib import Path

import pytest

from signbart_runtime.web.site import Site, make_site
from tests.signbart_runtime.web.conftest import EXAMPLE, WELCOME, problem_of, served

pytestmark = pytest.mark.slow

# Path -> SHA-256 of everything that is kept, in whatever cache.
KEPT = """async () => {
  const found = {};
  for (const name of await caches.keys()) {
    const cache = await caches.open(name);
    for (const request of await cache.keys()) {
      const bytes = await (await cache.match(request)).arrayBuffer();
      const sha256 = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
      found[new URL(request.url).pathname.slice(1)] =
        [...sha256].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    }
  }
  return found;
}"""


def named(site: Site, part: str) -> list[str]:
    return [name for name in site.files if part in name]


@contextmanager
def half(site: Site, names: list[str], folder: Path):
    """The site while it has only the first half of some files."""
    whole = dict(site.files)
    for name in names:
        content = whole[name].read_bytes()
        site.files[name] = folder / hashlib.sha256(name.encode()).hexdigest()
        site.files[name].write_bytes(content[: len(content) // 2])
    yield
    site.files.update(whole)


@pytest.mark.parametrize(
    ("part", "title"),
    [
        ("model/demo", "The model is damaged"),
        ("litert_wasm", "Something failed"),
        ("litertjs-core-2.5.3/dist", "Something failed"),
        ("modules/view.js", None),  # without it nothing of the page runs
    ],
)
def test_half_a_file_is_not_kept_and_a_reload_mends_the_page(
    context, packages, tmp_path, part, title
):
    context.set_default_timeout(20_000)
    site = make_site(EXAMPLE, packages)
    with served(site) as url:
        page = context.new_page()
        with half(site, named(site, part), tmp_path):
            page.goto(url)
            if title:
                assert title in problem_of(page)
            else:
                page.wait_for_timeout(500)
        page.reload()
        page.wait_for_selector(WELCOME)
        page.wait_for_timeout(500)  # what is kept is kept beside the page's own work
        kept = page.evaluate(KEPT)
    described = site.description["files"]
    assert named(site, part)[0] in kept or "compat" in named(site, part)[0]
    assert {name: kept[name] for name in kept if name in described} == {
        name: described[name] for name in kept if name in described
    }
    assert set(kept) - set(described) == {"", "site.json"}


def test_what_was_kept_is_asked_for_again_where_the_page_was_made_again(
    context, packages, tmp_path
):
    """A file whose name stays the same, and one that goes."""
    site = make_site(EXAMPLE, packages)
    with served(site) as url:
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector(WELCOME)
        for name, text in {"modules/theme.js": "// newer\n", "model/other": "other"}.items():
            source = site.files.get(name)
            content = text + (source.read_text(encoding="utf-8") if source else "")
            site.files[name] = tmp_path / Path(name).name
            site.files[name].write_text(content, encoding="utf-8")
            site.description["files"][name] = hashlib.sha256(content.encode()).hexdigest()
        page.reload()
        page.wait_for_selector(WELCOME)
        page.evaluate("async () => (await fetch('model/other')).text()")
        page.wait_for_timeout(500)
        kept = page.evaluate(KEPT)
        assert kept["modules/theme.js"] == site.description["files"]["modules/theme.js"]
        assert kept["model/other"] == site.description["files"]["model/other"]
        del site.files["model/other"], site.description["files"]["model/other"]
        page.reload()
        page.wait_for_selector(WELCOME)
        page.wait_for_timeout(500)
        assert "model/other" not in page.evaluate(KEPT)


def test_a_page_that_kept_damaged_files_forgets_them(context, packages):
    """What an earlier version of the page kept came unchecked."""
    site = make_site(EXAMPLE, packages)
    with served(site) as url:
        page = context.new_page()
        page.goto(f"{url}icon.svg")
        page.evaluate(
            """async (model) => {
              const cache = await caches.open('signbart');
              await cache.put(`/${model}`, new Response('half'));
            }""",
            site.description["model"],
        )
        page.goto(url)
        page.wait_for_selector(WELCOME)
        assert page.evaluate("caches.has('signbart')") is False


@pytest.mark.parametrize("room", [3_000_000, 300_000])
def test_a_full_storage_does_not_stop_the_page(browser, served_example, still, room):
    with browser.new_context() as context:
        context.set_default_timeout(60_000)
        page = context.new_page()
        quota = {"origin": served_example.rstrip("/"), "quotaSize": room}
        context.new_cdp_session(page).send("Storage.overrideQuotaForOrigin", quota)
        for _ in range(2):
            page.goto(served_example)
            page.wait_for_selector(WELCOME)
        page.set_input_files("#video-file", str(still))
        page.wait_for_selector("#whole-text")

"""Takes: as many as one records, and warned of before they are lost. And what a browser refuses."""

import json

import pytest

from tests.signbart_runtime.web.conftest import RUNNING, WELCOME

pytestmark = pytest.mark.slow

MANY = 20


def test_takes_become_a_file_one_by_one(shared_page):
    """640 takes of 60 frames are more than a string of JavaScript's holds."""
    few, size, longest = shared_page.evaluate(
        """async (many) => {
          const {Takes} = await import('./modules/takes.js');
          const {HOLISTIC, emptyFrame} = await import('./modules/skeletons.js');
          const frames = Array.from({length: 60}, (_, at) => ({
            seconds: at / 30,
            frame: emptyFrame(HOLISTIC).map((_, of) => 0.1 + (((7 * of + at) % 8e4) + 1) / 1e5),
          }));
          const takes = new Takes();
          const keep = (label, some) =>
            takes.keep(some, {label, signer: 'P07', aspect: 4 / 3, skeleton: HOLISTIC});
          keep('naïve', frames.slice(0, 3));
          keep('مرحبا', frames.slice(0, 2));
          const few = await takes.file().text();
          for (let at = 0; at < many; at += 1) keep('hello', frames);
          const {stringify} = JSON;
          let longest = 0;
          JSON.stringify = (tree) => {
            const text = stringify(tree);
            longest = Math.max(longest, text.length);
            return text;
          };
          const {size} = takes.file();
          JSON.stringify = stringify;
          return [few, size, longest];
        }""",
        MANY,
    )
    clips = json.loads(few)
    assert [clip["label"] for clip in clips] == ["naïve", "مرحبا"]
    assert few == json.dumps(clips, ensure_ascii=False, separators=(",", ":"))
    assert 0 < longest < 1.2 * size / MANY


def test_leaving_is_warned_of_while_the_first_take_is_recorded(page):
    warned = "() => !dispatchEvent(new Event('beforeunload', {cancelable: true}))"
    page.click("#example")
    page.wait_for_selector(RUNNING)
    page.fill("#sign", "hello")
    page.fill("#signer", "P07")
    assert not page.evaluate(warned)
    page.click("#record")
    page.wait_for_selector("#screen[data-recording=true]")
    assert page.evaluate(warned)


def test_a_browser_that_keeps_nothing_shows_the_page(context, served_example):
    page = context.new_page()
    page.add_init_script(
        """Object.defineProperty(window, 'localStorage', {
          get() { throw new DOMException('denied', 'SecurityError'); },
        });"""
    )
    page.goto(served_example)
    page.wait_for_selector(WELCOME, timeout=20_000)
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: light"

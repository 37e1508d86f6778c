"""Names of signs as people give them: long ones, and ones from right to left."""

import pytest

pytestmark = pytest.mark.slow

LONG = "INTERNATIONAL_DAY_OF_SIGN_LANGUAGES"
ARABIC = "مرحبا بك"
NAMES = [LONG, ARABIC, "SELBSTBESTIMMUNG_UND_TEILHABE", "你好世界" * 12, "hello"]
SHOWN = """async (names) => {
  const view = await import('./modules/view.js');
  const signs = [...names];
  view.clearSigns();
  for (const name of names) view.addSign(name);
  view.showPossible({pictures: true, example: true, takes: true, signs});
  view.showAnswer(names[0], names.map((label) => ({label, probability: 0.2})), true);
  view.showTakes(names.map((label, at) => ({
    label, signer: 'P01', take: at + 1, seconds: 1.5, frames: [1, 2], hands: 1,
    answer: {label, probability: 0.84},
  })), {});
  document.getElementById('all-signs').replaceChildren(
    ...names.map((textContent) => view.make('li', {textContent})));
  document.querySelector('details').open = true;
  view.showWhole('clip.json 1', {label: names[1], probability: 0.84}, true);
}"""
BEYOND = """() => [...document.querySelectorAll('.panel *, .card *')]
  .filter((one) => one.checkVisibility() && !one.closest('.unseen'))
  .filter((one) => {
    const around = one.closest('.panel, .card').getBoundingClientRect();
    const {right} = one.getBoundingClientRect();
    const over = one.matches('li, p') && one.scrollWidth > one.clientWidth + 1;
    return over || right > around.right + 1;
  })
  .map((one) => `${one.parentElement.id} ${one.className} ${one.textContent.slice(0, 20)}`)"""
CARD = """() => {
  const [screen, card] = ['screen', 'welcome'].map((id) =>
    document.getElementById(id).getBoundingClientRect());
  return card.top >= screen.top && card.bottom <= screen.bottom;
}"""
# Left ends of characters on the screen, in the order of the text.
PLACES = """(selector) => {
  const walker = document.createTreeWalker(document.querySelector(selector), NodeFilter.SHOW_TEXT);
  const places = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    for (let at = 0; at < node.length; at += 1) {
      const range = new Range();
      range.setStart(node, at);
      range.setEnd(node, at + 1);
      const {left, top} = range.getBoundingClientRect();
      places.push([node.data[at], top, left]);
    }
  }
  return places;
}"""


@pytest.mark.parametrize("width", [360, 390, 800, 1280])
def test_long_names_stay_inside(shared_page, width, tmp_path):
    """The pictures are kept, to be looked at."""
    shared_page.set_viewport_size({"width": width, "height": 844})
    shared_page.evaluate(SHOWN, NAMES)
    shared_page.screenshot(path=tmp_path / f"{width}.png", full_page=True)
    assert not shared_page.evaluate(BEYOND)
    assert shared_page.evaluate(CARD)
    assert shared_page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_what_stands_after_a_name_from_right_to_left_stays_to_its_right(shared_page):
    shared_page.set_viewport_size({"width": 1280, "height": 844})
    shared_page.evaluate(SHOWN, [ARABIC, ARABIC])
    for selector, after in (
        ("#whole-text", ", 84%"),
        ("#takes .detail", ", 84%"),
        ("#takes .name", "P01 · 2"),
        ("#welcome-signs", "."),
    ):
        found = shared_page.evaluate(PLACES, selector)
        assert "".join(letter for letter, *_ in found).endswith(after)
        name, rest = found[: -len(after)], found[-len(after) :]
        places = [tuple(place) for _, *place in rest]
        assert places == sorted(places)
        ends = [left for letter, _, left in name if letter in ARABIC and letter != " "]
        lines = {top for letter, top, _ in found}
        if len(lines) == 1 and ends:
            assert places[0][1] > max(ends), selector


def test_the_answer_to_a_whole_recording_is_announced(page):
    page.click("#example")
    page.wait_for_selector("#whole-text")
    assert page.text_content("#spoken") == page.text_content("#whole-text")
    assert ", as a whole: sign_" in page.text_content("#spoken")

"""From one source to the next: what is of the first stays with it."""

import pytest

pytestmark = pytest.mark.slow


def test_a_sign_that_goes_on_does_not_get_into_the_next_sources_list(shared_page):
    """Neither the sign that had begun, nor an answer that the model still owes."""
    found = shared_page.evaluate(
        """async () => {
          const {follow} = await import('./modules/run.js');
          const {RULE} = await import('./modules/spotting.js');
          const {HOLISTIC, emptyFrame} = await import('./modules/skeletons.js');
          const list = document.getElementById('so-far');
          let owed = () => undefined;
          const recogniser = {
            labels: ['hello', 'idle'], rule: RULE, skeleton: HOLISTIC,
            classify: async () => {
              await owed();
              return {probabilities: new Float32Array([0.95, 0.05]), milliseconds: 1};
            },
            ranked: () => [],
          };
          const takes = {add: () => undefined};
          const stop = new AbortController();
          async function* moments() {
            for (let at = 0; !stop.signal.aborted && at < 500; at += 1) {
              yield {seconds: at / 25, frame: emptyFrame(HOLISTIC).fill(0.5)};
              if (at === 150) owed = async () => stop.abort();
            }
          }
          await follow(moments(), {recogniser, takes}, stop.signal);
          const aborted = list.children.length;
          const next = new AbortController();
          owed = () => undefined;
          async function* whole() {
            for (let at = 0; at < 150; at += 1) {
              yield {seconds: at / 25, frame: emptyFrame(HOLISTIC).fill(0.5)};
            }
          }
          await follow(whole(), {recogniser, takes}, next.signal);
          return [aborted, list.children.length];
        }"""
    )
    assert found == [0, 1]


def test_nothing_is_left_of_a_picture_that_was_looked_at(shared_page):
    """A camera runs for hours, with thirty pictures a second."""
    left = shared_page.evaluate(
        """async () => {
          const {cameraMoments, Gate} = await import('./modules/sources.js');
          const {signal} = new AbortController();
          const listeners = new Set();
          for (const [verb, act] of [['add', 'add'], ['remove', 'delete']]) {
            signal[`${verb}EventListener`] = (_, listener) => listeners[act](listener);
          }
          const video = {requestVideoFrameCallback: (go) => queueMicrotask(() => go(1))};
          let count = 0;
          for await (const moment of cameraMoments(video, new Gate(), signal)) {
            if (moment.seconds !== 0.001) throw new Error(moment.seconds);
            count += 1;
            if (count === 100) return listeners.size;
          }
        }"""
    )
    assert left == 0

// One source from its first frame to its last: landmarks, skeleton, running answer, recording.

import {drawFrame} from './drawing.js';
import {partsSeen} from './skeletons.js';
import * as view from './view.js';
import {RunningLabel} from './window.js';

const SMOOTH = 0.9; // of the times that are shown
const NOBODY = 'Nobody is seen';

/**
 * Follows moments until they end or the signal aborts.
 *
 * @param {AsyncIterable<object>} moments See sources.js.
 * @param {object} tools
 * @param {import('./recogniser.js').Recogniser} tools.recogniser
 * @param {import('./landmarker.js').Landmarker | undefined} tools.landmarker For pictures.
 * @param {import('./takes.js').Takes} tools.takes
 * @param {object} tools.skeleton What frames hold.
 * @param {boolean} tools.keepAll For a source that ends.
 * @param {AbortSignal} signal
 * @returns {Promise<{seconds: number, frame: Float32Array}[]>} All frames of a source that ends.
 */
export async function follow(moments, tools, signal) {
  const {recogniser, landmarker, takes, skeleton, keepAll} = tools;
  const canvas = document.getElementById('canvas');
  const running = new RunningLabel();
  const times = {};
  const all = [];
  let last;
  for await (const moment of moments) {
    const begun = performance.now();
    const frame = moment.frame ?? landmarker.find(moment.picture, moment.seconds * 1000);
    if (moment.picture) times.finding = smooth(times.finding, performance.now() - begun);
    // A pause is no slow frame.
    if (begun - last < 2000) times.apart = smooth(times.apart, begun - last);
    else if (last !== undefined) running.clear();
    last = begun;

    drawFrame(canvas, frame, skeleton);
    const seen = partsSeen(frame, skeleton);
    view.showSeen(seen);
    takes.add(moment.seconds, frame);
    if (keepAll) all.push({seconds: moment.seconds, frame});
    if (running.add(moment.seconds, frame)) {
      await answer(running, recogniser, times);
      if (signal.aborted) break;
    } else if (running.filled < 1) {
      view.showAnswer(Object.values(seen).some(Boolean) ? 'Watching' : NOBODY);
    }
    view.showMeter({fps: times.apart && 1000 / times.apart, ...times});
  }
  return all;
}

async function answer(running, recogniser, times) {
  const {frames} = running;
  if (!frames.some((frame) => frame.some((number) => number !== 0))) {
    running.answer(undefined);
    view.showAnswer(NOBODY);
    view.speak(NOBODY);
    return;
  }
  const {probabilities, milliseconds} = await recogniser.classify(frames);
  times.running = smooth(times.running, milliseconds);
  const {probabilities: smoothed, known} = running.answer(probabilities);
  const ranked = recogniser.ranked(smoothed);
  const text = known ? ranked[0].label : 'No sign that it knows';
  view.showAnswer(text, ranked, known);
  view.speak(text);
}

function smooth(before, now) {
  return before === undefined ? now : SMOOTH * before + (1 - SMOOTH) * now;
}

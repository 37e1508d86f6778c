// One source from its first frame to its last: landmarks, skeleton, running answer, recording.

import {drawFrame} from './drawing.js';
import {partsSeen} from './skeletons.js';
import {Spotter, Windows} from './spotting.js';
import * as view from './view.js';

const SMOOTH = 0.9; // of the times that are shown
const GAP = 1; // seconds without a frame: what comes is another stretch of time

/**
 * Follows moments until they end or the signal aborts.
 *
 * @param {AsyncIterable<object>} moments See sources.js.
 * @param {object} tools
 * @param {import('./recogniser.js').Recogniser} tools.recogniser
 * @param {import('./landmarker.js').Landmarker | undefined} tools.landmarker For pictures.
 * @param {import('./takes.js').Takes} tools.takes
 * @param {boolean} tools.keepAll For a source that ends.
 * @param {AbortSignal} signal
 * @returns {Promise<{seconds: number, frame: Float32Array}[]>} All frames of a source that ends.
 */
export async function follow(moments, tools, signal) {
  const {recogniser, landmarker, takes, keepAll} = tools;
  const canvas = document.getElementById('canvas');
  const times = {};
  const all = [];
  let [windows, answers] = [new Windows(recogniser.rule), new Answers(recogniser, signal)];
  let lastShown, lastTaken;
  view.clearSigns();
  for await (const moment of moments) {
    const begun = performance.now();
    const frame = moment.frame ?? landmarker.find(moment.picture, moment.seconds * 1000);
    if (moment.picture) times.finding = smooth(times.finding, performance.now() - begun);
    if (moment.seconds - lastTaken > GAP) {
      answers.end();
      [windows, answers] = [new Windows(recogniser.rule), new Answers(recogniser, signal)];
    } else if (lastShown !== undefined) {
      times.apart = smooth(times.apart, begun - lastShown);
    }
    [lastShown, lastTaken] = [begun, moment.seconds];

    drawFrame(canvas, frame, recogniser.skeleton);
    const seen = partsSeen(frame, recogniser.skeleton);
    view.showSeen(seen);
    takes.add(moment.seconds, frame);
    if (keepAll) all.push({seconds: moment.seconds, frame});
    const window = windows.add(moment.seconds, frame);
    if (window) {
      times.running = smooth(times.running, await answers.add(window));
      if (signal.aborted) break;
    } else if (!answers.any) {
      view.showAnswer(Object.values(seen).some(Boolean) ? 'Watching' : view.NOBODY);
    }
    view.showMeter({fps: times.apart && 1000 / times.apart, ...times});
  }
  answers.end();
  return all;
}

/** The model's answers to windows, shown as they come; not once another source is shown. */
class Answers {
  constructor(recogniser, signal) {
    Object.assign(this, {recogniser, signal});
    this.spotter = new Spotter(recogniser.labels, recogniser.rule);
    this.any = false;
  }

  /** Shows what a window changes; returns how long the model took, if it was asked. */
  async add({now, frames}) {
    const {spotter, recogniser} = this;
    const anybody = frames.some((frame) => frame.some((number) => number !== 0));
    const {probabilities, milliseconds} = anybody
      ? await recogniser.classify(frames)
      : {probabilities: new Float32Array(recogniser.labels.length)};
    if (this.signal.aborted) return milliseconds;
    const before = spotter.event?.label;
    const ended = spotter.add(now, probabilities);
    this.any = true;
    if (ended) view.addSign(ended.label);
    const sign = spotter.event?.label;
    const ranked = anybody ? recogniser.ranked(spotter.averaged) : [];
    view.showAnswer(sign ?? (anybody ? 'No sign' : view.NOBODY), ranked, sign !== undefined);
    if (sign !== undefined && (sign !== before || ended)) view.speak(sign);
    return milliseconds;
  }

  /** The stream has ended, and with it the sign that went on. */
  end() {
    const ended = this.spotter.finish();
    if (ended && !this.signal.aborted) view.addSign(ended.label);
  }
}

function smooth(before, now) {
  if (now === undefined || before === undefined) return now ?? before;
  return SMOOTH * before + (1 - SMOOTH) * now;
}

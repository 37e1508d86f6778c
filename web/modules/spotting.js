// Windows of a stream, and what makes one sign of several: signbart/streaming/rule.py, written
// again. Knows no page and no model. docs/streaming.md says the rule in words.

const EARLY = 1e-3; // seconds that a frame may come before its window is due: clocks round

/**
 * window     seconds of frames that are classified together
 * stride     seconds from one window to the next
 * smoothing  windows, the last one among them, whose probabilities are averaged
 * threshold  averaged probability from which on a label begins an event
 * hold       the event goes on while its label keeps this share of the threshold
 * pause      seconds below that after which the event has ended
 * idle       the class that is no sign; without one the threshold alone decides
 */
export const RULE = {
  window: 2,
  stride: 0.2,
  smoothing: 3,
  threshold: 0.6,
  hold: 0.5,
  pause: 0.6,
  idle: 'idle',
};

/**
 * The rule for a model, which may bring a threshold of its own; undefined where that is none.
 *
 * @param {{threshold?: number}} metadata
 */
export function ruleOf({threshold = RULE.threshold}) {
  return typeof threshold === 'number' && threshold > 0 && threshold <= 1 ? {...RULE, threshold} : undefined;
}

/** The last `window` seconds of a stream, every `stride` seconds. */
export class Windows {
  constructor(rule = RULE) {
    this.rule = rule;
    this.seen = [];
    this.due = rule.window;
  }

  /**
   * Takes a frame.
   *
   * @param {number} seconds Growing, since whenever.
   * @param {*} frame
   * @returns {{now: number, frames: any[]} | undefined} The window that it completes: its time
   *   since the first frame, and its frames.
   */
  add(seconds, frame) {
    const {window, stride} = this.rule;
    this.first ??= seconds;
    const now = seconds - this.first;
    this.seen.push({now, frame});
    while (this.seen[0].now <= now - window + EARLY) this.seen.shift();
    if (now < this.due - EARLY || this.seen.length < 2) return undefined;
    this.due = now + stride;
    return {now, frames: this.seen.map((one) => one.frame)};
  }
}

/** Makes events {label, start, end, score, decided} of windows, one after the other. */
export class Spotter {
  /** @param {string[]} labels In the order of the probabilities. */
  constructor(labels, rule = RULE) {
    this.labels = labels;
    this.rule = rule;
    this.last = [];
    this.event = undefined; // the sign that goes on, as far as it is known
    // From the middle of what is averaged to its end: whereof a window speaks.
    this.lag = (rule.window + (rule.smoothing - 1) * rule.stride) / 2;
  }

  /** Mean probabilities of the last windows; fewer than `smoothing` at the beginning. */
  get averaged() {
    return this.labels.map(
      (_, at) => this.last.reduce((sum, row) => sum + row[at], 0) / this.last.length,
    );
  }

  /**
   * Takes a window.
   *
   * @param {number} now Its last frame's time in seconds.
   * @param {ArrayLike<number>} probabilities Zeros where nobody is seen.
   * @returns {object | undefined} The event that has ended, if one has.
   */
  add(now, probabilities) {
    const {smoothing, threshold, hold, pause, idle} = this.rule;
    this.last = [...this.last, probabilities].slice(-smoothing);
    const {averaged} = this;
    const score = Math.max(...averaged);
    const label = this.labels[averaged.indexOf(score)];
    const begins = label !== idle && score >= threshold;
    const at = Math.max(now - this.lag, 0);
    let ended;
    if (this.event) {
      const own = averaged[this.labels.indexOf(this.event.label)];
      const other = begins && label !== this.event.label;
      if (!other && own >= hold * threshold) {
        this.event = {...this.event, end: at, score: Math.max(this.event.score, own)};
      } else if (other || at - this.event.end >= pause - EARLY) {
        ended = this.finish();
      }
    }
    if (!this.event && begins) this.event = {label, start: at, end: at, score, decided: now};
    return ended;
  }

  /** The event that the end of the stream ends, if one has begun. */
  finish() {
    const ended = this.event;
    this.event = undefined;
    return ended;
  }
}

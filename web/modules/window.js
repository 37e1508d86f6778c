// Running labels: the last seconds, again and again, smoothed. Knows no page and no model.

/**
 * How labels run.
 *
 * window     seconds that are looked at; nothing is said before they are full
 * every      seconds between two answers
 * smoothing  share of the answer before that stays in the next one; 0 keeps each as it is
 * threshold  below this probability the sign counts as unknown
 */
export const RULE = {window: 2, every: 0.5, smoothing: 0.5, threshold: 0.5};

export class RunningLabel {
  constructor(rule = RULE) {
    this.rule = rule;
    this.clear();
  }

  /** Forgets everything: what comes is not of the same stretch of time. */
  clear() {
    this.seen = [];
    this.due = undefined;
    this.smoothed = undefined;
  }

  /**
   * Takes a frame, and says whether it is time to ask the model about `frames`.
   *
   * @param {number} seconds Since whenever.
   * @param {Float32Array} frame
   */
  add(seconds, frame) {
    const {window, every} = this.rule;
    this.due ??= seconds + window;
    this.seen.push({seconds, frame});
    while (this.seen[0].seconds <= seconds - window) this.seen.shift();
    if (seconds < this.due || this.seen.length < 2) return false;
    this.due = seconds + every;
    return true;
  }

  /** The frames of the last seconds. */
  get frames() {
    return this.seen.map(({frame}) => frame);
  }

  /** How much of the first window is full, 0 … 1. */
  get filled() {
    if (this.seen.length === 0) return 0;
    const left = this.due - this.seen.at(-1).seconds;
    return this.smoothed ? 1 : Math.min(1, 1 - left / this.rule.window);
  }

  /**
   * What the model says of `frames`; nobody seen is told by no probabilities.
   *
   * @param {Float32Array | undefined} probabilities
   * @returns {{probabilities: Float32Array, known: boolean} | undefined}
   */
  answer(probabilities) {
    if (!probabilities) {
      this.smoothed = undefined;
      return undefined;
    }
    const stays = this.smoothed ? this.rule.smoothing : 0;
    this.smoothed = probabilities.map((now, at) =>
      stays ? stays * this.smoothed[at] + (1 - stays) * now : now,
    );
    return {
      probabilities: this.smoothed,
      known: Math.max(...this.smoothed) >= this.rule.threshold,
    };
  }
}

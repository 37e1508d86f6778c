// Takes: what was recorded here and not yet downloaded.

import {recordingsIn} from './clips.js';
import {partsSeen} from './skeletons.js';

const SHORTEST = 2; // frames; fewer are no recording

export class Takes {
  constructor() {
    this.all = [];
    this.saved = true;
    this.open = undefined;
  }

  get recording() {
    return this.open !== undefined;
  }

  /** Begins a recording about {label, signer, aspect, skeleton}. */
  begin(about) {
    this.open = {about, frames: []};
  }

  add(seconds, frame) {
    this.open?.frames.push({seconds, frame});
  }

  /** Ends the recording, and keeps it as `keep` does. */
  end() {
    const {frames, about} = this.open;
    this.open = undefined;
    return this.keep(frames, about);
  }

  /**
   * Keeps frames, {seconds, frame} each, as a take.
   *
   * @returns {object | undefined} The take; none of too few frames.
   */
  keep(frames, {label, signer, aspect, skeleton}) {
    if (frames.length < SHORTEST) return undefined;
    const apart = frames.slice(1).map(({seconds}, at) => seconds - frames[at].seconds);
    // In the middle, so that a pause does not count.
    const middle = apart.toSorted((a, b) => a - b)[apart.length >> 1];
    const same = this.all.filter((one) => one.label === label && one.signer === signer);
    const seen = frames.map(({frame}) => partsSeen(frame, skeleton));
    const take = {
      label,
      signer,
      aspect,
      take: Math.max(0, ...same.map((one) => one.take)) + 1,
      fps: 1 / middle,
      seconds: apart.reduce((sum, one) => sum + one, 0),
      frames: frames.map(({frame}) => frame),
      hands: seen.filter((parts) => parts.left_hand || parts.right_hand).length,
    };
    this.all.push(take);
    this.saved = false;
    return take;
  }

  remove(take) {
    this.all = this.all.filter((one) => one !== take);
    this.saved ||= this.all.length === 0;
  }

  /** All takes as a file for training, and what to call it. */
  file() {
    const day = new Date().toISOString().slice(0, 10);
    const signers = [...new Set(this.all.map(({signer}) => signer))].join('_');
    const name = `${signers}_${day}.json`.replace(/[^\p{L}\p{N}._-]+/gu, '_');
    return new File(recordingsIn(this.all), name, {type: 'application/json'});
  }
}

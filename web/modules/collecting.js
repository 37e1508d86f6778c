// Takes from the form and the record button to the file.

import {HOLISTIC} from './skeletons.js';
import * as view from './view.js';

const COUNTDOWN = 3; // seconds from the click to the first recorded frame of a camera

export class Collecting {
  /**
   * @param {HTMLFormElement} form With the fields `sign` and `signer`.
   * @param {import('./takes.js').Takes} takes
   * @param {() => void} changed
   */
  constructor(form, takes, changed) {
    Object.assign(this, {form, takes, changed});
    this.counting = false;
  }

  /** Begins a take of what runs, or ends the one that does. */
  async record(session) {
    if (this.counting) return;
    if (this.takes.recording) {
      await this.end(session);
      return;
    }
    const about = this.#about(session);
    if (!about) return;
    const {signal} = session.stop;
    if (session.source === 'camera') await this.#count(signal);
    // A phone may have been turned meanwhile.
    if (!signal.aborted) this.takes.begin({...about, aspect: session.aspect});
    this.changed();
  }

  /** Ends a take that is recorded, by the button or with its source. */
  async end(session) {
    if (this.takes.recording) await this.#kept(this.takes.end(), session);
  }

  /** Keeps the whole of a video or clip that has ended. */
  async keepEnded(session) {
    const about = this.#about(session);
    if (about) await this.#kept(this.takes.keep(session.ended, about), session);
  }

  /** Downloads all takes as one file. */
  save() {
    const file = this.takes.file();
    const link = view.make('a', {href: URL.createObjectURL(file), download: file.name});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    this.takes.saved = true;
  }

  #about({aspect}) {
    if (!this.form.reportValidity()) return undefined;
    const [label, signer] = ['sign', 'signer'].map((name) =>
      this.form.elements[name].value.trim().normalize('NFC'),
    );
    return label && signer ? {label, signer, aspect, skeleton: HOLISTIC} : undefined;
  }

  async #count(signal) {
    this.counting = true;
    this.changed();
    for (let left = COUNTDOWN; left > 0 && !signal.aborted; left -= 1) {
      view.showCount(String(left));
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
    this.counting = false;
    view.showCount('');
  }

  async #kept(take, session) {
    if (take) {
      [take.answer] = await session.classified(take.frames.map((frame) => ({frame})));
    }
    view.showHint(
      !take ? 'That take was too short: nothing was kept.'
      : take.hands ? view.PRIVACY
      : 'No hand was seen in that take: move back until both hands are in the picture.',
    );
    this.changed();
  }
}

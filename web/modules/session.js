// What runs at present: a camera, a video, a clip, one at a time.

import {download} from './downloads.js';
import {Problem} from './problems.js';
import {follow} from './run.js';
import {HOLISTIC} from './skeletons.js';
import * as sources from './sources.js';
import * as view from './view.js';

const RATE = 25; // pictures of a video file that are looked at a second
const BETWEEN = 1.5; // seconds that a clip's answer stands before the next one begins
const PLAIN_ASPECT = 4 / 3; // of clips that do not say

export class Session {
  /**
   * @param {object} site What site.json says.
   * @param {import('./recogniser.js').Recogniser} recogniser
   * @param {import('./takes.js').Takes} takes
   * @param {HTMLVideoElement} video
   * @param {{changed: () => void, failed: (error: Error) => void,
   *   leaving: () => Promise<void>}} on What the page does then; `leaving` a source. Who is told
   *   that something failed calls `end`.
   */
  constructor(site, recogniser, takes, video, on) {
    Object.assign(this, {site, recogniser, takes, video, on});
    this.gate = new sources.Gate();
    this.stop = new AbortController();
    this.source = undefined; // the id of its button
    this.aspect = PLAIN_ASPECT; // width by height of the picture
    this.ended = undefined; // the frames of a video or clip that has ended
    this.wanted = {facingMode: 'user'}; // of a camera
  }

  /** Why no picture can be looked at; undefined where they can. */
  get noPictures() {
    if (this.recogniser.skeleton !== HOLISTIC) {
      return 'This model reads a Kinect’s joints, which no picture gives. Clips can be played.';
    }
    if (!this.site.task) {
      return (
        'This page was made without holistic_landmarker.task, which finds landmarks in pictures ' +
        '(signbart web --task FILE). Recorded clips can be played.'
      );
    }
    return undefined;
  }

  get paused() {
    return !this.gate.open;
  }

  pause() {
    this.gate.set(this.paused);
    if (this.video.srcObject) this.paused ? this.video.pause() : this.video.play();
    this.on.changed();
  }

  /** Takes the other camera of a phone, or the next one of a computer. */
  async turn() {
    const {facingMode, deviceId} = this.video.srcObject.getVideoTracks()[0].getSettings();
    if (facingMode) {
      this.wanted = {facingMode: facingMode === 'environment' ? 'user' : 'environment'};
    } else {
      // Where none says what it faces, asking for that would give the same one for ever.
      const ids = (await sources.cameras()).map((camera) => camera.deviceId);
      this.wanted = {deviceId: ids[(ids.indexOf(deviceId) + 1) % ids.length]};
    }
    await this.runCamera();
  }

  /** Ends what runs, if anything does; what was recorded of it is kept. */
  async end() {
    this.stop.abort();
    sources.closeVideo(this.video);
    const kept = this.on.leaving(); // of which only the answer takes a while
    this.gate.set(true);
    Object.assign(this, {source: undefined, ended: undefined});
    view.showCamera({mirrored: false, others: false});
    view.showWhole();
    this.on.changed();
    await kept;
  }

  async runCamera() {
    const {video} = this;
    await this.#run('camera', async (signal) => {
      // First, so that the browser asks at once whether it may.
      await sources.openCamera(video, this.wanted, signal);
      if (signal.aborted) return {};
      this.#watch('The camera', signal);
      await this.#openLandmarker(signal);
      if (signal.aborted) return {};
      const others = (await sources.cameras()).length > 1;
      if (signal.aborted) return {};
      const {facingMode} = video.srcObject.getVideoTracks()[0].getSettings();
      view.showCamera({mirrored: facingMode !== 'environment', others});
      return {aspect: video.videoWidth / video.videoHeight, moments: sources.cameraMoments};
    });
  }

  async runVideo(file) {
    const {video} = this;
    await this.#run('open-video', async (signal) => {
      await sources.openVideo(video, file);
      if (signal.aborted) return {};
      this.#watch(file.name, signal);
      await this.#openLandmarker(signal);
      const rate = Number(new URLSearchParams(location.search).get('rate')) || RATE;
      return {
        aspect: video.videoWidth / video.videoHeight,
        title: file.name,
        moments: (of, ...rest) => sources.videoMoments(of, rate, ...rest),
      };
    });
  }

  /** Plays clips, one behind the other; `source` is the button that asked for them. */
  async runClips(clips, source) {
    for (const [at, clip] of clips.entries()) {
      const {signal} = this.stop;
      if (at) await sources.rest(1000 * BETWEEN, signal);
      if (at && signal.aborted) return;
      const ended = await this.#run(source, async () => ({
        aspect: clip.aspect ?? PLAIN_ASPECT,
        title: clip.title,
        moments: (_, ...rest) => sources.clipMoments(clip, ...rest),
      }));
      if (!ended) return;
    }
  }

  /** Opens a source and follows it to its end; false where it did not get there. */
  async #run(source, open) {
    const ended = this.end();
    this.stop = new AbortController();
    const {signal} = this.stop;
    await ended;
    if (signal.aborted) return false; // another source was asked for
    this.source = source;
    this.on.changed();
    try {
      const {aspect, title, moments} = await open(signal);
      if (signal.aborted) return false;
      this.#look(aspect);
      view.showState('running');
      const {recogniser, landmarker, takes} = this;
      const frames = await follow(
        moments(this.video, this.gate, signal),
        {recogniser, landmarker, takes, keepAll: Boolean(title)},
        signal,
      );
      if (signal.aborted) return false;
      await this.on.leaving();
      if (title) await this.#showWhole(title, frames, signal);
      if (signal.aborted) return false;
    } catch (error) {
      // MediaPipe that failed once fails ever after.
      if (!(error instanceof Problem)) this.opening = undefined;
      if (!signal.aborted) this.on.failed(error);
      return false;
    }
    this.source = undefined;
    this.on.changed();
    return true;
  }

  #watch(title, signal) {
    const {video} = this;
    const turned = () => this.#look(video.videoWidth / video.videoHeight);
    sources.watch(video, title, {failed: this.on.failed, turned}, signal);
  }

  #look(aspect) {
    this.aspect = aspect;
    view.showAspect(aspect);
  }

  /** What a recording shows as a whole, as signbart classify says it. */
  async #showWhole(title, frames, signal) {
    const ranked = await this.classified(frames);
    if (signal.aborted) return;
    if (!ranked.length) {
      view.showWhole(title);
      return;
    }
    const [best] = ranked;
    const {label, probability} = best;
    this.ended = frames;
    const {threshold, idle} = this.recogniser.rule;
    view.showAnswer(label, ranked, probability >= threshold && label !== idle);
    view.showWhole(title, best, this.recogniser.skeleton === HOLISTIC);
  }

  /** Labels and probabilities of {seconds, frame} each; none where nobody is in them. */
  async classified(frames) {
    const landmarks = frames.map(({frame}) => frame);
    if (!landmarks.some((frame) => frame.some((number) => number !== 0))) return [];
    return this.recogniser.ranked((await this.recogniser.classify(landmarks)).probabilities);
  }

  /** The landmark finder, loaded when it is first needed; `signal` ends the news about that. */
  async #openLandmarker(signal) {
    const tell = (...news) => signal.aborted || view.showLoading(...news);
    tell('Loading the landmark finder');
    const load = async () => {
      const task = await download(
        this.site.task,
        'The landmark finder',
        (share) => tell('Loading the landmark finder', share),
        this.site.files[this.site.task],
      );
      tell('Starting the landmark finder');
      const {Landmarker} = await import('./landmarker.js');
      return Landmarker.open(task);
    };
    this.opening ??= load();
    try {
      this.landmarker = await this.opening;
    } catch (error) {
      this.opening = undefined;
      throw error;
    }
    await this.landmarker.forget();
  }
}

// MediaPipe's HolisticLandmarker: a picture in, the 543 landmarks out.

import {FilesetResolver, HolisticLandmarker} from '@mediapipe/tasks-vision';

import {Problem} from './problems.js';
import {AXES, emptyFrame, HOLISTIC} from './skeletons.js';

// In the order of the skeleton's parts. Of the face's 478 the last ten are the irises, which no
// layout has.
const PARTS = [
  ['poseLandmarks', HOLISTIC.parts.body],
  ['leftHandLandmarks', HOLISTIC.parts.left_hand],
  ['rightHandLandmarks', HOLISTIC.parts.right_hand],
  ['faceLandmarks', HOLISTIC.parts.face],
];
const WASM = new URL('wasm', import.meta.resolve('@mediapipe/tasks-vision')).href;
const BETWEEN = 1000; // milliseconds between two videos

export class Landmarker {
  /** @param {Uint8Array} task holistic_landmarker.task. */
  static async open(task) {
    if (!document.createElement('canvas').getContext('webgl2')) {
      throw new Problem(
        'This browser has no WebGL 2',
        'MediaPipe needs it to read pictures. Switch on hardware acceleration in the browser’s ' +
          'settings, or use another browser; recorded clips work without it.',
      );
    }
    try {
      const fileset = await FilesetResolver.forVisionTasks(WASM);
      const options = {
        baseOptions: {modelAssetBuffer: task, delegate: 'CPU'},
        runningMode: 'VIDEO',
      };
      return new Landmarker(await HolisticLandmarker.createFromOptions(fileset, options));
    } catch (error) {
      throw new Problem('MediaPipe cannot be started', error?.message ?? String(error));
    }
  }

  constructor(landmarker) {
    this.landmarker = landmarker;
    this.last = 0;
  }

  /** Forgets the body that it followed: what comes is of another video. */
  async forget() {
    if (this.last) await this.landmarker.setOptions({runningMode: 'VIDEO'});
    this.shift = undefined;
  }

  /**
   * Landmarks as shares of the picture; zeros for what was not found.
   *
   * @param {TexImageSource} picture
   * @param {number} milliseconds When it was taken.
   * @returns {Float32Array} A frame of HOLISTIC.
   */
  find(picture, milliseconds) {
    // MediaPipe refuses a time that does not grow, that of another video too.
    this.shift ??= this.last + BETWEEN - milliseconds;
    this.last = Math.max(milliseconds + this.shift, this.last + 1);
    const found = this.landmarker.detectForVideo(picture, this.last);
    const frame = emptyFrame(HOLISTIC);
    for (const [part, places] of PARTS) {
      const points = found[part][0] ?? [];
      points.slice(0, places.length).forEach(({x, y, z}, i) => {
        frame.set([x, y, z], AXES * places[i]);
      });
    }
    return frame;
  }
}

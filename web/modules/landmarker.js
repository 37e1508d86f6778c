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

export class Landmarker {
  /**
   * @param {Uint8Array} task holistic_landmarker.task.
   * @param {string} wasmFolder Where MediaPipe's WebAssembly lies.
   */
  static async open(task, wasmFolder) {
    if (!document.createElement('canvas').getContext('webgl2')) {
      throw new Problem(
        'This browser has no WebGL 2',
        'MediaPipe needs it to read pictures. Switch on hardware acceleration in the browser’s ' +
          'settings, or use another browser; recorded clips work without it.',
      );
    }
    try {
      const fileset = await FilesetResolver.forVisionTasks(wasmFolder);
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
    this.used = false;
  }

  /** Forgets the body that it followed: what comes is of another video. */
  async forget() {
    if (this.used) await this.landmarker.setOptions({runningMode: 'VIDEO'});
    this.used = false;
  }

  /**
   * Landmarks as shares of the picture; zeros for what was not found.
   *
   * @param {TexImageSource} picture
   * @param {number} milliseconds When it was taken.
   * @returns {Float32Array} A frame of HOLISTIC.
   */
  find(picture, milliseconds) {
    this.used = true;
    // MediaPipe refuses a time that does not grow.
    this.last = Math.max(milliseconds, this.last + 1);
    const found = this.landmarker.detectForVideo(picture, this.last);
    const frame = emptyFrame(HOLISTIC);
    for (const [part, places] of PARTS) {
      const points = found[part][0] ?? [];
      points.slice(0, places.length).forEach(({x, y, z}, i) => frame.set([x, y, z], AXES * places[i]));
    }
    return frame;
  }
}

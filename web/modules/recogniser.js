// The model: raw landmarks of a few frames in, probabilities of the signs out.
//
// All preprocessing is in the model's signature `landmarks`; here landmarks are only put in order.

import {loadAndCompile, loadLiteRt, Tensor} from '@litertjs/core';

import {readMetadata} from './metadata.js';
import {Problem} from './problems.js';
import {AXES, emptyFrame, skeletonWith} from './skeletons.js';
import {ruleOf} from './spotting.js';

const SIGNATURE = 'landmarks';
const LARGEST_USUAL = 2; // of a share of the picture, in the middle; as signbart.landmarks.source
const WASM = new URL('../wasm/', import.meta.resolve('@litertjs/core')).href;
let litert; // it may be loaded once only

export class Recogniser {
  /** @param {Uint8Array} bytes A .tflite. */
  static async open(bytes) {
    const metadata = await readMetadata(bytes);
    if (metadata.preprocessing === null) {
      throw new Problem(
        'The model does not say what it takes',
        'Its checkpoint was of another program. Convert one that this project trained.',
      );
    }
    litert ??= loadLiteRt(WASM);
    await litert;
    // Without this a browser that has WebGPU may take that, which masked attention does not bear.
    const model = await loadAndCompile(bytes, {accelerator: 'wasm'});
    return new Recogniser(model, metadata);
  }

  constructor(model, metadata) {
    const signature = model.signatures[SIGNATURE];
    if (!signature) {
      throw new Problem(
        'The model takes no raw landmarks',
        'It lacks the signature “landmarks”: an older version made it, or --raw-frames 0. ' +
          'Convert its checkpoint again with signbart convert.',
      );
    }
    const {preprocessing} = metadata;
    const skeleton = skeletonWith(preprocessing.landmarks);
    if (!skeleton) {
      throw new Problem(
        'The model takes landmarks that this page does not know',
        `Its layout is ${preprocessing.layout}; known are MediaPipe Holistic’s and Kinect’s.`,
      );
    }
    const rule = ruleOf(metadata);
    if (!rule) {
      throw new Problem(
        `The model’s threshold is ${JSON.stringify(metadata.threshold)}, which is no share`,
        'Convert its checkpoint again with signbart convert --threshold, above 0 and up to 1.',
      );
    }
    this.rule = rule;
    this.metadata = metadata;
    this.labels = metadata.labels;
    this.skeleton = skeleton;
    this.signature = signature;
    const shape = signature.getInputDetails().find(({name}) => name === SIGNATURE).shape;
    [, this.maxFrames, this.numLandmarks, this.numCoordinates] = shape;
    // Either the layout's own landmarks or all that its source has.
    const own = this.numLandmarks === preprocessing.landmarks.length;
    const names = own ? preprocessing.landmarks : skeleton.names;
    this.places = names.map((name) => skeleton.names.indexOf(name));
  }

  /**
   * What the frames show.
   *
   * @param {Float32Array[]} frames Of `skeleton`; zeros for what is missing. Of more than the model
   *   takes those are kept that lie evenly spaced, both ends among them.
   * @returns {Promise<{logits: Float32Array, probabilities: Float32Array, milliseconds: number}>}
   */
  async classify(frames) {
    const {maxFrames, numLandmarks, numCoordinates} = this;
    const count = Math.min(frames.length, maxFrames);
    if (count === 0) throw new RangeError('no frames');
    const landmarks = new Float32Array(maxFrames * numLandmarks * numCoordinates);
    for (let i = 0, to = 0; i < count; i += 1) {
      const last = frames.length - 1;
      const frame = frames[count < frames.length ? Math.floor((i * last) / (count - 1)) : i];
      for (const place of this.places) {
        for (let axis = 0; axis < numCoordinates; axis += 1, to += 1) {
          landmarks[to] = frame[AXES * place + axis];
        }
      }
    }
    const inputs = {
      landmarks: new Tensor(landmarks, [1, maxFrames, numLandmarks, numCoordinates]),
      num_frames: new Tensor(new Int32Array([count]), [1]),
    };
    const begun = performance.now();
    const outputs = await this.signature.run(inputs);
    const milliseconds = performance.now() - begun;
    const scores = 'logits' in outputs ? 'logits' : 'gloss';
    const [logits, probabilities, [used]] = [scores, 'probabilities', 'num_frames_used'].map(
      (name) => outputs[name].toTypedArray().slice(),
    );
    // LiteRT.js frees nothing by itself.
    for (const tensor of [...Object.values(inputs), ...Object.values(outputs)]) tensor.delete();
    if (used !== count) throw new Error(`the model looked at ${used} of ${count} frames`);
    return {logits, probabilities, milliseconds};
  }

  /** Labels with their probabilities, the likeliest first. */
  ranked(probabilities) {
    return [...probabilities.keys()]
      .sort((a, b) => probabilities[b] - probabilities[a])
      .map((at) => ({label: this.labels[at], probability: probabilities[at]}));
  }

  /**
   * Frames (T, N, 2 or 3) in the order of the model's layout as frames of `skeleton`.
   *
   * Throws a `Problem` where they are other landmarks, or no shares of a picture.
   */
  framesOf(points) {
    const {landmarks: names, layout, unit} = this.metadata.preprocessing;
    const other = points.find((row) => row.length !== names.length);
    if (other) {
      throw new Problem(
        `${other.length} landmarks a frame, but the model takes the ${names.length} of ${layout}`,
        'signbart clips unpack and signbart classify find landmarks by name.',
      );
    }
    const numbers = points.flat(2).filter((value) => value !== 0).map(Math.abs).sort((a, b) => a - b);
    if (unit === 'image' && numbers[numbers.length >> 1] > LARGEST_USUAL) {
      throw new Problem(
        'These landmarks look like pixels',
        'The model takes shares of the picture: divide x by its width and y by its height.',
      );
    }
    const places = names.map((name) => this.skeleton.names.indexOf(name));
    return points.map((row) => {
      const frame = emptyFrame(this.skeleton);
      row.forEach((point, at) => frame.set(point.slice(0, AXES), AXES * places[at]));
      return frame;
    });
  }
}

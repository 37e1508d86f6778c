// Recorded clips: read from this page's and the project's files, and written for training.

import {Problem} from './problems.js';
import {AXES, emptyFrame, HOLISTIC, isThere} from './skeletons.js';

const FPS = 25; // of clips that do not say
const PARTS = {
  pose: HOLISTIC.parts.body,
  left_hand: HOLISTIC.parts.left_hand,
  right_hand: HOLISTIC.parts.right_hand,
  face: HOLISTIC.parts.face,
};
const DECIMALS = 1e5; // a hundredth of a pixel

/**
 * The clips of a JSON file: what `recordingsIn` makes, a golden.json, or (T, N, 2 or 3) numbers in
 * the order of the model's landmarks.
 *
 * @param {string} text
 * @param {string} name The file's, for messages.
 * @param {{framesOf: (points: number[][][]) => Float32Array[]}} recogniser Knows that order.
 * @returns {{title: string, fps: number, frames: Float32Array[]}[]}
 */
export function readClips(text, name, recogniser) {
  let clips;
  try {
    const tree = JSON.parse(text);
    const entries = Array.isArray(tree) ? tree : (tree.clips ?? [tree]);
    const whole = Array.isArray(entries[0]) ? [{frames: entries}] : entries;
    clips = whole.map((entry, at) => readClip(entry, `${name} ${at + 1}`, recogniser));
  } catch (error) {
    if (error instanceof Problem) throw error;
    clips = [];
  }
  if (clips.length === 0 || clips.some(({frames}) => frames.length < 2)) {
    throw new Problem(
      `${name} holds no clips that this page reads`,
      'It reads the files that its own recording makes, and the golden.json of an export. Other ' +
        'recordings are classified by signbart classify.',
    );
  }
  return clips;
}

function readClip(entry, name, recogniser) {
  const rows = entry.frames instanceof Array ? entry.frames : (entry.landmarks ?? entry.keypoints);
  const frames = Array.isArray(rows[0]) ? recogniser.framesOf(rows) : rows.map(frameOf);
  if (!frames.every((frame) => frame.every(Number.isFinite))) throw new Error('not numbers');
  const known = [entry.label, entry.signer, entry.take && `take ${entry.take}`].filter(Boolean);
  const title = known.join(', ') || name;
  return {title, frames, fps: entry.fps > 0 ? entry.fps : FPS, aspect: entry.aspect};
}

function frameOf(parts) {
  const frame = emptyFrame(HOLISTIC);
  for (const [part, places] of Object.entries(PARTS)) {
    (parts[part] ?? []).slice(0, places.length).forEach((point, i) => {
      frame.set(point.slice(0, AXES), AXES * places[i]);
    });
  }
  return frame;
}

/**
 * Takes as the JSON that `--data` of every command reads: a list of clips whose frames are objects
 * of MediaPipe's parts; null where a part was not found. In parts, one a take: JavaScript's strings
 * end at half a billion characters, which are 640 takes of two seconds.
 *
 * @param {{label: string, signer: string, take: number, fps: number, aspect: number,
 *   frames: Float32Array[]}[]} takes
 * @returns {BlobPart[]} Of a file.
 */
export function recordingsIn(takes) {
  // As Blobs, so that the texts need not all be in memory at the same time.
  const texts = takes.map((take) => new Blob([recordingOf(take)]));
  return ['[', ...texts.flatMap((text, at) => (at ? [',', text] : [text])), ']'];
}

function recordingOf({label, signer, take, fps, aspect, frames}) {
  return JSON.stringify({
    label,
    signer,
    take,
    fps: round(fps),
    aspect: round(aspect),
    frames: frames.map((frame) =>
      Object.fromEntries(
        Object.entries(PARTS).map(([part, places]) => [part, pointsOf(frame, places)]),
      ),
    ),
  });
}

function pointsOf(frame, places) {
  if (!places.some((at) => isThere(frame, at))) return null;
  return places.map((at) => [...frame.subarray(AXES * at, AXES * (at + 1))].map(round));
}

function round(number) {
  return Math.round(number * DECIMALS) / DECIMALS;
}

// What is looked at: a camera, a video file, a recorded clip. Each gives moments, one by one.
//
// A moment is {seconds, picture} or {seconds, frame}: a picture still to be searched for landmarks,
// or the landmarks themselves.

import {cameraProblem, Problem} from './problems.js';

/** Moments wait at it while it is closed. */
export class Gate {
  constructor() {
    this.open = true;
    this.waiting = [];
  }

  set(open) {
    this.open = open;
    if (open) this.waiting.splice(0).forEach((go) => go());
  }

  async passed(signal) {
    if (!this.open) await until(signal, (go) => this.waiting.push(go));
  }
}

/** Opens a camera into a video element; `wanted` are constraints, such as its `facingMode`. */
export async function openCamera(video, wanted, signal) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Problem(
      'This page may not use a camera',
      'Browsers give cameras to https pages and to this machine’s own (127.0.0.1) only.',
    );
  }
  if (!video.requestVideoFrameCallback) {
    throw new Problem(
      'This browser is too old for a camera',
      'It lacks requestVideoFrameCallback, which gives this page picture by picture: update it ' +
        '(Firefox 132, Chrome 83, Safari 15.4 have it). Videos and recorded clips work without it.',
    );
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({video: wanted, audio: false});
  } catch (error) {
    throw cameraProblem(error);
  }
  if (signal.aborted) {
    for (const track of stream.getTracks()) track.stop();
    return;
  }
  video.srcObject = stream;
  await video.play();
}

/** The cameras that there are. */
export async function cameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter(({kind}) => kind === 'videoinput');
}

/** Opens a video file into a video element. */
export async function openVideo(video, file) {
  video.src = URL.createObjectURL(file);
  const unplayable = (why) =>
    new Problem(`${file.name} cannot be played`, `${why}; most read .mp4 with H.264, and .webm.`);
  await new Promise((resolve, reject) => {
    video.onloadeddata = () => knowDuration(video).then(resolve);
    video.onerror = () => reject(unplayable('This browser does not know its format'));
  });
  if (!video.videoWidth) throw unplayable('This browser finds no pictures in it, but sound alone');
}

/**
 * Tells what becomes of an open source, until the signal aborts.
 *
 * @param {HTMLVideoElement} video
 * @param {string} title Of what it shows.
 * @param {{failed: (problem: Problem) => void, turned: () => void}} tell
 * @param {AbortSignal} signal
 */
export function watch(video, title, {failed, turned}, signal) {
  const [track] = video.srcObject?.getVideoTracks() ?? [];
  const gone = new Problem(
    'The camera has stopped',
    'It was unplugged, or taken from this page. Connect it, or allow it in the browser’s address ' +
      'bar, then start the camera again.',
  );
  track?.addEventListener('ended', () => failed(gone), {signal});
  const broken = () => {
    const at = video.currentTime.toFixed(1);
    const advice = 'The file may be damaged or cut short: copy it anew, or choose another.';
    return new Problem(`${title} cannot be played on from ${at} s`, advice);
  };
  video.addEventListener('error', () => failed(broken()), {signal});
  video.addEventListener('resize', turned, {signal}); // a phone was
}

/** What recorders of browsers write does not say how long it is, before its end was looked for. */
async function knowDuration(video) {
  if (Number.isFinite(video.duration)) return;
  await new Promise((resolve) => {
    video.ondurationchange = () => Number.isFinite(video.duration) && resolve();
    video.currentTime = Number.MAX_SAFE_INTEGER;
  });
  video.ondurationchange = null;
}

/** Ends what a video element shows, and gives the camera back. */
export function closeVideo(video) {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  if (video.src) URL.revokeObjectURL(video.src);
  video.onerror = null;
  video.removeAttribute('src');
  video.load();
}

/** A camera's pictures, as many as there is time for. */
export async function* cameraMoments(video, gate, signal) {
  while (!signal.aborted) {
    await gate.passed(signal);
    const now = await until(signal, (go) => video.requestVideoFrameCallback(go));
    if (!signal.aborted) yield {seconds: now / 1000, picture: video};
  }
}

/** A file's pictures, `rate` of each second, no faster than it plays. */
export async function* videoMoments(video, rate, gate, signal) {
  const count = Math.max(1, Math.floor(video.duration * rate));
  for (let at = 0; at < count && !signal.aborted; at += 1) {
    await gate.passed(signal);
    const shown = performance.now();
    await until(signal, (go) => {
      video.onseeked = go;
      video.currentTime = at / rate;
    });
    if (!signal.aborted) yield {seconds: at / rate, picture: video};
    await rest(1000 / rate - (performance.now() - shown), signal);
  }
}

/** A recorded clip's frames, as fast as they were recorded. */
export async function* clipMoments(clip, gate, signal) {
  for (const [at, frame] of clip.frames.entries()) {
    await gate.passed(signal);
    const shown = performance.now();
    if (signal.aborted) return;
    yield {seconds: at / clip.fps, frame};
    await rest(1000 / clip.fps - (performance.now() - shown), signal);
  }
}

/** Resolves when `begin`'s callback is called, or when the signal aborts. */
function until(signal, begin) {
  return new Promise((resolve) => {
    // A camera runs for hours: what is left of every picture would pile up.
    const done = (given) => {
      signal.removeEventListener('abort', aborted);
      resolve(given);
    };
    const aborted = () => done();
    signal.addEventListener('abort', aborted);
    begin(done);
  });
}

/** Resolves after some time, or when the signal aborts. */
export function rest(milliseconds, signal) {
  // Always a turn of the event loop, so that the page stays alive.
  return until(signal, (go) => setTimeout(go, Math.max(0, milliseconds)));
}

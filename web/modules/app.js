// The page: its parts brought together, buttons and keys.

import {clear, redraw} from './drawing.js';
import {download} from './downloads.js';
import {readClips} from './clips.js';
import {asProblem, Problem} from './problems.js';
import {Recogniser} from './recogniser.js';
import {follow} from './run.js';
import {HOLISTIC} from './skeletons.js';
import * as sources from './sources.js';
import {Takes} from './takes.js';
import {initTheme} from './theme.js';
import * as view from './view.js';

const element = (id) => document.getElementById(id);
const [video, canvas] = [element('video'), element('canvas')];
const COUNTDOWN = 3; // seconds from the click to the first recorded frame of a camera
const RATE = 25; // pictures of a video file that are looked at a second
const BETWEEN = 1.5; // seconds that a clip's answer stands before the next one begins
const PLAIN_ASPECT = 4 / 3; // of clips that do not say

const takes = new Takes();
const gate = new sources.Gate();
const page = {source: undefined, facing: 'user', counting: false, ended: undefined};
let site, recogniser, landmarker;
let stop = new AbortController();

// Starting.

initTheme(element('theme'));
view.showAnswer('Nothing yet');
bindButtons();
new ResizeObserver(() => redraw(canvas)).observe(canvas);
start().catch(report);

async function start() {
  await keepForOffline();
  site = JSON.parse(new TextDecoder().decode(await download('site.json', 'The page’s description')));
  element('example').hidden = !site.clips;
  const model = await download(site.model, 'The model', (share) =>
    view.showLoading('Loading the model', share),
  );
  view.showLoading('Starting the model');
  recogniser = await Recogniser.open(model);
  view.showModel(recogniser.metadata, site.accuracy);
  const reason = noPictures();
  for (const id of ['camera', 'open-video']) element(id).disabled = Boolean(reason);
  for (const id of ['open-clip', 'example']) element(id).disabled = false;
  element('collect').hidden = recogniser.skeleton !== HOLISTIC;
  if (reason) {
    element('welcome-text').textContent = reason;
    element('start').textContent = site.clips ? 'Play the example' : 'Open a recorded clip';
  }
  view.showState('welcome');
  update();
}

/** Why this page can look at no pictures; undefined where it can. */
function noPictures() {
  if (recogniser.skeleton !== HOLISTIC) {
    return 'This model reads the joints of a Kinect, which no picture gives. Recorded clips can be played.';
  }
  if (!site.task) {
    return 'This page was made without holistic_landmarker.task, which finds landmarks in pictures ' +
      '(signbart web --task FILE). Recorded clips can be played.';
  }
  return undefined;
}

/** The service worker keeps what is loaded; without one the page works as long as it is served. */
async function keepForOffline() {
  if (!navigator.serviceWorker) return;
  try {
    await navigator.serviceWorker.register('service-worker.js');
    await navigator.serviceWorker.ready;
  } catch (error) {
    console.warn('not kept for use without a network:', error);
  }
}

let opening;
/** The landmark finder, loaded when it is first needed; `signal` ends the news about that. */
async function openLandmarker(signal) {
  const tell = (...news) => signal.aborted || view.showLoading(...news);
  tell('Loading the landmark finder');
  const load = async () => {
    const task = await download(site.task, 'The landmark finder', (share) =>
      tell('Loading the landmark finder', share),
    );
    tell('Starting the landmark finder');
    const {Landmarker} = await import('./landmarker.js');
    return Landmarker.open(task);
  };
  opening ??= load();
  try {
    landmarker = await opening;
  } catch (error) {
    opening = undefined;
    throw error;
  }
  await landmarker.forget();
}

// Sources.

async function runCamera() {
  await run('camera', async (signal) => {
    // First, so that the browser asks at once whether it may.
    await sources.openCamera(video, page.facing, signal);
    await openLandmarker(signal);
    if (signal.aborted) return {};
    const devices = await navigator.mediaDevices.enumerateDevices();
    element('turn').hidden = devices.filter(({kind}) => kind === 'videoinput').length < 2;
    const {facingMode} = video.srcObject.getVideoTracks()[0].getSettings();
    element('picture').dataset.mirrored = String(facingMode !== 'environment');
    return {aspect: video.videoWidth / video.videoHeight, moments: sources.cameraMoments};
  });
}

async function runVideo(file) {
  await run('open-video', async (signal) => {
    await sources.openVideo(video, file);
    await openLandmarker(signal);
    const rate = Number(new URLSearchParams(location.search).get('rate')) || RATE;
    return {
      aspect: video.videoWidth / video.videoHeight,
      title: file.name,
      moments: (of, ...rest) => sources.videoMoments(of, rate, ...rest),
    };
  });
}

async function runClips(clips, source) {
  for (const [at, clip] of clips.entries()) {
    const {signal} = stop;
    if (at) await sources.rest(1000 * BETWEEN, signal);
    if (signal.aborted && at) break;
    const ended = await run(source, async () => ({
      aspect: clip.aspect ?? PLAIN_ASPECT,
      title: clip.title,
      moments: (_, ...rest) => sources.clipMoments(clip, ...rest),
    }));
    if (!ended) break;
  }
}

/** Opens a source and follows it to its end; false where something else was started meanwhile. */
async function run(source, open) {
  stop.abort();
  stop = new AbortController();
  const {signal} = stop;
  sources.closeVideo(video);
  await endTake();
  gate.set(true);
  Object.assign(page, {source, counting: false, ended: undefined});
  element('picture').dataset.mirrored = 'false';
  element('turn').hidden = true;
  view.showWhole('');
  update();
  try {
    const {aspect, title, moments} = await open(signal);
    if (signal.aborted) return false;
    page.aspect = aspect;
    element('screen').style.setProperty('--aspect', aspect);
    view.showState('running');
    const frames = await follow(
      moments(video, gate, signal),
      {recogniser, landmarker, takes, keepAll: Boolean(title)},
      signal,
    );
    if (signal.aborted) return false;
    await endTake();
    if (title) await showWhole(title, frames);
  } catch (error) {
    // MediaPipe that failed once fails ever after.
    if (!(error instanceof Problem)) opening = undefined;
    if (!signal.aborted) report(error);
    return false;
  }
  page.source = undefined;
  update();
  return true;
}

/** What a recording shows as a whole, as signbart classify says it. */
async function showWhole(title, frames) {
  const [best] = await classified(frames.map(({frame}) => frame));
  const text = best
    ? `${title}, as a whole: ${best.label}, ${view.percent(best.probability)}`
    : `${title}: nobody was seen`;
  page.ended = frames;
  const keep = view.make('button', {
    type: 'button', className: 'quiet', textContent: 'Keep as a take', onclick: keepEnded,
  });
  view.showWhole(text, ...(best && recogniser.skeleton === HOLISTIC ? [keep] : []));
}

async function classified(frames) {
  if (!frames.some((frame) => frame.some((number) => number !== 0))) return [];
  return recogniser.ranked((await recogniser.classify(frames)).probabilities);
}

// Takes.

function about() {
  const [label, signer] = ['sign', 'signer'].map((id) => element(id).value.trim().normalize('NFC'));
  if (!element('collect').reportValidity() || !label || !signer) return undefined;
  return {label, signer, aspect: page.aspect, skeleton: HOLISTIC};
}

async function record() {
  if (page.counting) return;
  if (takes.recording) {
    await endTake();
    return;
  }
  const what = about();
  if (!what) return;
  const {signal} = stop;
  if (page.source === 'camera') {
    page.counting = true;
    for (let left = COUNTDOWN; left > 0 && !signal.aborted; left -= 1) {
      view.showCount(String(left));
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
    page.counting = false;
    view.showCount('');
  }
  if (!signal.aborted) takes.begin(what);
  update();
}

/** Ends a recording that runs, by the button or with its source. */
async function endTake() {
  if (takes.recording) await kept(takes.end());
}

async function keepEnded() {
  const what = about();
  if (what) await kept(takes.keep(page.ended, what));
}

async function kept(take) {
  if (take) {
    const [best] = await classified(take.frames);
    take.answer = best && `${best.label}, ${view.percent(best.probability)}`;
    view.showHint(
      take.hands
        ? 'Landmarks are kept, never pictures. Takes stay in this tab until you download them.'
        : 'No hand was seen in that take: move back until both hands are in the picture.',
    );
  } else {
    view.showHint('That take was too short: nothing was kept.');
  }
  update();
}

function save() {
  const file = takes.file();
  const link = view.make('a', {href: URL.createObjectURL(file), download: file.name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  takes.saved = true;
}

// Buttons, keys, words.

function update() {
  const running = page.source !== undefined;
  view.showRunning({
    source: page.source,
    paused: !gate.open,
    recording: takes.recording,
    canRecord: running && !page.counting,
  });
  view.showTakes(takes.all, {
    play: (take) =>
      runClips([{...take, title: `${take.label}, ${take.signer}, take ${take.take}`}], 'open-clip'),
    remove: (take) => {
      takes.remove(take);
      update();
    },
  });
}

function pause() {
  gate.set(!gate.open);
  if (video.srcObject) gate.open ? video.play() : video.pause();
  update();
}

async function playExample() {
  const text = new TextDecoder().decode(await download(site.clips, 'The example'));
  await runClips(readClips(text, 'Example', recogniser), 'example');
}

function report(error) {
  page.source = undefined;
  sources.closeVideo(video);
  clear(canvas);
  view.showSeen(undefined);
  update();
  if (!(error instanceof Problem)) console.error(error);
  view.showProblem(asProblem(error));
}

function bindButtons() {
  const on = (id, act) => {
    element(id).addEventListener('click', async ({currentTarget, detail}) => {
      // After a pointer's click the space bar shall pause, and not click again.
      if (detail) currentTarget.blur();
      try {
        await act();
      } catch (error) {
        report(error);
      }
    });
  };
  on('camera', runCamera);
  on('open-video', () => element('video-file').click());
  on('open-clip', () => element('clip-file').click());
  on('example', playExample);
  on('start', () => (noPictures() ? (site.clips ? playExample() : element('clip-file').click()) : runCamera()));
  on('turn', () => {
    page.facing = page.facing === 'user' ? 'environment' : 'user';
    return runCamera();
  });
  on('pause', pause);
  on('save', save);
  element('collect').addEventListener('submit', (event) => {
    event.preventDefault();
    record().catch(report);
  });
  chosen('video-file', runVideo);
  chosen('clip-file', async (file) =>
    runClips(readClips(await file.text(), file.name, recogniser), 'open-clip'),
  );
  document.addEventListener('keydown', pressed);
  window.addEventListener('beforeunload', (event) => {
    if (!takes.saved) event.preventDefault();
  });
}

function chosen(id, act) {
  element(id).addEventListener('change', ({target}) => {
    const [file] = target.files;
    target.value = ''; // the same file may be chosen again
    if (file) act(file).catch(report);
  });
}

const KEYS = {c: 'camera', v: 'open-video', o: 'open-clip', e: 'example', ' ': 'pause', r: 'record'};
function pressed(event) {
  const own = event.key === ' ' ? 'input, button, summary, a' : 'input';
  if (event.target.closest(own) || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const button = element(KEYS[event.key.toLowerCase()] ?? '');
  if (!button || button.disabled || button.hidden) return;
  event.preventDefault();
  button.click();
}

// The page: its parts brought together, buttons and keys.

import {readClips} from './clips.js';
import {Collecting} from './collecting.js';
import {download} from './downloads.js';
import {clear, redraw} from './drawing.js';
import {asProblem, Problem} from './problems.js';
import {Session} from './session.js';
import {HOLISTIC} from './skeletons.js';
import {Takes} from './takes.js';
import {initTheme} from './theme.js';
import * as view from './view.js';

const element = (id) => document.getElementById(id);
const [video, canvas] = [element('video'), element('canvas')];
const KEYS = {
  c: 'camera',
  v: 'open-video',
  o: 'open-clip',
  e: 'example',
  ' ': 'pause',
  r: 'record',
};

const takes = new Takes();
const collecting = new Collecting(element('collect'), takes, update);
let session;

initTheme(element('theme'));
view.showAnswer('Nothing yet');
view.showHint(view.PRIVACY);
new ResizeObserver(() => redraw(canvas)).observe(canvas);
start().catch(failed);

async function start() {
  await keepForOffline();
  const text = await download('site.json', 'The page’s description');
  const site = JSON.parse(new TextDecoder().decode(text));
  const model = await download(
    site.model,
    'The model',
    (share) => view.showLoading('Loading the model', share),
    site.files[site.model],
  );
  view.showLoading('Starting the model');
  // Not before: where LiteRT.js came damaged, the page shall still say so, and mend it.
  const {Recogniser} = await import('./recogniser.js');
  const recogniser = await Recogniser.open(model);
  session = new Session(site, recogniser, takes, video, {
    changed: update,
    failed,
    leaving: () => collecting.end(session),
  });
  view.showModel(recogniser, site);
  view.showPossible({
    pictures: !session.noPictures,
    example: Boolean(site.clips),
    takes: recogniser.skeleton === HOLISTIC,
    reason: session.noPictures,
    signs: recogniser.labels.filter((label) => label !== recogniser.rule.idle),
  });
  bindButtons();
  view.showState('welcome');
  update();
}

/** The service worker keeps what is loaded; without one the page works as long as it is served. */
async function keepForOffline() {
  if (!navigator.serviceWorker) return;
  try {
    const {installing} = await navigator.serviceWorker.register('service-worker.js');
    // One that cannot install is never ready.
    const given = new Promise((_, reject) => {
      installing?.addEventListener('statechange', () => {
        if (installing.state === 'redundant') reject(new Error('it could not be installed'));
      });
    });
    await Promise.race([navigator.serviceWorker.ready, given]);
  } catch (error) {
    console.warn('not kept for use without a network:', error);
  }
}

async function playExample() {
  const {clips: url, files} = session.site;
  const bytes = await download(url, 'The example', undefined, files[url]);
  const clips = readClips(new TextDecoder().decode(bytes), 'Synthetic example', session.recogniser);
  await session.runClips(clips, 'example');
}

async function playFile(file) {
  const clips = readClips(await file.text(), file.name, session.recogniser);
  await session.runClips(clips, 'open-clip');
}

function playTake(take) {
  const title = `${take.label}, ${take.signer}, take ${take.take}`;
  return session.runClips([{...take, title}], 'open-clip');
}

/** What the welcome's one button does. */
function begin() {
  if (!session.noPictures) return session.runCamera();
  return session.site.clips ? playExample() : element('clip-file').click();
}

function update() {
  view.showRunning({
    source: session?.source,
    paused: session?.paused,
    recording: takes.recording,
    canRecord: session?.source !== undefined && !collecting.counting,
  });
  view.showTakes(takes.all, {
    play: guarded(playTake),
    remove: (take) => {
      takes.remove(take);
      update();
    },
  });
}

function failed(error) {
  // Else it would go on behind the message, or take its place.
  session?.end().catch((other) => console.error(other));
  clear(canvas);
  view.showSeen(undefined);
  view.showAnswer('Nothing yet'); // what stands there is of something else
  view.showWhole();
  if (!(error instanceof Problem)) console.error(error);
  view.showProblem(asProblem(error));
}

/** An action whose failure is told. */
function guarded(act) {
  return async (...given) => {
    try {
      await act(...given);
    } catch (error) {
      failed(error);
    }
  };
}

function bindButtons() {
  const actions = {
    camera: () => session.runCamera(),
    'open-video': () => element('video-file').click(),
    'open-clip': () => element('clip-file').click(),
    example: playExample,
    start: begin,
    turn: () => session.turn(),
    pause: () => session.pause(),
    keep: () => collecting.keepEnded(session),
    save: () => collecting.save(),
  };
  for (const [id, act] of Object.entries(actions)) {
    const run = guarded(act);
    element(id).addEventListener('click', ({currentTarget, detail}) => {
      // After a pointer's click the space bar shall pause, and not click again.
      if (detail) currentTarget.blur();
      run();
    });
  }
  const record = guarded(() => collecting.record(session));
  element('collect').addEventListener('submit', (event) => {
    event.preventDefault();
    record();
  });
  chosen('video-file', guarded((file) => session.runVideo(file)));
  chosen('clip-file', guarded(playFile));
  document.addEventListener('keydown', pressed);
  window.addEventListener('beforeunload', (event) => {
    if (!takes.saved || takes.recording) event.preventDefault();
  });
}

function chosen(id, act) {
  element(id).addEventListener('change', ({target}) => {
    const [file] = target.files;
    target.value = ''; // the same file may be chosen again
    if (file) act(file);
  });
}

function pressed(event) {
  const own = event.key === ' ' ? 'input, button, summary, a' : 'input';
  const other = event.ctrlKey || event.metaKey || event.altKey || event.repeat;
  if (other || event.target.closest(own)) return;
  const button = element(KEYS[event.key.toLowerCase()] ?? '');
  if (!button || button.disabled || button.hidden) return;
  event.preventDefault();
  button.click();
}

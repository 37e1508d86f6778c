// What stands on the page. Everything that comes from files is set as text, never as HTML.

const element = (id) => document.getElementById(id);
const TOP = 5;
const SIGNS = 20; // that are listed
const FEW = 12; // signs that are told at once,
const SHORT = 100; // in as many characters: a phone's picture has no room for more
export const NOBODY = 'Nobody is seen';
export const PRIVACY =
  'Landmarks are kept, never pictures. Takes stay in this tab until you download them.';
const PERCENT = new Intl.NumberFormat('en', {style: 'percent', maximumFractionDigits: 0});

/** A share in words, such as 84%. */
export const percent = (share) => PERCENT.format(share);

/** Makes an element. */
export function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** A name inside a sentence: one from right to left shall not turn what stands beside it. */
const isolated = (text) => make('bdi', {textContent: text});

/** Which card lies on the picture: loading, welcome, problem, or none while it runs. */
export function showState(state) {
  element('screen').dataset.state = state;
}

export function showLoading(text, share) {
  showState('loading');
  element('loading-text').textContent = text;
  const bar = element('loading-bar');
  if (share === undefined) bar.removeAttribute('value');
  else bar.value = share;
}

export function showProblem({title, advice}) {
  element('problem').replaceChildren(
    make('h2', {textContent: title}),
    make('p', {textContent: advice}),
  );
  showState('problem');
}

/** Who is seen, of partsSeen; nothing while nothing runs. */
export function showSeen(parts) {
  for (const item of element('seen').children) {
    item.dataset.seen = String(parts?.[item.dataset.part] ?? false);
  }
}

export function showMeter({fps, finding, running}) {
  const texts = [];
  if (fps) texts.push(`${fps.toFixed(fps < 10 ? 1 : 0)} frames/s`);
  if (finding) texts.push(`landmarks ${finding.toFixed(0)} ms`);
  if (running) texts.push(`model ${running.toFixed(running < 10 ? 1 : 0)} ms`);
  element('meter').textContent = texts.join(' · ');
}

/**
 * The running answer.
 *
 * @param {string} text The likeliest sign, or why there is none.
 * @param {{label: string, probability: number}[]} ranked
 * @param {boolean} known Whether the text is a sign.
 */
export function showAnswer(text, ranked = [], known = false) {
  const label = element('label');
  label.textContent = text;
  label.dataset.known = String(known);
  const list = element('top-five');
  while (list.children.length < TOP) {
    list.append(
      make('li', {},
        make('span', {className: 'name', dir: 'auto'}),
        make('span', {className: 'share'}),
        make('span', {className: 'bar', ariaHidden: 'true'})),
    );
  }
  for (const [at, row] of [...list.children].entries()) {
    const {label: name, probability} = ranked[at] ?? {label: '\u00a0', probability: 0};
    row.children[0].textContent = name;
    row.children[1].textContent = ranked[at] ? percent(probability) : '';
    row.children[2].style.setProperty('--share', probability);
  }
}

/**
 * What a whole recording shows; nothing while the answer runs.
 *
 * @param {string} [title] The recording's.
 * @param {{label: string, probability: number}} [best] None where nobody was seen.
 * @param {boolean} [keep] Whether it may be kept.
 */
export function showWhole(title, best, keep = false) {
  element('answer-title').textContent = title ? 'The whole recording' : 'Last two seconds';
  element('whole').hidden = !title;
  element('keep').hidden = !keep;
  const found = best
    ? [', as a whole: ', isolated(best.label), `, ${percent(best.probability)}`]
    : [': nobody was seen'];
  element('whole-text').replaceChildren(...(title ? [isolated(title), ...found] : []));
  // Screen readers pass over what is only now to be seen.
  if (title) speak(element('whole-text').textContent);
}

/** For screen readers: a sign when it begins, the same one again, and what a recording shows. */
export function speak(text) {
  element('spoken').replaceChildren(make('span', {textContent: text}));
}

/** The signs that were recognised so far, the last one last. */
export function addSign(label) {
  const list = element('so-far');
  list.append(make('li', {textContent: label, dir: 'auto'}));
  if (list.children.length > SIGNS) list.firstChild.remove();
}

export function clearSigns() {
  element('so-far').replaceChildren();
}

export function showCount(text) {
  element('count').textContent = text;
}

/** What the page can do with this model, and why not all of it. */
export function showPossible({pictures, example, takes, reason, signs}) {
  for (const id of ['camera', 'open-video']) element(id).disabled = !pictures;
  for (const id of ['open-clip', 'example']) element(id).disabled = false;
  element('example').hidden = !example;
  element('collect').closest('section').hidden = !takes;
  if (reason) {
    element('welcome-title').textContent = 'Play a recording';
    element('welcome-text').textContent = reason;
    element('start').textContent = example ? 'Play the example' : 'Open a recorded clip';
  } else if (signs.length <= FEW && signs.join(', ').length <= SHORT) {
    const names = signs.flatMap((sign, at) => [at ? ', ' : '', isolated(sign)]);
    element('welcome-signs').replaceChildren('It knows ', ...names, '.');
  }
}

export function showCamera({mirrored, others}) {
  element('picture').dataset.mirrored = String(mirrored);
  element('turn').hidden = !others;
}

/** Width by height of what is looked at. */
export function showAspect(aspect) {
  element('screen').style.setProperty('--aspect', aspect);
}

/** Which source runs, whether it is paused, and whether it is recorded. */
export function showRunning({source, paused, recording, canRecord}) {
  for (const id of ['camera', 'open-video', 'open-clip', 'example']) {
    element(id).setAttribute('aria-pressed', String(id === source));
  }
  const pause = element('pause');
  pause.disabled = !source;
  pause.textContent = paused ? 'Go on' : 'Pause';
  const record = element('record');
  record.disabled = !canRecord;
  record.dataset.recording = String(recording);
  record.textContent = recording ? 'End the take' : 'Record a take';
  element('screen').dataset.recording = String(recording);
}

/**
 * The takes, the last one first.
 *
 * @param {object[]} takes
 * @param {{play: (take: object) => void, remove: (take: object) => void}} actions
 */
export function showTakes(takes, {play, remove}) {
  element('takes').replaceChildren(
    ...takes.toReversed().map((take) => {
      const name = `${take.label}, ${take.signer}, take ${take.take}`;
      const hands = take.hands ? `hands in ${take.hands}` : 'no hand seen';
      const {label, probability} = take.answer ?? {};
      const said = label ? [' · read as ', isolated(label), `, ${percent(probability)}`] : [];
      return make('li', {},
        make('span', {className: 'name'}, isolated(take.label), ' ',
          make('small', {}, isolated(take.signer), ` · ${take.take}`)),
        make('span', {className: 'detail'},
          `${take.seconds.toFixed(1)} s, ${take.frames.length} frames, ${hands}`, ...said),
        make('button', {type: 'button', className: 'quiet', textContent: 'Play',
          ariaLabel: `Play ${name}`, onclick: () => play(take)}),
        make('button', {type: 'button', className: 'quiet', textContent: 'Delete',
          ariaLabel: `Delete ${name}`, onclick: () => remove(take)}));
    }),
  );
  const save = element('save');
  save.hidden = takes.length === 0;
  save.textContent = takes.length === 1 ? 'Download the take' : `Download ${takes.length} takes`;
}

export function showHint(text) {
  element('collect-hint').textContent = text;
}

/** Name, layout, origin and signs of the model, and how well it recognises. */
export function showModel({metadata, rule}, {accuracy, recognition}) {
  const {name, labels, preprocessing, raw, scheme, route, checkpoint_sha256: sha256} = metadata;
  const facts = {
    Name: name,
    Signs: String(labels.length),
    Landmarks: `${preprocessing.layout}, ${preprocessing.joint_idx.length} used`,
    Frames: `at most ${raw.frames}, seen as ${preprocessing.max_frames}`,
    Numbers: `${scheme}, route ${route}`,
    'A sign from': `${percent(rule.threshold)}${metadata.threshold === undefined ? ', as usual' : ''}`,
    ...(accuracy && {
      Accuracy:
        `${accuracy.percent.toFixed(1)}% of ${accuracy.clips} clips` +
        (accuracy.unseen ? '' : ' that it may have trained on'),
    }),
    Checkpoint: sha256.slice(0, 12),
  };
  element('model-line').textContent =
    `${name} · ${labels.length} signs · ${preprocessing.layout}`;
  element('facts').replaceChildren(
    ...Object.entries(facts).map(([key, value]) =>
      make('div', {}, make('dt', {textContent: key}), make('dd', {textContent: value}))),
  );
  element('recognition').hidden = !recognition;
  element('recognition').textContent = recognition ?? '';
  element('all-signs').closest('details').open = labels.length <= FEW;
  element('all-signs').replaceChildren(
    ...labels.map((text) => make('li', {textContent: text, dir: 'auto'})),
  );
  element('signs').replaceChildren(...labels.map((value) => make('option', {value})));
}

// The skeleton over the picture.

import {AXES, isThere} from './skeletons.js';

const METRES = 2.4; // that the picture is high, of what is in metres: a body and some room
const HEAD = 11; // landmarks of Holistic's pose that are the head's: drawn as fine as the face
// What is drawn first lies below. Widths of lines and radii of points.
const STYLES = {
  face: {line: 0.7, point: 0.6},
  body: {line: 1.5, point: 2},
  left_hand: {line: 1.2, point: 1.7},
  right_hand: {line: 1.2, point: 1.7},
};

let drawn; // what is to be seen

/** Draws it again, of another size. */
export function redraw(canvas) {
  if (drawn) drawFrame(canvas, drawn.frame, drawn.skeleton);
}

/**
 * Draws a frame's landmarks; what is missing is not drawn.
 *
 * @param {HTMLCanvasElement} canvas Is cleared, and takes the resolution of the screen.
 * @param {Float32Array} frame
 * @param {object} skeleton See skeletons.js.
 */
export function drawFrame(canvas, frame, skeleton) {
  const context = clear(canvas);
  drawn = {frame, skeleton};
  const {width, height} = canvas;
  const placed = skeleton.unit === 'image' ? inImage : inMetres;
  const place = placed(frame, width, height);
  const style = getComputedStyle(canvas);
  const unit = Math.max(1, Math.min(width, height) / 260);
  context.lineCap = 'round';
  for (const [part, members] of drawnParts(skeleton)) {
    const {line, point} = STYLES[part];
    context.strokeStyle = context.fillStyle = style.getPropertyValue(`--${part.replace('_', '-')}`);
    context.lineWidth = unit * line;
    context.beginPath();
    for (const [one, other] of skeleton.edges) {
      if (members.has(one) && members.has(other) && isThere(frame, one) && isThere(frame, other)) {
        context.moveTo(...place(one));
        context.lineTo(...place(other));
      }
    }
    context.stroke();
    for (const at of members) {
      if (!isThere(frame, at)) continue;
      context.beginPath();
      context.arc(...place(at), unit * point, 0, 2 * Math.PI);
      context.fill();
    }
  }
}

function drawnParts({unit, parts}) {
  const head = unit === 'image' ? parts.body.slice(0, HEAD) : [];
  return Object.keys(STYLES).map((part) => {
    if (part === 'face') return [part, new Set([...parts.face, ...head])];
    return [part, new Set(parts[part].filter((at) => !head.includes(at)))];
  });
}

/** Clears a canvas, and gives it as many pixels as the screen has there. */
export function clear(canvas) {
  drawn = undefined;
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio);
  const height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
  const context = canvas.getContext('2d');
  context.clearRect(0, 0, width, height);
  return context;
}

function inImage(frame, width, height) {
  return (at) => [frame[AXES * at] * width, frame[AXES * at + 1] * height];
}

/** The body in the middle, y up. */
function inMetres(frame, width, height) {
  const count = frame.length / AXES;
  const mean = (axis) =>
    frame.reduce((sum, one, at) => sum + (at % AXES === axis ? one : 0), 0) / count;
  const [x, y, scale] = [mean(0), mean(1), height / METRES];
  return (at) => [
    width / 2 + scale * (frame[AXES * at] - x),
    height / 2 - scale * (frame[AXES * at + 1] - y),
  ];
}

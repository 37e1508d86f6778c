// The metadata that a .tflite carries: metadata.json in a zip archive behind the model.

import {Problem} from './problems.js';

const FORMAT = 'signbart-artifact-1';
const END = 0x06054b50; // of the archive's directory
const ENTRY = 0x02014b50;
const END_BYTES = 22;
const LONGEST_COMMENT = 0xffff;

/**
 * What signbart/artifacts/metadata.py wrote.
 *
 * @param {Uint8Array} bytes The whole .tflite.
 * @returns {Promise<object>}
 */
export async function readMetadata(bytes) {
  const unknown = () =>
    new Problem(
      'The model carries no SignBART metadata',
      'Another tool made it, or its end is cut off: convert the checkpoint with signbart convert.',
    );
  let metadata;
  try {
    metadata = JSON.parse(await readEntry(bytes, 'metadata.json'));
  } catch {
    throw unknown();
  }
  if (metadata?.format !== FORMAT) throw unknown();
  return metadata;
}

async function readEntry(bytes, wanted) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = findEnd(view);
  // Offsets count from the archive's beginning, which is behind the model.
  const directory = end - view.getUint32(end + 12, true);
  const archive = directory - view.getUint32(end + 16, true);
  for (let at = directory; at < end && view.getUint32(at, true) === ENTRY; ) {
    const [nameLength, extra, comment] = [28, 30, 32].map((i) => view.getUint16(at + i, true));
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
    if (name === wanted) {
      const local = archive + view.getUint32(at + 42, true);
      const start =
        local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
      const body = bytes.subarray(start, start + view.getUint32(at + 20, true));
      return view.getUint16(at + 10, true) === 0 ? new TextDecoder().decode(body) : inflate(body);
    }
    at += 46 + nameLength + extra + comment;
  }
  throw new Error(`no ${wanted}`);
}

function findEnd(view) {
  const lowest = Math.max(0, view.byteLength - END_BYTES - LONGEST_COMMENT);
  for (let at = view.byteLength - END_BYTES; at >= lowest; at -= 1) {
    if (view.getUint32(at, true) === END) return at;
  }
  throw new Error('no archive');
}

function inflate(body) {
  const stream = new Blob([body]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return new Response(stream).text();
}

// Fetches files of this site, and says how far it is.

import {Problem} from './problems.js';

/**
 * A file's bytes, which must be those that the site was made of.
 *
 * @param {string} url Of this site.
 * @param {string} what It is, for messages.
 * @param {(share: number) => void} [report] Is told the share that is there, 0 … 1.
 * @param {string} [sha256] Hexadecimal, as site.json has it.
 * @returns {Promise<Uint8Array>}
 */
export async function download(url, what, report = () => {}, sha256 = undefined) {
  const failed = (reason) =>
    new Problem(`${what} cannot be loaded`, `${url}: ${reason}. Reload the page to try again.`);
  let response;
  try {
    // Else a reload may give again what the browser has kept, damaged, for a year.
    response = await fetch(url, {cache: 'no-cache'});
  } catch {
    throw failed('the server does not answer');
  }
  if (!response.ok) throw failed(`the server says ${response.status} ${response.statusText}`);
  // Compressed bodies have another length than they say; then the share is unknown.
  const total = response.headers.has('Content-Encoding')
    ? 0
    : Number(response.headers.get('Content-Length'));
  const chunks = [];
  let length = 0;
  for (const reader = response.body.getReader(); ; ) {
    const {done, value} = await reader.read();
    if (done) break;
    chunks.push(value);
    length += value.length;
    if (total) report(length / total);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  // Browsers keep it from pages that came unencrypted from another machine.
  if (sha256 && crypto.subtle && (await digest(bytes)) !== sha256) {
    throw new Problem(
      `${what} is damaged`,
      `${url} is not what this page was made with: it was changed on the server, or on its way. ` +
        'Reload the page; if that does not help, make it again with signbart web.',
    );
  }
  return bytes;
}

/** Hexadecimal SHA-256. */
async function digest(bytes) {
  const found = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return [...found].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

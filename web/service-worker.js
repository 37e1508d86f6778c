// Keeps what the page has loaded, so that it runs without a network from then on.
//
// Files under vendor/ and model/ have their version or contents in their names: what is kept is
// right for ever. Everything else is asked for anew, and taken from here where nobody answers.
// So only bytes that site.json names are kept: half a file would otherwise stay for ever. And the
// page gets its answer whether it can be kept or not, such as where the storage is full.

const KEPT = 'signbart-2';
const UNCHECKED = 'signbart'; // kept by an earlier version, as it came
const SITE = 'site.json';
const urlOf = (name) => new URL(name, self.registration.scope).href;
const byContent = (url) => /^(vendor|model)\//.test(url.slice(self.registration.scope.length));
// Loaded when they are needed, if they are.
const LARGE = /\.(wasm|tflite|task)$|compat|nosimd/;

self.addEventListener('install', (event) => event.waitUntil(keepShell()));
self.addEventListener('activate', (event) => {
  event.waitUntil(Promise.all([self.clients.claim(), caches.delete(UNCHECKED)]));
});
self.addEventListener('fetch', (event) => {
  const {request} = event;
  if (request.method !== 'GET' || new URL(request.url).origin !== self.location.origin) return;
  event.respondWith(byContent(request.url) ? keptOrNew(event) : newOrKept(event));
});

async function keepShell() {
  const response = await fetch(SITE, {cache: 'no-store'});
  const {files} = await response.clone().json();
  const cache = await caches.open(KEPT);
  const shell = Object.keys(files).filter((name) => !LARGE.test(name));
  const keepNew = async (path) => {
    // The browser's own cache may hold a damaged one for a year.
    const answer = await fetch(path, {cache: 'no-cache'});
    const bytes = await answer.clone().arrayBuffer();
    if (!answer.ok || (await digest(bytes)) !== sha256Of(urlOf(path), files)) {
      throw new Error(`${path} is not what ${SITE} says; reload the page to try again`);
    }
    await cache.put(path, new Response(bytes, answer));
  };
  await Promise.all(['./', ...shell].map(keepNew));
  await cache.put(SITE, response);
  await self.skipWaiting();
}

async function keptOrNew(event) {
  const {request} = event;
  const kept = await keptOf(request);
  if (kept) return kept;
  const response = await fetch(request.url, {cache: 'no-cache'}); // see keepShell
  keepAside(event, response);
  return response;
}

async function newOrKept(event) {
  const {request} = event;
  try {
    const response = await fetch(request);
    keepAside(event, response);
    return response;
  } catch (error) {
    const kept = await keptOf(request, {ignoreSearch: true});
    if (kept) return kept;
    throw error;
  }
}

/** What is kept of a request; nothing where the storage cannot be read, either. */
async function keptOf(request, options) {
  try {
    const cache = await caches.open(KEPT);
    return await cache.match(request, {...options, ignoreVary: true});
  } catch {
    return undefined;
  }
}

/** Keeps a response while the page already reads it. */
function keepAside(event, response) {
  if (!response.ok) return;
  const [url] = event.request.url.split(/[?#]/);
  const keeping = url === urlOf(SITE) ? keepSite : keepFile;
  event.waitUntil(
    keeping(url, response.clone()).catch((error) => console.warn(`not kept: ${url}:`, error)),
  );
}

async function keepFile(url, response) {
  const bytes = await response.arrayBuffer();
  const sha256 = await digest(bytes);
  const cache = await caches.open(KEPT);
  const said = async (found) => sha256Of(url, (await found.json()).files) === sha256;
  const site = await cache.match(SITE);
  // The page may have been made again since that was kept.
  if (!(site && (await said(site))) && !(await said(await fetch(SITE, {cache: 'no-store'})))) {
    throw new Error(`it is not what ${SITE} says`);
  }
  await cache.put(url, new Response(bytes, response));
}

/** Keeps site.json, and drops models and packages that it has no longer. */
async function keepSite(url, response) {
  const {files} = await response.clone().json();
  const cache = await caches.open(KEPT);
  // First, so that there is room for what is new.
  for (const request of await cache.keys()) {
    if (byContent(request.url) && !sha256Of(request.url, files)) await cache.delete(request);
  }
  await cache.put(url, response);
}

/** What site.json's `files` say of an address; undefined where they do not name it. */
function sha256Of(url, files) {
  const asked = url === urlOf('./') ? urlOf('index.html') : url;
  const name = Object.keys(files).find((one) => urlOf(one) === asked);
  return files[name];
}

/** Hexadecimal SHA-256. */
async function digest(bytes) {
  const found = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return [...found].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

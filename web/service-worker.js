// Keeps what the page has loaded, so that it runs without a network from then on.
//
// Files under vendor/ and model/ have their version or contents in their names: what is kept is
// right for ever. Everything else is asked for anew, and taken from here where nobody answers.

const KEPT = 'signbart';
const byContent = (url) => /^(vendor|model)\//.test(url.slice(self.registration.scope.length));
// Loaded when they are needed, if they are.
const LARGE = /\.(wasm|tflite|task)$|compat|nosimd/;

self.addEventListener('install', (event) => event.waitUntil(keepShell()));
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
self.addEventListener('fetch', (event) => {
  const {request} = event;
  if (request.method !== 'GET' || new URL(request.url).origin !== self.location.origin) return;
  event.respondWith(byContent(request.url) ? keptOrNew(request) : newOrKept(request));
});

async function keepShell() {
  const cache = await caches.open(KEPT);
  const {files} = await (await fetch('site.json', {cache: 'no-store'})).json();
  const shell = Object.keys(files).filter((name) => !LARGE.test(name));
  await cache.addAll(['./', 'site.json', ...shell]);
  await self.skipWaiting();
}

async function keptOrNew(request) {
  const cache = await caches.open(KEPT);
  const kept = await cache.match(request, {ignoreVary: true});
  if (kept) return kept;
  const response = await fetch(request);
  if (response.ok) await cache.put(request, response.clone());
  return response;
}

async function newOrKept(request) {
  const cache = await caches.open(KEPT);
  try {
    const response = await fetch(request);
    if (response.ok) {
      await cache.put(request, response.clone());
      if (request.url.endsWith('/site.json')) await forgetOthers(cache, response.clone());
    }
    return response;
  } catch (error) {
    const kept = await cache.match(request, {ignoreSearch: true, ignoreVary: true});
    if (kept) return kept;
    throw error;
  }
}

/** Drops models and packages that the site has no longer. */
async function forgetOthers(cache, response) {
  const {files} = await response.json();
  const known = new Set(Object.keys(files).map((name) => new URL(name, self.location).href));
  for (const request of await cache.keys()) {
    if (byContent(request.url) && !known.has(request.url)) await cache.delete(request);
  }
}

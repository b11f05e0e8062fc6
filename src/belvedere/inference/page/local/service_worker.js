// Keeps the page in the browser, so that it works offline. The export writes VERSION and FILES above: a hash of all
// files, and the SHA-256 of each by its address.

const PREFIX = `belvedere ${self.registration.scope} `;
const CACHE = PREFIX + VERSION;
const PAGES = ["", "index.html"].map((name) => new URL(name, self.registration.scope).pathname);
const MAX_SECONDS = 3; // without a response of the host, after which the kept page is shown

self.addEventListener("install", (event) => event.waitUntil(keepFiles()));

self.addEventListener("activate", (event) => {
  event.waitUntil(caches.keys().then((names) => Promise.all(
    names.filter((name) => name.startsWith(PREFIX) && name !== CACHE).map((name) => caches.delete(name)))));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET") return;
  const isPage = request.mode === "navigate" && PAGES.includes(new URL(request.url).pathname);
  event.respondWith(isPage ? openPage(request) : findKept(request).then((kept) => kept ?? fetch(request)));
});

/** Keeps all files, or none if one does not belong to this version. */
async function keepFiles() {
  const cache = await caches.open(CACHE);
  try {
    await Promise.all(Object.entries(FILES).map(async ([address, sha256]) => cache.put(address, await fetchFile(address, sha256))));
  } catch (error) {
    await caches.delete(CACHE);
    throw error;
  }
}

async function fetchFile(address, sha256) {
  for (const cache of ["no-cache", "reload"]) {
    const response = await fetch(address, { cache });
    if (!response.ok) throw new Error(`${address}: HTTP status ${response.status}`);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await response.clone().arrayBuffer()));
    if (Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === sha256) return response;
  }
  throw new Error(`${address} is of another version`);
}

/** Returns the host's page, which may be newer, or else the kept one. Each has its own folder of files. */
async function openPage(request) {
  const kept = await findKept(self.registration.scope);
  if (!kept) return fetch(request);
  const late = new Promise((resolve) => setTimeout(() => resolve(kept), MAX_SECONDS * 1000));
  const current = fetch(request, { cache: "reload" }).then((response) => (response.status < 500 ? response : kept));
  return Promise.race([current, late]).catch(() => kept);
}

async function findKept(request) {
  const cache = await caches.open(CACHE);
  return cache.match(request, { ignoreVary: true });
}

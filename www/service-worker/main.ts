// The service worker of the site. After one visit, pages and engine come out of its cache, with or without a network. Models
// are not its business: the package stores them itself, and what belongs to another origin does not pass through here.
import { setCacheNameDetails } from "workbox-core";
import { PrecacheController } from "workbox-precaching/PrecacheController.js";
import { PrecacheRoute } from "workbox-precaching/PrecacheRoute.js";
import { registerRoute, setCatchHandler } from "workbox-routing";
import { NetworkFirst } from "workbox-strategies/NetworkFirst.js";
import { isolated, needsIsolation } from "./isolation.js";
import { filesForThisBrowser } from "./precached.js";

declare const self: ServiceWorkerGlobalScope;

/** The list of models may change without a new version of the site. */
const MODEL_LIST = new URL("./models/manifest.json", self.location.href);
/** How long the network may take to answer with the list until the stored one is used, in seconds. */
const PATIENCE = 5;
const ASSETS = new URL("./assets/", self.location.href).href;

setCacheNameDetails({ prefix: "emberglass" });
const site = new PrecacheController({
  plugins: [{ handlerWillRespond: async ({ request, response }) => isolated(request, response) }],
  // A file that the browser has deleted from the cache: the handler below asks the network for it.
  fallbackToNetwork: false,
});
site.addToCacheList(filesForThisBrowser());
const models = new NetworkFirst({ networkTimeoutSeconds: PATIENCE });

self.addEventListener("install", (event) => {
  void site.install(event);
  // Stored as well as it goes: a site need not have a list.
  const [answered, stored] = models.handleAll({ event, request: new Request(MODEL_LIST) });
  event.waitUntil(Promise.allSettled([answered, stored]));
});

self.addEventListener("activate", (event) => event.waitUntil(begin(event)));

self.addEventListener("message", (event) => {
  // A new version waits until the visitor asks for it, or until no page of the former one is open.
  if (event.data === "take-over") event.waitUntil(self.skipWaiting());
  if (event.data === "page-loaded") event.waitUntil(removeFormerVersions(event));
});

// A link to a page may hold a model, a seed and more behind the question mark.
registerRoute(new PrecacheRoute(site, { ignoreURLParametersMatching: [/./] }));
registerRoute(({ url }) => url.href === MODEL_LIST.href, models);
// Before the next route: the worker's script is among these, and a page of the former version may still ask for it.
registerRoute(
  ({ url }) => url.href.startsWith(ASSETS),
  async ({ request }) => isolated(request, (await caches.match(request)) ?? (await fetch(request))),
);
registerRoute(
  ({ sameOrigin, request }) => sameOrigin && needsIsolation(request),
  async ({ request }) => isolated(request, await fetch(request)),
);
setCatchHandler(async ({ request }) => isolated(request, await fetch(request)));

/** The first visit's page is served from now on, too. */
async function begin(event: ExtendableEvent): Promise<void> {
  await removeFormerVersions(event);
  await self.clients.claim();
}

/** Another tab may run the former version and has yet to load its engine: then the former files stay until one page is left. */
async function removeFormerVersions(event: ExtendableEvent): Promise<void> {
  const { installing, waiting } = self.registration;
  const windows = await self.clients.matchAll({ type: "window" });
  // What the next version has stored lies in the same cache.
  if (windows.length <= 1 && !installing && !waiting) await site.activate(event);
}

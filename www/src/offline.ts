// Registers the service worker, by which the pages work without a network, and tells of new versions. Where there is none,
// as in a private window or without https, the pages work as before.
import { supported } from "emberglass";
import { embedded } from "./embedded.js";
import { showNotice } from "./notice.js";

/** From here on, as many cores gain something. On two, one computes with or without isolation. */
const MANY_CORES = 3;

/** Begins when the page is complete, so that its own loading does not wait. */
export function workOffline(): void {
  // A page in one file needs none, and the development server has none.
  if (!embedded && import.meta.env.PROD && "serviceWorker" in navigator) addEventListener("load", () => void register());
}

async function register(): Promise<void> {
  const { serviceWorker } = navigator;
  try {
    const firstVisit = serviceWorker.controller === null;
    const registration = await serviceWorker.register("./sw.js", { updateViaCache: "none" });
    if (firstVisit) serviceWorker.addEventListener("controllerchange", () => void offerThreads(), { once: true });
    serviceWorker.controller?.postMessage("page-loaded");
    follow(registration, registration.waiting ?? registration.installing);
    registration.addEventListener("updatefound", () => follow(registration, registration.installing));
  } catch (error) {
    console.info(`The browser refuses a service worker, so this site needs a network: ${String(error)}`);
  }
}

/** Offers the new version once it is complete. The first one has nothing to replace. */
function follow(registration: ServiceWorkerRegistration, next: ServiceWorker | null): void {
  const offer = () => {
    if (next?.state !== "installed" || !navigator.serviceWorker.controller) return;
    showNotice("A new version is there.", "Reload", () => takeOver(registration));
  };
  next?.addEventListener("statechange", offer);
  offer();
}

/** What is said and typed outlives the reload. The other tabs keep the version they have until they are reloaded. */
function takeOver(registration: ServiceWorkerRegistration): void {
  const { waiting } = registration;
  // Another tab may have been first.
  if (!waiting) return location.reload();
  navigator.serviceWorker.addEventListener("controllerchange", () => location.reload(), { once: true });
  waiting.postMessage("take-over");
}

/**
 * On a host that does not isolate its pages, the service worker does so from the next load on. It is not forced: a reload takes
 * the focus and may end a download, and only visitors whose processor computes gain by it.
 */
async function offerThreads(): Promise<void> {
  if (crossOriginIsolated || navigator.hardwareConcurrency < MANY_CORES || (await supported()).webgpu) return;
  showNotice("After a reload, this page can use several processor cores.", "Reload", () => location.reload());
}

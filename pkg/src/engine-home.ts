// Where on this machine an engine can run.
import { EmberglassError } from "./errors.js";

/** `"worker"`: in workers that are started from here. `"here"`: in this very worker, which cannot start workers. */
export type EngineHome = "worker" | "here";

/** Undefined where no engine can run: in Node.js and other servers, in a service worker, in a worklet. */
export function engineHome(): EngineHome | undefined {
  if (isService()) return undefined;
  if (typeof Worker === "function") return "worker";
  // Chromium's SharedWorker has no Worker.
  return isA("SharedWorkerGlobalScope") || isA("DedicatedWorkerGlobalScope") ? "here" : undefined;
}

/** Why no engine can run where {@link engineHome} is undefined, in words for a developer. */
export function whyNoHome(): string {
  if (isService()) return "a service worker cannot run a model, since the browser ends it at any time: load the model in a page or a worker";
  return "there are no web workers here, as in Node.js or while a server renders a page: load the model in the browser";
}

export function noHome(): EmberglassError {
  return new EmberglassError("no-worker", whyNoHome());
}

function isService(): boolean {
  return isA("ServiceWorkerGlobalScope");
}

/** Whether the global object is of that class, which may not exist. */
function isA(name: string): boolean {
  const scope = (globalThis as Record<string, unknown>)[name];
  return typeof scope === "function" && globalThis instanceof scope;
}

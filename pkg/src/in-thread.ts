// The engine in the worker that uses the package: for a SharedWorker, which in Chromium cannot start workers.
import { isTrap } from "./errors.js";
import { serveEngine } from "./glue.js";
import type { RawWorker } from "./starting-worker.js";
import type { WorkerScope } from "./worker-host.js";

/** To its owner it is a worker. Ending it ends the conversation; what it was asked last, it computes to the end. */
export function startInThisThread(): RawWorker {
  const { port1: page, port2: engine } = new MessageChannel();
  serveEngine(scopeOver(engine));
  return {
    postMessage: (message, transfer = []) => page.postMessage(message, transfer),
    terminate: () => page.close(),
    addEventListener(type, listener) {
      page.addEventListener(type, listener);
      if (type === "message") page.start();
    },
  };
}

function scopeOver(port: MessagePort): WorkerScope {
  return {
    postMessage: (message, transfer = []) => port.postMessage(message, transfer),
    addEventListener(type: "message" | "error" | "unhandledrejection", listener: (event: any) => void) {
      if (type === "message") {
        port.addEventListener(type, listener);
        port.start();
        return;
      }
      // Errors of the worker's own code are none of the engine's.
      globalThis.addEventListener(type, (event) => {
        const { error, reason } = event as { error?: unknown; reason?: unknown };
        if (isTrap(error ?? reason)) listener(event);
      });
    },
  };
}

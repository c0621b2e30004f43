// A helper's life: start an instance of the engine's module, say so, then compute until told to leave.
import { toWire, type WireError } from "./errors.js";
import type { startInstance } from "./helper-instance.js";
import type { FromHelper, ToHelper } from "./helper-team.js";

/** The part of `DedicatedWorkerGlobalScope` that is used. */
export interface HelperScope {
  postMessage(message: FromHelper): void;
  addEventListener(type: "message", listener: (event: { data: ToHelper | { verb: string } }) => void): void;
  addEventListener(type: "messageerror", listener: () => void): void;
  close(): void;
}

/** Waits for the one message that makes this worker a helper. In the engine's worker it never comes. */
export function serveHelper(scope: HelperScope, start: typeof startInstance): void {
  const fail = (error: WireError) => scope.postMessage({ kind: "failed", error });
  scope.addEventListener("messageerror", () => fail({ code: "worker-failed", message: "the engine's memory did not arrive" }));
  scope.addEventListener("message", async ({ data }) => {
    if (!isForHelper(data)) return;
    const { module, memory, place, index } = data;
    try {
      const run = await start(module, memory, place, index);
      scope.postMessage({ kind: "ready" });
      // Blocks this worker until the engine tells it to leave.
      run();
    } catch (thrown) {
      fail({ code: "worker-failed", message: thrown instanceof Error ? thrown.message : toWire(thrown).message });
      return;
    }
    scope.postMessage({ kind: "left" });
    scope.close();
  });
}

function isForHelper(message: ToHelper | { verb: string }): message is ToHelper {
  return message.verb === "help";
}

// A helper's life: start the engine's module, say so, then compute until told to leave.
import { toWire, type WireError } from "./errors.js";
import type { FromHelper, ToHelper } from "./helper-team.js";
import type { SimdLevel } from "./simd.js";

/** The part of `DedicatedWorkerGlobalScope` that is used. */
export interface HelperScope {
  postMessage(message: FromHelper): void;
  addEventListener(type: "message", listener: (event: { data: ToHelper | { verb: string } }) => void): void;
  addEventListener(type: "messageerror", listener: () => void): void;
  close(): void;
}

/** Blocks this worker until the engine tells it to leave. */
export type RunHelper = (shared: SharedArrayBuffer, index: number) => void;

/** Waits for the one message that makes this worker a helper. In the engine's worker it never comes. */
export function serveHelper(
  scope: HelperScope,
  start: (level: SimdLevel, module: WebAssembly.Module) => Promise<RunHelper>,
): void {
  const fail = (error: WireError) => scope.postMessage({ kind: "failed", error });
  scope.addEventListener("messageerror", () => fail({ code: "worker-failed", message: "the shared memory did not arrive" }));
  scope.addEventListener("message", async ({ data }) => {
    if (!isForHelper(data)) return;
    const { level, module, shared, index } = data;
    let run: RunHelper;
    try {
      run = await start(level, module);
    } catch (thrown) {
      fail(toWire(thrown));
      return;
    }
    scope.postMessage({ kind: "ready" });
    try {
      run(shared, index);
      // Only a helper that was told to leave gets here.
      scope.close();
    } catch (thrown) {
      fail({ code: "worker-failed", message: thrown instanceof Error ? thrown.message : toWire(thrown).message });
    }
  });
}

function isForHelper(message: ToHelper | { verb: string }): message is ToHelper {
  return message.verb === "help";
}

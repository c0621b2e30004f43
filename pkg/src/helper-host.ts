// A helper's life: start an instance of the engine's module, say so, then compute until told to leave.
import { toWire } from "./errors.js";
import { type HelperOrder, markDead, type startInstance } from "./helper-instance.js";
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
  const fail = (message: string) => scope.postMessage({ kind: "failed", error: { code: "worker-failed", message } });
  const missing = () => fail("the engine's memory did not arrive");
  scope.addEventListener("messageerror", missing);
  scope.addEventListener("message", ({ data }) => {
    if (!isForHelper(data)) return;
    const { port } = data;
    port.onmessageerror = missing;
    port.onmessage = ({ data: order }: MessageEvent<HelperOrder>) => {
      port.close();
      void help(order);
    };
  });

  async function help(order: HelperOrder): Promise<void> {
    try {
      const run = await start(order);
      scope.postMessage({ kind: "ready" });
      // Blocks this worker until the engine tells it to leave.
      run();
    } catch (thrown) {
      // Here and not by the page: the engine may be blocked until it knows, and would hear nothing.
      markDead(order.memory, order.place.dead);
      fail(thrown instanceof Error ? thrown.message : toWire(thrown).message);
      return;
    }
    scope.postMessage({ kind: "left" });
    scope.close();
  }
}

function isForHelper(message: ToHelper | { verb: string }): message is ToHelper {
  return message.verb === "help";
}

// Anything thrown, as something that has a message and a code to show.
import { EmberglassError } from "emberglass";

export function coded(thrown: unknown): EmberglassError {
  if (thrown instanceof EmberglassError) return thrown;
  return new EmberglassError("internal", thrown instanceof Error ? thrown.message : String(thrown), { cause: thrown });
}

/** Whether the same load may succeed another time. A wrong file stays wrong. */
export function retryMayHelp({ code }: EmberglassError): boolean {
  return [
    "network", "http-status", "io", "no-adapter", "device-request", "device-lost", "out-of-memory", "gpu", "worker-failed", "wasm-trap", "internal",
  ].includes(code);
}

/** After these the model is gone and has to be loaded again. */
export function isFatal({ code }: EmberglassError): boolean {
  return ["device-lost", "wasm-trap", "worker-failed", "disposed"].includes(code);
}

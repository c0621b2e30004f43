// From what a caller may pass as a model to what can cross into the worker.
import { EmberglassError } from "./errors.js";
import type { WireSource } from "./protocol.js";
import type { ModelSource } from "./types.js";

/** @throws {@link EmberglassError} `invalid-option` for an address that is none, or mixed shards. */
export function toWireSource(source: ModelSource): WireSource {
  const parts: readonly (string | URL | Blob)[] =
    typeof source === "object" && "shards" in source ? source.shards : [source];
  if (parts.length === 0) throw invalid("no shard is given");
  const blobs = parts.filter((part) => part instanceof Blob);
  if (blobs.length === parts.length) return { blobs, names: blobs.map(nameOf) };
  if (blobs.length > 0) throw invalid("shards must be all addresses or all files");
  return { urls: (parts as readonly (string | URL)[]).map(absolute) };
}

/** The worker's script lives elsewhere than the document, so addresses are made absolute here. */
function absolute(address: string | URL): string {
  const base = typeof document === "undefined" ? globalThis.location?.href : document.baseURI;
  try {
    return new URL(address, base).href;
  } catch {
    throw invalid(`${String(address)} is not an address`);
  }
}

function nameOf(blob: Blob): string {
  return typeof File !== "undefined" && blob instanceof File ? blob.name : "the given Blob";
}

function invalid(what: string): EmberglassError {
  return new EmberglassError("invalid-option", `model source: ${what}`);
}

// Which model the page offers: the one inside its own file, or the default of models/manifest.json, or the one named by `?model=`.
// The query comes from whoever made the link, so it is checked, and never loaded without asking.
import type { LoadOptions, ModelSource } from "emberglass";
import { embedded } from "./embedded.js";
import { insideOffer } from "./inside-offer.js";
import { fileName, modelAddress } from "./model-address.js";

export interface Offer {
  source: ModelSource;
  name: string;
  /** 0 if unknown. */
  bytes: number;
  /** So many bytes are stored on this device, `Infinity` for all; undefined where that is not known yet. */
  hereBytes?: number;
  /** SHA-256 of the file, where this site gives it. */
  sha256?: string;
  /** Sampling options that this site recommends for the model. */
  sampling?: NonNullable<LoadOptions["sampling"]>;
  /** It is inside this page's own file. */
  isInside?: true;
  /** Set when a link, not this site, asks for the model: the host to show before loading. */
  askedHost?: string;
  /** What the visitor gave for a model that the hub does not give to everybody. It is kept nowhere. */
  accessToken?: string;
}

export async function defaultOffer(): Promise<Offer | undefined> {
  if (embedded) return insideOffer(embedded.model);
  try {
    const response = await fetch("models/manifest.json", { cache: "no-cache" });
    if (!response.ok) return undefined;
    const entry = ((await response.json()) as { default?: Record<string, unknown> }).default;
    if (typeof entry?.["url"] !== "string") return undefined;
    const { url, name, bytes, sampling, sha256 } = entry;
    const address = new URL(url as string, document.baseURI);
    return {
      source: address.href,
      name: typeof name === "string" ? name : fileName(address),
      bytes: typeof bytes === "number" && bytes > 0 ? bytes : 0,
      ...(typeof sha256 === "string" && /^[0-9a-f]{64}$/i.test(sha256) ? { sha256 } : {}),
      // The package checks names and values.
      ...(typeof sampling === "object" && sampling !== null ? { sampling } : {}),
    };
  } catch {
    // No manifest, or none that can be read: the visitor can still open a file.
    return undefined;
  }
}

/** The model a link asks for; undefined when it asks for none, a sentence when it is refused. */
export function requestedOffer(query: string): Offer | string | undefined {
  const asked = new URLSearchParams(query).get("model");
  if (asked === null || asked.trim() === "") return undefined;
  if (embedded) return "This page is one file and uses no network. Download the model, then open it with “Open a .gguf file…”.";
  const address = modelAddress(asked);
  if ("refused" in address) return `The address of its model ${address.refused}.`;
  const { source, name, host } = address;
  return { source, name, bytes: 0, askedHost: host };
}

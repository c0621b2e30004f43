// Which model the page offers: the one inside its own file, or the default of models/manifest.json, or the one named by `?model=`.
// The query comes from whoever made the link, so it is checked, and never loaded without asking.
import type { LoadOptions, ModelSource } from "emberglass";
import { embedded } from "./embedded.js";
import { insideOffer } from "./inside-offer.js";
import { count } from "./format.js";

export interface Offer {
  source: ModelSource;
  name: string;
  /** 0 if unknown. */
  bytes: number;
  /** Sampling options that this site recommends for the model. */
  sampling?: NonNullable<LoadOptions["sampling"]>;
  /** It is inside this page's own file. */
  isInside?: true;
  /** Set when a link, not this site, asks for the model: the host to show before loading. */
  askedHost?: string;
}

export async function defaultOffer(): Promise<Offer | undefined> {
  if (embedded) return insideOffer(embedded.model);
  try {
    const response = await fetch("models/manifest.json", { cache: "no-cache" });
    if (!response.ok) return undefined;
    const entry = ((await response.json()) as { default?: Record<string, unknown> }).default;
    if (typeof entry?.["url"] !== "string") return undefined;
    const { url, name, bytes, sampling } = entry;
    return {
      source: new URL(url as string, document.baseURI).href,
      name: typeof name === "string" ? name : fileName(new URL(url as string, document.baseURI)),
      bytes: typeof bytes === "number" ? bytes : 0,
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
  if (asked.length > 2000) return `The address of its model is too long: ${count(asked.length)} characters.`;
  let url: URL;
  try {
    url = new URL(asked, document.baseURI);
  } catch {
    return "The address of its model is not an address.";
  }
  if (url.protocol !== "https:" && url.protocol !== "http:") return `The address of its model begins with ${url.protocol.slice(0, 40)} instead of https: or http:.`;
  if (url.username || url.password) return "The address of its model holds a user name or a password.";
  return { source: url.href, name: fileName(url), bytes: 0, askedHost: url.host };
}

function fileName(url: URL): string {
  const last = url.pathname.split("/").at(-1) ?? "";
  try {
    return decodeURIComponent(last) || url.host;
  } catch {
    return last;
  }
}

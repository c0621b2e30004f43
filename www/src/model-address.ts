// Addresses of models as people and links write them: https:, and hf: for the files of a hub. What is refused is said in a sentence.
import { count } from "./format.js";

/** Where hf: addresses lead. */
export const HUB = "huggingface.co";
const LONGEST = 2000;
/** `hf:owner/repo`, which a revision may follow, and then a file's path or a quantization. The package looks closer. */
const HUB_ADDRESS = /^hf:((?!\.)[\w.-]+\/(?!\.)[\w.-]+(?:@[^/:\s]+)?)(\/\S.*|:[\w-]+)?$/i;

/** The hub's page about a repository, as the browser's bar has it, or as other programs write it: without a scheme, with a quantization. */
const HUB_PAGE = new RegExp(
  String.raw`^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/((?!(?:blog|collections|datasets|docs|papers|spaces)/)[\w.-]+/[\w.-]+)` +
    String.raw`(?:(:[\w-]+)|/tree/([^/?#]+)[^?#]*)?/?(?:[?#].*)?$`,
  "i",
);
/** The name of a repository alone. */
const NAME_ALONE = /^(?!.*\.(?:gguf|safetensors)$)[\w-][\w.-]*\/[\w.-]+(?::[\w-]+)?$/i;

/** A text with the page of a hub's repository, or `hf://owner/repo`, written as `hf:owner/repo`; other texts as they are. */
export function withHubName(text: string): string {
  const asked = text.trim();
  const [page, repository, quantization = "", revision = "main"] = HUB_PAGE.exec(asked) ?? [];
  if (page === undefined) return asked.replace(/^hf:\/\//i, "hf:");
  return `hf:${repository}${revision === "main" ? "" : `@${revision}`}${quantization}`;
}

export interface ModelAddress {
  /** As the package takes it; absolute. */
  source: string;
  /** The file's name, or what of the hub is asked for. */
  name: string;
  host: string;
}

/** The address in a text, or why it is none: the rest of a sentence that begins with “The address of the model”. */
export function modelAddress(text: string): ModelAddress | { refused: string } {
  const asked = withHubName(text);
  if (asked.length > LONGEST) return { refused: `is too long: ${count(asked.length)} characters` };
  if (/^hf:/i.test(asked)) {
    const [, repository, part = ""] = HUB_ADDRESS.exec(asked) ?? [];
    if (repository === undefined) return { refused: "is not like hf:owner/repo, hf:owner/repo:Q4_K_M or hf:owner/repo/file.gguf" };
    // As stored models are named.
    const name = `${repository}${part.startsWith(":") ? part.toUpperCase() : part}`;
    return { source: `hf:${name}`, name, host: HUB };
  }
  if (NAME_ALONE.test(asked)) return { refused: `has nothing in front that says where it is: a model of Hugging Face is hf:${asked}` };
  let url: URL;
  try {
    url = new URL(asked, document.baseURI);
  } catch {
    return { refused: "is not an address" };
  }
  if (url.protocol !== "https:" && url.protocol !== "http:") {
    return { refused: `begins with ${url.protocol.slice(0, 40)} instead of https:, http: or hf:` };
  }
  if (url.username || url.password) return { refused: "holds a user name or a password" };
  return { source: url.href, name: fileName(url), host: url.host };
}

/** The last part of an address, as a name. */
export function fileName(url: URL): string {
  const last = url.pathname.split("/").at(-1) ?? "";
  try {
    return decodeURIComponent(last) || url.host;
  } catch {
    return last;
  }
}

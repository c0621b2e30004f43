// `hf:` sources: from the text and the options that a caller gave to the model that the worker has to find.
import { EmberglassError } from "./errors.js";
import { isLocal } from "./network-fault.js";
import * as check from "./options.js";
import type { HubModel } from "./protocol.js";
import type { SourceOptions } from "./types.js";

/** Options that count for `hf:` sources alone. */
export type HubOptions = Pick<SourceOptions, "revision" | "accessToken" | "hubs">;

const PUBLIC_HUB = "https://huggingface.co";
/** Hosts of the public hub. Other hubs are named by the option `hubs`. */
const PUBLIC_HOSTS = ["huggingface.co", "www.huggingface.co", "hf.co"];

const FORMS =
  "hf:owner/repo, hf:owner/repo:Q4_K_M or hf:owner/repo/path/to/file.gguf, and for a revision hf:owner/repo@revision with the same endings";

/** Limits of lengths, in characters. The hub's own are shorter, or the same. */
const MOST = { source: 1000, name: 96, revision: 200, token: 1000, hubs: 8 };

/** Of an owner or a repository. The hub's own rule is stricter. */
const NAME = /^(?!\.{1,2}$)[a-z0-9._-]+$/i;
const QUANTIZATION = /^[a-z0-9][a-z0-9_-]{0,39}$/i;

export function isHubSource(address: string): boolean {
  return /^hf:/i.test(address);
}

/**
 * Reads an `hf:` source.
 *
 * @throws {@link EmberglassError} `invalid-option` for a text of another form, and for options that do not fit.
 */
export function hubModel(source: string, label: string, options: HubOptions): HubModel {
  const bad = (what: string) => check.invalid(label, source, `no source of a hub: ${what}. The forms are ${FORMS}`);
  if (source.length > MOST.source) throw bad(`it is longer than ${MOST.source} characters`);
  const parts = /^hf:(?:\/\/)?([^/:@]*)\/([^/:@]*)(?:@([^/:]*))?(?:\/(.*)|:(.*))?$/is.exec(source);
  if (!parts) throw bad("it does not name an owner and a repository");
  const [, owner = "", repo = "", written, path, quantization] = parts;
  if (PUBLIC_HOSTS.includes(owner.toLowerCase())) throw bad("leave the hub's own name out");
  for (const [what, name] of [["owner", owner], ["repository", repo]] as const) {
    if (!NAME.test(name) || name.length > MOST.name) throw bad(`${check.shown(name)} is no name of a${what === "owner" ? "n" : ""} ${what}`);
  }
  const wrongPath = path === undefined ? undefined : faultOfPath(path);
  if (wrongPath !== undefined) throw bad(`its path ${wrongPath}`);
  if (quantization !== undefined && !QUANTIZATION.test(quantization)) throw bad(`${check.shown(quantization)} is no quantization`);
  const revision = revisionOf(written, options.revision, bad);
  const end = path === undefined ? (quantization === undefined ? "" : `:${quantization.toUpperCase()}`) : `/${path}`;
  const repository = `${owner}/${repo}`;
  const hubs = hubsOf(options.hubs);
  const accessToken = tokenOf(options.accessToken, hubs);
  return {
    name: `hf:${repository}${revision === "main" ? "" : `@${encodeURIComponent(revision)}`}${end}`,
    repository,
    revision,
    ...(path === undefined ? {} : { path }),
    ...(quantization === undefined ? {} : { quantization: quantization.toUpperCase() }),
    hubs,
    ...(accessToken === undefined ? {} : { accessToken }),
  };
}

/** @throws {@link EmberglassError} `invalid-option` if one is given: without an `hf:` source it would change nothing. */
export function refuseHubOptions(options: HubOptions): void {
  for (const name of ["revision", "accessToken", "hubs"] as const) {
    if (options[name] === undefined) continue;
    const message = `option ${name} counts for sources of a hub alone, such as hf:owner/repo: leave it out`;
    throw new EmberglassError("invalid-option", message, { detail: name });
  }
}

/** @throws {@link EmberglassError} `invalid-option` for the hub's page about a repository, and for its address without `https://`. */
export function refuseHubPage(address: string, label: string): void {
  const [, scheme, host = "", path = ""] = /^(https?:\/\/)?([^/]+)\/([^?#]*)/i.exec(address) ?? [];
  if (!PUBLIC_HOSTS.includes(host.toLowerCase())) return;
  const parts = /^((?!(?:api|blog|collections|datasets|docs|papers|spaces)\/)[^/]+\/[^/:]+)(?:(:[^/]+)|\/tree\/([^/]+).*)?\/?$/.exec(path);
  if (parts) {
    const [, repository, quantization, revision = "main"] = parts;
    const model = `hf:${repository}${revision === "main" ? "" : `@${revision}`}`;
    const instead = quantization === undefined ? `${model}, or with a quantization ${model}:Q4_K_M` : `${model}${quantization}`;
    throw check.invalid(label, address, `the page of a repository and no file: give ${instead}`);
  }
  if (scheme === undefined) {
    throw check.invalid(label, address, "no address without https:// in front; a model of the hub may be named as hf:owner/repo:Q4_K_M");
  }
}

/** The address of a file itself where the address of the hub's page about it was given. All else is returned as it is. */
export function fileAddress(address: string): string {
  const { hostname, origin, pathname } = new URL(address);
  const blob = /^((?:\/(?:datasets|spaces))?\/[^/]+\/[^/]+)\/blob\/(?=[^/]+\/.)/.exec(pathname);
  if (!blob || !PUBLIC_HOSTS.includes(hostname)) return address;
  return `${origin}${blob[1]}/resolve/${pathname.slice(blob[0].length)}`;
}

/** Why a path inside a repository is refused, as the end of a sentence. */
export function faultOfPath(path: string): string | undefined {
  if (/[\p{Cc}\\]/u.test(path)) return "has a control character or a backslash";
  const steps = path.split("/");
  if (steps.includes("")) return "has an empty part";
  if (steps.includes(".") || steps.includes("..")) return "has a part . or ..";
  return undefined;
}

function revisionOf(written: string | undefined, option: string | undefined, bad: (what: string) => EmberglassError): string {
  let inSource: string | undefined;
  try {
    // A slash in it is written as %2F.
    inSource = written === undefined ? undefined : decodeURIComponent(written);
  } catch {
    throw bad(`its revision ${check.shown(written)} is not percent-encoded rightly`);
  }
  if (inSource !== undefined && !isRevision(inSource)) throw bad(`${check.shown(inSource)} is no revision`);
  if (option !== undefined && !isRevision(option)) throw check.invalid("option revision", option, "no branch, tag or commit");
  if (inSource !== undefined && option !== undefined && inSource !== option) {
    throw check.invalid("option revision", option, `another revision than the source's own, ${check.shown(inSource)}: give one of both`);
  }
  return option ?? inSource ?? "main";
}

/** What git allows as a name, and a commit. */
function isRevision(name: string): boolean {
  const steps = name.split("/");
  return name.length <= MOST.revision && !/[\p{Cc}\s~^:?*[\\]|\.\.|@\{/u.test(name) && steps.every((step) => step !== "" && step !== ".");
}

function hubsOf(given: HubOptions["hubs"]): string[] {
  if (given === undefined) return [PUBLIC_HUB];
  if (given.length === 0 || given.length > MOST.hubs) {
    throw new EmberglassError("invalid-option", `option hubs has ${given.length} addresses: give 1 to ${MOST.hubs}`, { detail: "hubs" });
  }
  return given.map((hub, i) => {
    const address = new URL(check.absolute(String(hub), `option hubs[${i}]`));
    const bad = (what: string) => check.invalid(`option hubs[${i}]`, address.origin, what);
    if (!/^https?:$/.test(address.protocol)) throw bad("not an http or https address");
    if (address.username !== "" || address.password !== "") throw bad("an address with a user name: use option accessToken");
    if (address.search !== "" || address.hash !== "") throw bad("an address with a query or a fragment: give the hub's own, without them");
    return address.origin + address.pathname.replace(/\/+$/, "");
  });
}

/** The token is in no message. */
function tokenOf(token: string | undefined, hubs: string[]): string | undefined {
  if (token === undefined) return undefined;
  const bad = (what: string) => new EmberglassError("invalid-option", `option accessToken ${what}`, { detail: "accessToken" });
  if (!/^[\x21-\x7e]+$/.test(token)) throw bad("is empty, or has a space or another character that no token has");
  if (token.length > MOST.token) throw bad(`is longer than ${MOST.token} characters`);
  const open = hubs.find((hub) => new URL(hub).protocol === "http:" && !isLocal(new URL(hub).hostname));
  if (open !== undefined) throw bad(`would be sent to ${open} without encryption: use an https address`);
  return token;
}

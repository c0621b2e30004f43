// Why a worker's script did not start. The browser's error event says nothing of a script that did not arrive, so this
// looks at the policy that was violated, and at what the server answers now.
import { networkFaults, type FaultScope } from "./network-fault.js";

interface PolicyViolation {
  readonly blockedURI: string;
  readonly effectiveDirective: string;
  readonly disposition: "enforce" | "report";
}

let explain: ReturnType<typeof networkFaults> | undefined;
let violation: PolicyViolation | undefined;

/** Watches the policies of this page or worker from the first call on. Call it before a worker is made. */
export function watchPolicy(): void {
  violation = undefined;
  if (explain) return;
  explain = networkFaults(globalThis as unknown as FaultScope);
  globalThis.addEventListener?.("securitypolicyviolation", (event) => {
    const found = event as unknown as PolicyViolation;
    if (found.disposition === "enforce" && /^(worker|child|script)-src/.test(found.effectiveDirective)) violation = found;
  });
}

/**
 * A phrase that names the address and the cause.
 *
 * @param failure What was thrown, or the worker's `error` event.
 */
export async function whyNoScript(url: URL, failure: unknown): Promise<string> {
  const forbidden = await whyForbidden();
  if (forbidden) return `the worker's script at ${shown(url)} is refused: ${forbidden}`;
  const message = messageOf(failure);
  // A script that arrived and threw has a message. A browser gives none of a script that did not arrive.
  if (message) return `the worker's script at ${shown(url)} failed: ${message}`;
  return `the worker's script did not come from ${shown(url)}: ${await whatIsThere(url.href)}`;
}

/** What a Content-Security-Policy lacks, if the last worker violated one. */
export async function whyForbidden(): Promise<string | undefined> {
  // The event comes with a task of its own.
  await new Promise((resolve) => setTimeout(resolve, 0));
  if (!violation) return undefined;
  return `this page's Content-Security-Policy forbids it: add ${sourceOf(violation)} to its ${violation.effectiveDirective}`;
}

/** The blocked address as a policy names it. */
function sourceOf({ blockedURI }: PolicyViolation): string {
  const scheme = /^(blob|data)\b/.exec(blockedURI)?.[0];
  if (scheme) return `${scheme}:`;
  const origin = /^https?:\/\/[^/]+/.exec(blockedURI)?.[0];
  return origin === undefined || origin === location.origin ? "'self'" : origin;
}

/** The text of what was thrown, or of an `error` event. */
export function messageOf(failure: unknown): string {
  const { message } = (failure ?? {}) as { message?: unknown };
  return typeof message === "string" ? message : "";
}

async function whatIsThere(href: string): Promise<string> {
  let response: Response;
  try {
    response = await fetch(href);
  } catch {
    return (await explain?.(href))?.reason ?? "it cannot be fetched";
  }
  // Only the head is wanted.
  void response.body?.cancel().catch(() => {});
  if (!response.ok) return `the server answers with status ${response.status}`;
  const type = response.headers.get("content-type") ?? "";
  if (!/(java|ecma)script/.test(type)) return `the server sends ${type === "" ? "no content-type" : type}, not JavaScript: the file is probably not there`;
  if (globalThis.crossOriginIsolated && !response.headers.has("cross-origin-embedder-policy")) {
    return "the page is cross-origin isolated, so this file needs the header Cross-Origin-Embedder-Policy, too";
  }
  return "the browser does not say why";
}

/** Without query and password, which may be secret. A data: address is long. */
function shown({ protocol, origin, pathname }: URL): string {
  if (protocol === "data:") return "a data: address";
  return origin === "null" ? `${protocol}${pathname}` : origin + pathname;
}

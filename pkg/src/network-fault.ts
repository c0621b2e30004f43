// Why `fetch` rejected. The rejection itself says nothing, so that a page cannot spy on other servers; what a browser
// does tell is put together here: a violated policy, the network's state, and whether the server answers at all.

/** What is known of a request that failed before any answer. */
export interface NetworkFault {
  /**
   * `lost` may succeed later, `offline` when the network is back. The server refuses with `cors`, the browser with
   * `blocked`: asking again cannot help.
   */
  kind: "lost" | "offline" | "cors" | "blocked";
  /** A phrase for the message of the error. */
  reason: string;
}

/** The part of `WorkerGlobalScope` that is used. */
export interface FaultScope {
  readonly location: { readonly href: string; readonly origin: string; readonly protocol: string };
  readonly navigator: { readonly onLine: boolean };
  readonly crossOriginIsolated: boolean;
  fetch(url: string, init: RequestInit): Promise<{ type: ResponseType }>;
  addEventListener(type: "securitypolicyviolation", listener: (event: PolicyViolation) => void): void;
  /** Not in every browser. */
  readonly ReportingObserver?: new (callback: (reports: readonly object[]) => void, options: { types: string[] }) => { observe(): void };
}

interface PolicyViolation {
  readonly blockedURI: string;
  readonly effectiveDirective: string;
  readonly disposition: "enforce" | "report";
}

/** How long a request that looks for the cause may take. */
const PROBE_MS = 8000;
/** How long after a blocked answer its report may come. */
const REPORT_MS = 300;
/** Policy violations that are remembered: each failed request makes one at most. */
const MOST_VIOLATIONS = 20;

/** Watches the worker's policy, and returns the function that explains why an address could not be fetched. */
export function networkFaults(scope: FaultScope): (url: string) => Promise<NetworkFault> {
  const violations: PolicyViolation[] = [];
  scope.addEventListener("securitypolicyviolation", (violation) => {
    if (violation.disposition !== "enforce") return;
    violations.push(violation);
    if (violations.length > MOST_VIOLATIONS) violations.shift();
  });
  // Answers that a cross-origin isolated worker did not get because they lack Cross-Origin-Resource-Policy.
  const withoutPolicy = new Set<string>();
  const note = (reports: readonly object[]) => {
    // Chromium's reports have the address in their JSON only.
    for (const report of reports) {
      const { body } = JSON.parse(JSON.stringify(report)) as { body?: { blockedURL?: unknown } | null };
      if (typeof body?.blockedURL === "string") withoutPolicy.add(body.blockedURL);
    }
  };
  if (scope.ReportingObserver) new scope.ReportingObserver(note, { types: ["coep"] }).observe();

  return async (url) => {
    const address = new URL(url, scope.location.href);
    const { protocol, origin } = address;
    const foreign = origin !== scope.location.origin;
    if (protocol !== "http:" && protocol !== "https:") return blocked(wrongScheme(protocol));
    // The event comes with a task of its own.
    await new Promise((resolve) => setTimeout(resolve, 0));
    const violation = violations.find(({ blockedURI }) => blockedURI === origin || originOf(blockedURI) === origin);
    if (violation) {
      const remedy = foreign ? `add ${origin} to its` : "the server sends the page on to an address that is not in its";
      return blocked(`this page's Content-Security-Policy forbids it: ${remedy} ${violation.effectiveDirective}`);
    }
    if (scope.location.protocol === "https:" && protocol === "http:" && !isLocal(address.hostname)) {
      return blocked("a page that was loaded over https may not load from http: use an https address");
    }
    if (!scope.navigator.onLine) return { kind: "offline", reason: "this device is offline" };
    let probe = await answers(scope, url, { mode: "no-cors" });
    if (probe === undefined && scope.crossOriginIsolated && scope.ReportingObserver) {
      await new Promise((resolve) => setTimeout(resolve, REPORT_MS));
      if (withoutPolicy.delete(address.href)) probe = "opaque";
    }
    // Only an answer that this page may not read is opaque.
    if (probe === "opaque") {
      const again = await answers(scope, url, {});
      if (again === undefined) {
        const where = foreign ? "the server" : "the server sends the page on to another one, which";
        const reason = `${where} answers, but does not let pages of ${scope.location.origin} read this file (CORS): it would have to send Access-Control-Allow-Origin`;
        return { kind: "cors", reason };
      }
    }
    if (probe !== undefined) {
      return { kind: "lost", reason: "the server answers, but breaks off or sends what the browser cannot read, such as a wrong Content-Encoding" };
    }
    const isolated =
      foreign && scope.crossOriginIsolated && !scope.ReportingObserver
        ? ", or it does not let this page read the file (CORS), which a cross-origin isolated page cannot find out"
        : "";
    return {
      kind: "lost",
      reason: `no connection to ${origin}: the address may be wrong, the server down, or a firewall or an extension in the way${isolated}`,
    };
  };
}

/** The kind of answer to a request, or undefined if none comes. The body is not read. */
async function answers(scope: FaultScope, url: string, init: RequestInit): Promise<ResponseType | undefined> {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), PROBE_MS);
  try {
    const { type } = await scope.fetch(url, { ...init, cache: "no-store", signal: controller.signal });
    return type;
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
    controller.abort();
  }
}

function blocked(reason: string): NetworkFault {
  return { kind: "blocked", reason };
}

function wrongScheme(protocol: string): string {
  if (protocol === "blob:") return "there is no such blob: it was revoked, or it belongs to another page";
  if (protocol === "data:") return "the data: address cannot be decoded";
  return `browsers do not load from ${protocol} addresses: give an https address, a File or a Blob`;
}

/** What is sent there stays on this device. */
export function isLocal(hostname: string): boolean {
  return hostname === "localhost" || hostname.endsWith(".localhost") || hostname === "[::1]" || /^127\./.test(hostname);
}

function originOf(uri: string): string | undefined {
  try {
    return new URL(uri).origin;
  } catch {
    // Some violations name no address but a word such as "inline".
    return undefined;
  }
}

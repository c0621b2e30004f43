import assert from "node:assert/strict";
import { test } from "node:test";
import { type FaultScope, networkFaults } from "../src/network-fault.js";

/** What a browser answers to the request of a mode: the type of the response, or nothing. */
type Browser = (url: string, init: RequestInit) => ResponseType | undefined;

/** Explains why `url` could not be fetched by the page https://page.test. */
async function explain(
  url: string,
  { answers = () => undefined, online = true, isolated = false, page = "https://page.test", violation }: {
    answers?: Browser;
    online?: boolean;
    /** The browser blocks what lacks Cross-Origin-Resource-Policy; some report it. */
    isolated?: boolean | "reports";
    page?: string;
    violation?: { blockedURI: string; disposition?: "enforce" | "report" };
  } = {},
) {
  const requests: string[] = [];
  let listener: (event: any) => void = () => {};
  const { href, origin, protocol } = new URL(page);
  let report: (reports: { toJSON(): unknown }[]) => void = () => {};
  class ReportingObserver {
    constructor(callback: typeof report, { types }: { types: string[] }) {
      assert.deepEqual(types, ["coep"]);
      report = callback;
    }
    observe(): void {}
  }
  const scope: FaultScope = {
    location: { href, origin, protocol },
    navigator: { onLine: online },
    crossOriginIsolated: isolated !== false,
    ...(isolated === "reports" ? { ReportingObserver } : {}),
    addEventListener: (_type, added) => (listener = added),
    fetch: async (asked, init) => {
      requests.push(init.mode ?? "cors");
      const type = answers(asked, init);
      const blocked = type === "opaque" && isolated !== false;
      if (blocked) setTimeout(() => report([{ toJSON: () => ({ type: "coep", body: { blockedURL: asked } }) }]), 20);
      if (blocked || type === undefined) throw new TypeError("Failed to fetch");
      return { type };
    },
  };
  const find = networkFaults(scope);
  // As in a browser, it comes after the rejection.
  if (violation) setTimeout(() => listener({ effectiveDirective: "connect-src", disposition: "enforce", ...violation }), 0);
  return { ...(await find(url)), requests };
}

test("CORS: the server answers, but not to this page", async () => {
  const answers: Browser = (_url, { mode }) => (mode === "no-cors" ? "opaque" : undefined);
  const foreign = await explain("https://cdn.test/m.gguf", { answers });
  assert.equal(foreign.kind, "cors");
  assert.match(foreign.reason, /^the server answers, but does not let pages of https:\/\/page\.test .*CORS.*Access-Control-Allow-Origin/);
  assert.deepEqual(foreign.requests, ["no-cors", "cors"]);
  // A redirect of this page's own server to another one.
  const redirected = await explain("https://page.test/m.gguf", { answers });
  assert.equal(redirected.kind, "cors");
  assert.match(redirected.reason, /sends the page on to another one, which answers, but/);
});

test("CORS in a cross-origin isolated page, which gets no opaque answer either", async () => {
  const answers: Browser = (_url, { mode }) => (mode === "no-cors" ? "opaque" : undefined);
  const reported = await explain("https://cdn.test/m.gguf", { answers, isolated: "reports" });
  assert.equal(reported.kind, "cors");
  assert.match(reported.reason, /CORS/);
  // Without a report the cause stays open, and is said to.
  const unreported = await explain("https://cdn.test/m.gguf", { answers, isolated: true });
  assert.equal(unreported.kind, "lost");
  assert.match(unreported.reason, /CORS.*isolated page cannot find out/);
  // A report would have come.
  const lost = await explain("https://cdn.test/m.gguf", { isolated: "reports" });
  assert.equal(lost.kind, "lost");
  assert.doesNotMatch(lost.reason, /CORS/);
});

test("a failure that was over by the second request is no refusal", async () => {
  const { kind } = await explain("https://cdn.test/m.gguf", { answers: (_url, { mode }) => (mode === "no-cors" ? "opaque" : "cors") });
  assert.equal(kind, "lost");
  assert.equal((await explain("https://page.test/m.gguf", { answers: () => "basic" })).kind, "lost");
});

test("a server that does not answer at all may answer later", async () => {
  const { kind, reason, requests } = await explain("https://cdn.test/m.gguf");
  assert.equal(kind, "lost");
  assert.match(reason, /no connection to https:\/\/cdn\.test/);
  assert.doesNotMatch(reason, /CORS/);
  assert.deepEqual(requests, ["no-cors"]);
});

test("offline is told without a request", async () => {
  const { kind, requests } = await explain("https://cdn.test/m.gguf", { online: false });
  assert.equal(kind, "offline");
  assert.deepEqual(requests, []);
});

test("the page's own policy forbids it", async () => {
  for (const blockedURI of ["https://cdn.test/m.gguf", "https://cdn.test"]) {
    const { kind, reason, requests } = await explain("https://cdn.test/m.gguf", { violation: { blockedURI } });
    assert.equal(kind, "blocked");
    assert.match(reason, /Content-Security-Policy forbids it: add https:\/\/cdn\.test to its connect-src/);
    assert.deepEqual(requests, []);
  }
  // Of another address, or only reported.
  for (const violation of [{ blockedURI: "inline" }, { blockedURI: "https://x.test" }, { blockedURI: "https://cdn.test", disposition: "report" as const }]) {
    assert.equal((await explain("https://cdn.test/m.gguf", { violation })).kind, "lost");
  }
});

test("mixed content", async () => {
  assert.match((await explain("http://cdn.test/m.gguf")).reason, /over https may not load from http/);
  // This machine is trusted, and a page on http may load from http.
  for (const url of ["http://localhost:8080/m", "http://127.0.0.1/m", "http://[::1]/m"]) assert.equal((await explain(url)).kind, "lost");
  assert.equal((await explain("http://cdn.test/m.gguf", { page: "http://page.test" })).kind, "lost");
});

test("schemes that browsers do not load", async () => {
  for (const [url, expected] of [
    ["hf:owner/repo/m.gguf", /from hf: addresses/],
    ["ftp://x.test/m.gguf", /from ftp: addresses/],
    ["file:///m.gguf", /from file: addresses/],
    ["blob:https://page.test/1-2", /no such blob/],
    ["data:,x", /data: address/],
  ] as const) {
    const { kind, reason, requests } = await explain(url);
    assert.equal(kind, "blocked");
    assert.match(reason, expected);
    assert.deepEqual(requests, []);
  }
});

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { hubModel, type HubOptions } from "../src/hub-source.js";
import type { WireError } from "../src/errors.js";
import type { NetworkOptions } from "../src/types.js";
import { findFiles, type ModelFile } from "../src/sources/find-files.js";
import { settle } from "./harness.js";

const A = "https://a.test";
const B = "https://b.test/hub";
const SHA = "ab".repeat(32);
const entry = (path: string, more: object = {}) => ({ type: "file", oid: "0".repeat(40), size: 5, path, lfs: { oid: SHA, size: 5, pointerSize: 134 }, ...more });
const json = (value: unknown, init?: ResponseInit) => new Response(JSON.stringify(value), init);

type Answer = (url: string, init: RequestInit) => Response | Promise<Response>;

interface Case {
  hubs?: string[];
  options?: HubOptions;
  limits?: NetworkOptions;
  sha256?: string[];
  signal?: AbortSignal;
  explain?: "lost" | "cors" | "offline";
}

/** What is found of `source`, with every request and wait on the way. */
function find(source: string, answer: Answer, { hubs = [A], options = {}, limits = {}, sha256, signal, explain = "lost" }: Case = {}) {
  const requests: { url: string; headers: Record<string, string> }[] = [];
  const waits: string[] = [];
  const files = findFiles({ hub: hubModel(source, "source", { hubs, ...options }) }, sha256 ? { sha256 } : {}, {
    fetch: async (url, init) => {
      requests.push({ url, headers: init.headers as Record<string, string> });
      return answer(url, init);
    },
    explain: async () => ({ kind: explain, reason: `it was ${explain}` }),
    limits,
    onWait: (reason) => waits.push(reason),
    signal: signal ?? new AbortController().signal,
  });
  return { files, requests, waits };
}

async function fails(finding: { files: Promise<ModelFile[]> }, code: string, words: RegExp): Promise<WireError> {
  const error = await finding.files.then(
    () => assert.fail("found"),
    (thrown: WireError) => thrown,
  );
  assert.equal(error.code, code, error.message);
  assert.match(error.message, words);
  return error;
}

/** Timers that go off at once, each after all that was under way. */
function hurry(t: TestContext): void {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const turn = setInterval(() => t.mock.timers.tick(60_000), 1);
  t.after(() => clearInterval(turn));
}

/** Does not come before the request is aborted. */
const silence: Answer = (_url, { signal }) =>
  new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason as Error)));

test("the listing gives address, digest and size", async () => {
  const finding = find("hf:o/r@refs%2Fpr%2F1/a b/m#1.gguf", () => json([entry("a b/m#1.gguf"), { type: "directory", path: "a b", size: 0 }]));
  assert.deepEqual(await finding.files, [{ addresses: [`${A}/o/r/resolve/refs%2Fpr%2F1/a%20b/m%231.gguf`], bytes: 5, sha256: SHA }]);
  assert.deepEqual(finding.requests, [{ url: `${A}/api/models/o/r/tree/refs%2Fpr%2F1?recursive=true`, headers: {} }]);
  // Small files are no LFS objects, and have no SHA-256.
  const small = find("hf:o/r/config.json", () => json([{ type: "file", path: "config.json", size: 7, oid: "0".repeat(40) }]));
  assert.deepEqual(await small.files, [{ addresses: [`${A}/o/r/resolve/main/config.json`], bytes: 7 }]);
});

test("pages are followed to the last, on the hub alone", async () => {
  const next = (page: number, to = A) => ({ headers: { link: `<${to}/api/models/o/r/tree/main?recursive=true&cursor=${page}>; rel="next"` } });
  const paged: Answer = (url) => (url.endsWith("=2") ? json([entry("m-Q4_K_M.gguf")]) : url.endsWith("=1") ? json([entry("b")], next(2)) : json([entry("a")], next(1)));
  const finding = find("hf:o/r", paged, { options: { accessToken: "secret" } });
  const [file] = await finding.files;
  assert.deepEqual(file, { addresses: [`${A}/o/r/resolve/main/m-Q4_K_M.gguf`], headers: { Authorization: "Bearer secret" }, bytes: 5, sha256: SHA });
  assert.equal(finding.requests.length, 3);
  assert.ok(finding.requests.every(({ headers }) => headers["Authorization"] === "Bearer secret"));
  const stray = find("hf:o/r", () => json([], next(1, "https://evil.test")), { options: { accessToken: "secret" } });
  const { message } = await fails(stray, "network", /goes on at another server, https:\/\/evil\.test/);
  assert.doesNotMatch(message, /secret/);
  assert.equal(stray.requests.length, 1);
  await fails(find("hf:o/r", () => json([entry("a")], next(1))), "network", /more than 50 pages/);
});

test("what is no listing is refused", async () => {
  const wrong: [string, RegExp][] = [
    ["<html>", /no JSON/],
    ["{}", /no array/],
    ["[null]", /no type or no path/],
    ['[{"type":"file"}]', /no type or no path/],
    [JSON.stringify([entry("m", { size: -1 })]), /m has no size/],
    [JSON.stringify([entry("m", { size: "5" })]), /m has no size/],
    [JSON.stringify([entry("m", { size: 2 ** 60 })]), /m has no size/],
    [JSON.stringify([entry("m", { lfs: { oid: "xyz", size: 5 } })]), /m has no SHA-256/],
    [JSON.stringify([entry("m", { lfs: 5 })]), /m has no SHA-256/],
    [JSON.stringify([entry("m", { lfs: { oid: SHA, size: 6 } })]), /m has two sizes/],
    [JSON.stringify([entry("x".repeat(8 << 20))]), /more than 8388608 bytes/],
  ];
  for (const [body, words] of wrong) {
    const error = await fails(find("hf:o/r", () => new Response(body)), "network", words);
    assert.deepEqual([error.detail, error.url], ["wrong-answer", A]);
  }
  // Paths that no source can name are passed over: such files exist.
  const odd = ["Icon\r", "../m-Q4_K_M.gguf", "a//m-Q4_K_M.gguf", "a\\m-Q4_K_M.gguf", "x".repeat(1001)].map((path) => entry(path));
  assert.equal((await find("hf:o/r", () => json([...odd, entry("m-Q4_K_M.gguf")])).files).length, 1);
});

test("a status says what to do", async () => {
  const say = (status: number, code: string | undefined, options: HubOptions = {}) =>
    find("hf:o/r", () => new Response("", { status, headers: code === undefined ? {} : { "x-error-code": code } }), { options });
  const gated = await fails(say(401, "GatedRepo"), "http-status", /the model is gated: ask for access at https:\/\/a\.test\/o\/r, and give .* accessToken/);
  assert.deepEqual([gated.status, gated.detail, gated.url], [401, "gated", `${A}/api/models/o/r/tree/main`]);
  await fails(say(403, "GatedRepo", { accessToken: "secret" }), "http-status", /accessToken does not open it: ask for access/);
  await fails(say(401, undefined), "http-status", /does not exist, or it is private or gated/);
  await fails(say(404, "RevisionNotFound"), "http-status", /no such revision/);
  await fails(say(404, undefined), "http-status", /does not exist, or it is private/);
  await fails(say(400, undefined), "http-status", /answered 400/);
});

test("a busy or lost hub is asked again, as long as it was allowed", async (t) => {
  hurry(t);
  const listing = [entry("m-Q4_K_M.gguf")];
  let count = 0;
  const busyOnce: Answer = () => (count++ === 0 ? new Response("", { status: 429, headers: { "retry-after": "30" } }) : json(listing));
  const waited = find("hf:o/r", busyOnce);
  assert.equal((await waited.files).length, 1);
  assert.match(waited.waits.join(), /^the server answered 429/);
  // Sixty seconds do not fit into ten.
  const tooLong = find("hf:o/r", () => new Response("", { status: 429, headers: { "retry-after": "60" } }), { limits: { retryTimeoutMs: 10_000 } });
  await fails(tooLong, "http-status", /answered 429/);
  assert.equal(tooLong.requests.length, 1);
  const lost = find("hf:o/r", () => Promise.reject(new TypeError("failed")));
  const error = await fails(lost, "network", /it was lost, and 3 retries did not help/);
  assert.deepEqual([error.detail, lost.requests.length], ["lost", 4]);
  const closed = find("hf:o/r", () => Promise.reject(new TypeError("failed")), { explain: "cors" });
  assert.equal((await fails(closed, "network", /it was cors/)).detail, "cors");
  assert.equal(closed.requests.length, 1);
  const once = find("hf:o/r", () => new Response("", { status: 503 }), { limits: { retryTimeoutMs: 0 } });
  await fails(once, "http-status", /answered 503/);
  assert.equal(once.requests.length, 1);
  const silent = find("hf:o/r", silence, { limits: { stallTimeoutMs: 500 } });
  assert.equal((await fails(silent, "network", /sent nothing for 0.5 seconds/)).detail, "stalled");
});

test("cancelling ends a request and a pause", async () => {
  const stop = new AbortController();
  const asking = find("hf:o/r", silence, { signal: stop.signal });
  const pausing = find("hf:o/r", () => new Response("", { status: 503 }), { signal: stop.signal });
  await settle();
  assert.equal(pausing.waits.length, 1);
  stop.abort();
  await fails(asking, "aborted", /./);
  await fails(pausing, "aborted", /./);
});

test("hubs are asked in their order, and the one that answers comes first", async () => {
  const listing = json.bind(undefined, [entry("m-Q4_K_M.gguf")]);
  const second = find("hf:o/r", (url) => (url.startsWith(A) ? new Response("", { status: 404 }) : listing()), { hubs: [A, B] });
  const [file] = await second.files;
  assert.deepEqual(file?.addresses, [`${B}/o/r/resolve/main/m-Q4_K_M.gguf`, `${A}/o/r/resolve/main/m-Q4_K_M.gguf`]);
  const lost = find("hf:o/r", (url) => (url.startsWith(A) ? Promise.reject(new TypeError("failed")) : listing()), { hubs: [A, B] });
  await lost.files;
  assert.deepEqual(lost.waits, []);
  const without = find("hf:o/r:Q8_0", (url) => (url.startsWith(A) ? json([]) : new Response("", { status: 404 })), { hubs: [A, B] });
  await fails(without, "invalid-option", /no hub has hf:o\/r:Q8_0: o\/r has no Q8_0: there are no GGUF models; the server answered 404 for https:\/\/b\.test/);
});

test("the caller's digests are those of the files", async () => {
  const listing: Answer = () => json([entry("m-Q4_K_M.gguf")]);
  assert.equal((await find("hf:o/r", listing, { sha256: [SHA] }).files)[0]?.sha256, SHA);
  const other = "cd".repeat(32);
  await fails(find("hf:o/r", listing, { sha256: [other] }), "wrong-digest", new RegExp(`${SHA} at https://a.test/.*, not ${other}`));
  await fails(find("hf:o/r", listing, { sha256: [SHA, SHA] }), "invalid-option", /sha256 has 2 for a model of 1 file/);
});

// Models by their names on a hub, mirrors and access tokens, in a real browser: what is asked of which server, and what is
// said where nothing can be had. The many forms and names are in pkg/test.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, openPage, PATIENCE, SITE } from "./harness.mjs";
import { hubServer } from "./hub-server.mjs";
import { packageServer } from "./package-server.mjs";
import { tinyModel } from "./tiny-model.mjs";

/** Nothing listens there. */
const NOBODY = "http://localhost:9";
const TOKEN = "hf_tokenOfTheTests";
const tiny = tinyModel();

let hub, other, server, browser, visit, page, expected;

before(async () => {
  const files = { ".gitattributes": Buffer.from("x"), "config.json": Buffer.from("{}"), "tiny-Q8_0.gguf": tiny, "old/tiny-Q2_K.gguf": tiny, "mmproj-Q4_K_M.gguf": Buffer.alloc(5000) };
  const repositories = {
    "owner/tiny-GGUF": { files, revisions: ["main", "refs/pr/1"] },
    "owner/gated-GGUF": { files: { "a b-Q4_K_M.gguf": tiny }, gated: true },
    "owner/private-GGUF": { files: { "m-Q4_K_M.gguf": tiny }, private: true },
  };
  // The other hub is an older copy: it lacks a repository, and has a longer file.
  const longer = tinyModel({ more: [["general.name", "longer"]] });
  const tokens = { [TOKEN]: ["owner/gated-GGUF", "owner/private-GGUF"], hf_another: [] };
  hub = await hubServer({ repositories, tokens, pageSize: 4 });
  other = await hubServer({ repositories: { "owner/tiny-GGUF": { files: { "tiny-Q8_0.gguf": tiny, "other-Q2_K.gguf": longer } } } });
  server = await packageServer(SITE);
  browser = await launch();
  visit = await openPage(browser, { site: server.site, path: "/package/" });
  ({ page } = visit);
  expected = (await load("/package/tiny.gguf")).text;
  assert.ok(expected.length > 0);
});
after(async () => {
  await browser?.close();
  await Promise.all([server?.close(), hub?.close(), other?.close()]);
});

/** Loads and answers; or the error. */
async function load(source, options = {}, in_ = page) {
  for (const { log } of [hub, other]) log.length = 0;
  const outcome = await in_.evaluate(
    async ({ source, options }) => {
      const waits = [];
      const onProgress = ({ waiting }) => waiting !== undefined && waits.push(waiting);
      try {
        const model = await emberglass.loadTextModel(source, { device: "cpu", threads: 1, contextLength: 64, storage: "none", onProgress, ...options });
        const { text } = await model.generate("a", { temperature: 0, maxTokens: 8 }).result;
        await model.dispose();
        return { text, waits };
      } catch (error) {
        const { code, message, url, status, detail } = error;
        return { code, message, url, status, detail, waits };
      }
    },
    { source, options },
  );
  return outcome;
}

/** From the hub, unless `hubs` says otherwise. It answers as the file beside the page does. */
async function loads(source, options = {}) {
  const outcome = await load(source, fromHub(source, options));
  assert.equal(outcome.text, expected, `${JSON.stringify(source)}: ${outcome.code}: ${outcome.message}`);
  return outcome;
}

async function fails(source, code, words, options = {}) {
  const outcome = await load(source, fromHub(source, options));
  assert.equal(outcome.code, code, `${JSON.stringify(source)}: ${outcome.message ?? "it loads"}`);
  assert.match(outcome.message, words);
  assert.doesNotMatch(JSON.stringify(outcome), /tokenOfTheTests|secret/);
  return outcome;
}

const fromHub = (source, options) => (String(source).startsWith("hf:") ? { hubs: [hub.origin], ...options } : options);
const asked = ({ log }) => log.map(({ to, range }) => (range === undefined ? to : `${to} ${range}`));
const file = ({ origin }, path) => `${origin}/owner/tiny-GGUF/resolve/main/${path}`;

test("a repository, a quantization, a path and a revision name the file", { timeout: PATIENCE }, async () => {
  await loads("hf:owner/tiny-GGUF");
  // The listing has two pages.
  assert.deepEqual(asked(hub), ["api", "api", "resolve", "store"]);
  assert.match(hub.log[0].url, /^\/api\/models\/owner\/tiny-GGUF\/tree\/main\?recursive=true$/);
  assert.equal(hub.log[2].url, "/owner/tiny-GGUF/resolve/main/tiny-Q8_0.gguf");
  await loads("hf:owner/tiny-GGUF:q2_k");
  assert.equal(hub.log[2].url, "/owner/tiny-GGUF/resolve/main/old/tiny-Q2_K.gguf");
  await loads("hf://owner/tiny-GGUF@refs%2Fpr%2F1/old/tiny-Q2_K.gguf");
  assert.equal(hub.log[2].url, "/owner/tiny-GGUF/resolve/refs%2Fpr%2F1/old/tiny-Q2_K.gguf");
  await loads("hf:owner/tiny-GGUF", { revision: "refs/pr/1" });
});

test("the public hub is the default, and the address of its page about a file is that of the file", { timeout: PATIENCE }, async () => {
  const requests = [];
  // Firefox's requests change once one is intercepted, in all pages.
  const browser = await launch();
  const visit = await openPage(browser, { site: server.site, path: "/package/" });
  await visit.page.context().route("https://huggingface.co/**", async (route) => {
    const url = new URL(route.request().url());
    requests.push(url.href);
    await route.fulfill({ response: await route.fetch({ url: hub.origin + url.pathname + url.search }) });
  });
  const { text } = await load("https://huggingface.co/owner/tiny-GGUF/blob/main/tiny-Q8_0.gguf?show=1", {}, visit.page);
  assert.equal(text, expected);
  assert.equal((await load("hf:owner/tiny-GGUF:Q2_K", {}, visit.page)).code, "network");
  // The next page of this listing is on another origin, that of the test's hub.
  assert.deepEqual(requests, [
    "https://huggingface.co/owner/tiny-GGUF/resolve/main/tiny-Q8_0.gguf",
    "https://huggingface.co/api/models/owner/tiny-GGUF/tree/main?recursive=true",
  ]);
  await browser.close();
});

test("the size of a download is that of the hub's listing, where the server of the file hides it", { timeout: PATIENCE }, async () => {
  const outcome = await page.evaluate(async (origin) => {
    const totals = new Set();
    const onProgress = ({ loadedBytes, totalBytes }) => loadedBytes > 0 && totals.add(totalBytes);
    const { id, bytes } = await emberglass.models.download("hf:owner/tiny-GGUF", { hubs: [origin], onProgress });
    await emberglass.models.delete(id);
    return { totals: [...totals], bytes };
  }, hub.origin);
  assert.deepEqual(outcome, { totals: [tiny.length], bytes: tiny.length });
});

test("what is not there is told with what is", { timeout: PATIENCE }, async () => {
  await fails("hf:owner/tiny-GGUF:Q5_K_M", "invalid-option", /has no Q5_K_M: there are Q2_K, Q8_0$/);
  await fails("hf:owner/tiny-GGUF/x.gguf", "invalid-option", /has no file x\.gguf at main: there are mmproj-Q4_K_M\.gguf, old\/tiny-Q2_K\.gguf, tiny-Q8_0\.gguf|there are tiny-Q8_0\.gguf/);
  await fails("hf:owner/tiny-GGUF", "http-status", /answered 404 for .*no such revision/, { revision: "v9" });
  const missing = await fails("hf:owner/none", "http-status", /answered 401 for .*it does not exist, or it is private or gated: ask for access at http:\/\/localhost:\d+\/owner\/none/);
  assert.equal(missing.status, 401);
  assert.deepEqual(asked(hub), ["api"]);
});

test("a gated model takes a token, which goes to the hub alone", { timeout: PATIENCE }, async () => {
  const gated = await fails("hf:owner/gated-GGUF", "http-status", /answered 401 for .*the model is gated: ask for access at http:\/\/localhost:\d+\/owner\/gated-GGUF, and give/);
  assert.deepEqual([gated.status, gated.detail], [401, "gated"]);
  assert.match(gated.url, /\/owner\/gated-GGUF\/resolve\/main\/a%20b-Q4_K_M\.gguf$/);
  await fails("hf:owner/gated-GGUF", "http-status", /answered 403 for .*accessToken does not open it/, { accessToken: "hf_another" });
  await fails("hf:owner/private-GGUF", "http-status", /answered 404 for .*or it is private/, { accessToken: "hf_another" });

  hub.line.breaks.push(100_000);
  await loads("hf:owner/gated-GGUF", { accessToken: TOKEN });
  assert.deepEqual(asked(hub).map((one) => one.split(" ")[0]), ["api", "resolve", "store", "resolve", "store"]);
  assert.match(hub.log.at(-1).range, /^bytes=[1-9]\d*-$/);
  for (const { to, authorization } of hub.log) assert.equal(authorization, to === "store" ? undefined : `Bearer ${TOKEN}`, to);
  await loads("hf:owner/private-GGUF", { accessToken: TOKEN });
  await fails(`${hub.origin}/owner/gated-GGUF/resolve/main/a%20b-Q4_K_M.gguf`, "http-status", /the model is gated/);
});

test("limits of requests are waited for", { timeout: PATIENCE }, async () => {
  const busy = { status: 429, headers: { "retry-after": "1" } };
  // The hub hides Retry-After from pages.
  for (const alsoExposed of ["", ",Retry-After"]) {
    hub.line.alsoExposed = alsoExposed;
    hub.line.api.push(busy, { status: 503, headers: {} });
    hub.line.resolve.push(busy);
    const { waits } = await loads("hf:owner/tiny-GGUF");
    assert.deepEqual(asked(hub), ["api", "api", "api", "api", "resolve", "resolve", "store"]);
    assert.equal(waits.length, 3);
    assert.match(waits[0], /answered 429/);
  }
  hub.line.api.push({ status: 429, headers: { "retry-after": "100" } });
  const { status, waits } = await fails("hf:owner/tiny-GGUF", "http-status", /answered 429/, { retryTimeoutMs: 50_000 });
  assert.deepEqual([status, waits], [429, []]);
  hub.line.alsoExposed = "";
});

test("mirrors are asked in their order, and the next goes on where one breaks off", { timeout: PATIENCE }, async () => {
  const mirrors = [`${NOBODY}/tiny.gguf`, file(hub, "none.gguf"), file(hub, "tiny-Q8_0.gguf"), file(other, "tiny-Q8_0.gguf")];
  hub.line.breaks.push(100_000);
  const { waits } = await loads({ mirrors });
  assert.equal(waits.length, 1);
  assert.deepEqual(asked(hub), ["resolve", "resolve", "store"]);
  // What came of the first stays.
  assert.match(asked(other).join(), /^resolve bytes=[1-9]\d*-,store bytes=[1-9]\d*-$/);
});

test("a mirror with another file is passed over, and without another the load fails", { timeout: PATIENCE }, async () => {
  hub.line.breaks.push(100_000);
  await loads({ mirrors: [file(hub, "tiny-Q8_0.gguf"), file(other, "other-Q2_K.gguf")] });
  assert.deepEqual(asked(other).map((one) => one.split(" ")[0]), ["resolve", "store"]);
  // It breaks off, and all that it says later is 404.
  hub.line.breaks.push(100_000);
  hub.line.resolve.push(undefined, ...new Array(5).fill({ status: 404, headers: {} }));
  const { detail } = await fails({ mirrors: [file(hub, "tiny-Q8_0.gguf"), file(other, "other-Q2_K.gguf")] }, "network", /another file, of \d+ bytes instead of \d+/);
  assert.equal(detail, "wrong-answer");
  hub.line.resolve.length = 0;
});

test("where no mirror gives the file, the error names each with what it said", { timeout: PATIENCE }, async () => {
  const { status } = await fails(
    { mirrors: [file(hub, "none.gguf"), file(other, "none.gguf")] },
    "http-status",
    /^no mirror gives the file: the server answered 404 for http:\/\/localhost:\d+\/owner\/tiny-GGUF\/resolve\/main\/none\.gguf: .*; the server answered 404 for /,
  );
  assert.equal(status, 404);
  const lost = await fails({ mirrors: [`${NOBODY}/tiny.gguf`, file(hub, "none.gguf")] }, "network", /http:\/\/localhost:9\/tiny\.gguf could not be reached; /, { retryTimeoutMs: 600 });
  assert.equal(lost.detail, "lost");
  assert.ok(lost.waits.length > 0);
});

test("several hubs are mirrors of each other", { timeout: PATIENCE }, async () => {
  await loads("hf:owner/tiny-GGUF:Q8_0", { hubs: [NOBODY, other.origin, hub.origin] });
  assert.deepEqual([asked(other), asked(hub)], [["api", "resolve", "store"], []]);
  await loads("hf:owner/tiny-GGUF/old/tiny-Q2_K.gguf", { hubs: [other.origin, hub.origin] });
  assert.deepEqual([asked(other), asked(hub)], [["api"], ["api", "api", "resolve", "store"]]);
  other.line.breaks.push(100_000);
  await loads("hf:owner/tiny-GGUF:Q8_0", { hubs: [other.origin, hub.origin] });
  assert.match(asked(hub).join(), /^resolve bytes=[1-9]\d*-,store bytes=[1-9]\d*-$/);
  await fails("hf:owner/none", "http-status", /^no hub has hf:owner\/none: the server answered 401 .*; the server answered 401/, { hubs: [hub.origin, other.origin] });
});

test("cancelling while the hub is asked", { timeout: PATIENCE }, async () => {
  hub.line.api.push(...new Array(4).fill({ status: 503, headers: {} }));
  const name = await page.evaluate(async (origin) => {
    const stop = new AbortController();
    const onProgress = ({ waiting }) => waiting !== undefined && stop.abort();
    const loading = emberglass.loadTextModel("hf:owner/tiny-GGUF", { hubs: [origin], onProgress, signal: stop.signal });
    return loading.then(() => "loaded", (error) => error.name);
  }, hub.origin);
  assert.equal(name, "AbortError");
  hub.line.api.length = 0;
  assert.deepEqual(visit.complaints.filter((text) => !/Failed to load resource|Access-Control|NetworkError/.test(text)), []);
});

// Loading over a network with faults, in a real browser: what can be mended is, without a wrong byte; all else ends in time
// with an error that names the cause. The many combinations are in tests/files/source.rs, over a scripted transport.
import assert from "node:assert/strict";
import http from "node:http";
import { after, before, test } from "node:test";
import { launch, openPage, PATIENCE, SITE } from "./harness.mjs";
import { packageServer } from "./package-server.mjs";
import { tinyModel } from "./tiny-model.mjs";
import { faultyLine } from "./unreliable-server.mjs";

let elsewhere, foreign, line, server, browser, visit, page, expected;

before(async () => {
  // Another origin: `closed` allows no other page, all else does.
  foreign = faultyLine(tinyModel());
  elsewhere = http.createServer((request, response) => {
    if (request.url.startsWith("/line/closed/")) return response.end("closed");
    response.setHeader("access-control-allow-origin", "*");
    return foreign.answer(request, response);
  });
  await new Promise((resolve) => elsewhere.listen(0, "localhost", resolve));
  line = faultyLine(tinyModel(), origin());
  server = await packageServer(SITE, line);
  browser = await launch();
  visit = await openPage(browser, { site: server.site, path: "/package/" });
  ({ page } = visit);
  expected = (await load("right", { storage: "none" })).text;
  assert.ok(expected.length > 0);
});
after(async () => {
  await browser?.close();
  await server?.close();
  elsewhere?.closeAllConnections();
  elsewhere?.close();
});

const origin = () => `http://localhost:${elsewhere.address().port}`;

/** Loads and answers; or the error. */
async function load(address, options = {}, in_ = page) {
  line.log.length = 0;
  foreign.log.length = 0;
  const outcome = await in_.evaluate(
    async ({ url, options }) => {
      const begun = performance.now();
      const waits = [];
      const onProgress = ({ waiting }) => waiting !== undefined && waits.push(waiting);
      const ended = () => Math.round(performance.now() - begun);
      try {
        const model = await emberglass.loadTextModel(url, { device: "cpu", threads: 1, contextLength: 64, onProgress, ...options });
        const { text } = await model.generate("a", { temperature: 0, maxTokens: 8 }).result;
        await model.dispose();
        return { text, waits, ms: ended() };
      } catch (error) {
        const { code, message, url, status } = error;
        return { code, message, url, status, waits, ms: ended() };
      }
    },
    { url: address.includes(":") ? address : `/line/${address}/m.gguf`, options },
  );
  return { ...outcome, requests: [...line.log], foreign: [...foreign.log] };
}

/** It loads, and answers as it does over a line without faults. */
async function loads(kind, options) {
  const outcome = await load(kind, options);
  assert.equal(outcome.text, expected, `${kind}: ${outcome.code}: ${outcome.message}`);
  return outcome;
}

async function fails(kind, code, words, options, in_) {
  const outcome = await load(kind, options, in_);
  assert.equal(outcome.code, code, `${kind}: ${outcome.message ?? "it loads"}`);
  assert.match(outcome.message, words, kind);
  return outcome;
}

test("the whole file is asked for without a range, as caches need it", { timeout: PATIENCE }, async () => {
  assert.deepEqual((await loads("right")).requests, ["whole"]);
});

test("short answers are followed at once", { timeout: PATIENCE }, async () => {
  for (const [kind, cap] of [["cap64k", 64 << 10], ["cap4k", 4 << 10]]) {
    const { requests, waits } = await loads(kind);
    assert.equal(requests.length, Math.ceil(tinyModel().length / cap));
    assert.deepEqual(waits, []);
  }
});

test("an answer from the first byte on instead of the rest is skipped forward", { timeout: PATIENCE }, async () => {
  for (const kind of ["noranges", "wrongstart"]) {
    const { requests, waits } = await loads(kind);
    assert.deepEqual(requests, ["whole", "bytes=100000-"], kind);
    assert.equal(waits.length, 1);
  }
});

test("broken, busy, encoded and slow lines load in the end", { timeout: PATIENCE }, async () => {
  assert.ok((await loads("breaks")).requests.length >= 4);
  for (const kind of ["busy", "overloaded"]) assert.equal((await loads(kind)).requests.length, 2, kind);
  const silent = await loads("silentonce", { stallTimeoutMs: 500 });
  assert.deepEqual(silent.requests, ["whole", "bytes=100000-"]);
  assert.match(silent.waits[0], /sent nothing for 0.5 seconds/);
  for (const kind of ["gzip", "chunked"]) assert.deepEqual((await loads(kind)).requests, ["whole"], kind);
  // Slow is not silent: the time limit is for each piece.
  const slow = await loads("drip", { stallTimeoutMs: 1500 });
  assert.ok(slow.ms > 1500, `${slow.ms} ms`);
});

test("silent servers are given up in the time that was set", { timeout: PATIENCE }, async () => {
  const silent = await fails("silent", "network", /sent nothing for 0.7 seconds/, { stallTimeoutMs: 700 });
  assert.equal(silent.requests.length, 1);
  // Far from the default of 30 seconds.
  assert.ok(silent.ms < 15_000, `${silent.ms} ms`);
  // The second connection may be better; the third silence in a row is the last.
  const later = await fails("silentbody", "network", /at byte 300: .*sent nothing for 0.7 seconds/, { stallTimeoutMs: 700 });
  assert.deepEqual(later.requests, ["whole", "bytes=100-", "bytes=200-"]);
});

test("wrong answers are errors after few tries or none", { timeout: PATIENCE }, async () => {
  assert.equal((await fails("ahead", "network", /the bytes from 10 on instead of those from 0 on/)).requests.length, 1);
  assert.equal((await fails("garbage", "network", /Content-Range: bytes -5--1\/abc/)).requests.length, 1);
  assert.equal((await fails("changed", "network", /the file changed on the server.*ETag was "1" and is "2"/)).requests.length, 2);
  // On a busy machine the browser may lose all of the first answer with its connection.
  const stuck = await fails("stuck", "network", /asked for the bytes from (?:100|50)000 on, it sent 0 to 50000/, { retryTimeoutMs: 1000 });
  assert.ok(stuck.requests.length <= 4);
  await fails("notgzip", "network", /failed at byte 0/, { retryTimeoutMs: 1000 });
});

test("a server that vanishes is asked again until the time that was set is over", { timeout: PATIENCE }, async () => {
  const { requests, waits } = await fails("vanishes", "network", /at byte 100000: .*3 retries did not help/, { retryTimeoutMs: 2000 });
  // The browser itself asks again where a connection breaks before an answer.
  assert.deepEqual(new Set(requests), new Set(["whole", "bytes=100000-"]));
  assert.equal(waits.length, 3);
  assert.equal((await fails("vanishes", "network", /at byte 100000/, { retryTimeoutMs: 0 })).requests.length, 1);
});

test("a status is told with address and meaning", { timeout: PATIENCE }, async () => {
  const missing = await fails("missing", "http-status", /answered 404 for .*there is no file/);
  assert.equal(missing.requests.length, 1);
  assert.deepEqual([missing.status, missing.url], [404, `${server.site}/line/missing/m.gguf`]);
  assert.equal((await fails("broken", "http-status", /answered 500/, { retryTimeoutMs: 600 })).status, 500);
  const redirected = await fails("lost", "http-status", /answered 404 for .*redirected to http:\/\/localhost:\d+\/line\/missing\/m\.gguf\?…/);
  assert.doesNotMatch(redirected.message, /secret/);
});

test("another origin that lets us read, also by a redirect", { timeout: PATIENCE }, async () => {
  for (const kind of ["right", "chunked"]) assert.deepEqual((await loads(`${origin()}/line/${kind}/m.gguf`)).foreign, ["whole"], kind);
  assert.deepEqual((await loads("redirect")).foreign, ["whole"]);
  // It hides Content-Encoding, and the length that it shows is that of the encoded body.
  assert.deepEqual((await loads(`${origin()}/line/gzip/m.gguf`)).foreign, ["whole"]);
  assert.deepEqual((await loads(`${origin()}/line/noranges/m.gguf`)).foreign, ["whole", "bytes=100000-"]);
});

test("an encoded answer that breaks goes on with the bytes of the file itself", { timeout: PATIENCE }, async () => {
  for (const [address, log] of [["gzipbreaks", "requests"], [`${origin()}/line/gzipbreaks/m.gguf`, "foreign"]]) {
    const { [log]: asked } = await loads(address);
    assert.equal(asked[0], "whole");
    assert.match(asked[1], /^bytes=[1-9]\d*-$/);
    assert.equal(asked.length, 2);
  }
});

test("CORS, a policy and unknown schemes are told from a lost connection, and not retried", { timeout: PATIENCE }, async () => {
  // The page is cross-origin isolated, where even the probe is blocked.
  const closed = `${origin()}/line/closed/m.gguf`;
  assert.deepEqual((await fails(closed, "network", /does not let pages of .* read this file \(CORS\)/)).waits, []);
  assert.deepEqual((await fails("forbidden", "network", /on to another one, which answers, but.*CORS/)).waits, []);
  for (const [address, words] of [["gopher://localhost/m.gguf", /from gopher: addresses/], ["ftp://localhost/m.gguf", /from ftp: addresses/]]) {
    assert.deepEqual((await fails(address, "network", words)).waits, []);
  }
  const nobody = await fails("http://localhost:9/m.gguf", "network", /no connection to http:\/\/localhost:9/, { retryTimeoutMs: 600 });
  assert.ok(nobody.waits.length > 0);
  assert.doesNotMatch(nobody.message, /CORS/);

  const headers = { "content-security-policy": "connect-src 'self'" };
  const strict = await packageServer(SITE, { headers });
  const other = await openPage(browser, { site: strict.site, path: "/package/" });
  const refused = await fails(closed, "network", /Content-Security-Policy forbids it: add http:\/\/localhost:\d+ to its connect-src/, {}, other.page);
  assert.deepEqual(refused.waits, []);
  await other.close();
  await strict.close();
});

test("a page that goes offline waits, tells it, and goes on; a cancel ends the pause at once", { timeout: PATIENCE }, async () => {
  const loading = loads("breakslater");
  while (line.log.length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
  const context = page.context();
  await context.setOffline(true);
  await new Promise((resolve) => setTimeout(resolve, 2500));
  await context.setOffline(false);
  const { waits, requests } = await loading;
  assert.match(waits.join(), /this device is offline/);
  assert.deepEqual(requests, ["whole", "bytes=100000-"]);

  line.log.length = 0;
  const name = await page.evaluate(async () => {
    const controller = new AbortController();
    const onProgress = ({ waiting }) => waiting !== undefined && controller.abort();
    const loading = emberglass.loadTextModel("/line/vanishes/m.gguf", { device: "cpu", threads: 1, onProgress, signal: controller.signal });
    return loading.catch(({ name }) => name);
  });
  assert.equal(name, "AbortError");
  // The first pause would have been over after half a second.
  const { length } = line.log;
  await new Promise((resolve) => setTimeout(resolve, 1500));
  assert.equal(line.log.length, length, "the download goes on after a cancel");
});

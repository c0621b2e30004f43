// Downloaded once, kept and verified, in a real browser over its real storage: downloads are cut at random bytes, stored bytes are
// flipped, tabs load at once. The many combinations are in pkg/test/stored-fetch.test.ts, over a scripted server.
import assert from "node:assert/strict";
import { createHash, randomBytes, randomInt } from "node:crypto";
import { after, before, test } from "node:test";
import { launch, openPage, PATIENCE, SITE } from "./harness.mjs";
import { packageServer } from "./package-server.mjs";
import { splitTinyModel, tinyModel } from "./tiny-model.mjs";

const CHUNK = 4 << 20;
/** Seven chunks. */
const MODEL = tinyModel({ ffn: 16384 });
const OPTIONS = { device: "cpu", threads: 1, contextLength: 64 };

let server, browser, expected;
/** By path. `log` has `{ path, from, to }` of each request, `to` behind the last byte. */
const line = { files: new Map(), log: [], sockets: new Set(), sent: 0, cutAt: Infinity, onCut: () => {}, bytesPerMs: Infinity, isDown: false };

before(async () => {
  line.files.set("/kept/m.gguf", { bytes: MODEL, etag: '"1"' });
  server = await packageServer(SITE, { answer });
  browser = await launch();
  const { page, close } = await tab();
  expected = await page.evaluate(loadAndAsk, { url: "/kept/m.gguf", options: { ...OPTIONS, storage: "none" } });
  assert.ok(expected.text.length > 0);
  assert.equal(expected.storage.kind, "none");
  await close();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** Sends files in pieces, until the connection is cut. */
function answer(request, response) {
  const file = line.files.get(request.url);
  if (!file) return false;
  if (line.isDown) {
    request.socket.destroy();
    return true;
  }
  line.sockets.add(request.socket);
  const { bytes, etag } = file;
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
  const from = Number(first ?? 0);
  const to = last ? Number(last) + 1 : bytes.length;
  line.log.push({ path: request.url, from, to, range: request.headers.range ?? "whole" });
  const headers = { "content-length": to - from, etag, "cache-control": "no-store", "cross-origin-resource-policy": "same-origin" };
  if (first === undefined) response.writeHead(200, headers);
  else response.writeHead(206, { ...headers, "content-range": `bytes ${from}-${to - 1}/${bytes.length}` });
  const piece = 64 << 10;
  let at = from;
  const send = () => {
    if (response.destroyed) return;
    if (at >= to) {
      response.end();
      return;
    }
    line.sent += Math.min(piece, to - at);
    if (line.sent >= line.cutAt) {
      line.cutAt = Infinity;
      line.onCut();
    }
    const pause = Number.isFinite(line.bytesPerMs) ? piece / line.bytesPerMs : 0;
    response.write(bytes.subarray(at, Math.min(at + piece, to)), () => (pause > 0 ? setTimeout(send, pause) : send()));
    at += piece;
  };
  send();
  return true;
}

/** Cuts the line when so many bytes more have been sent. */
function cutAfter(bytes, onCut) {
  Object.assign(line, { sent: 0, cutAt: bytes, onCut });
}

async function tab(context) {
  if (!context) {
    const { page } = await openPage(browser, { site: server.site, path: "/package/" });
    return { page, context: page.context(), close: () => page.context().close() };
  }
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  await page.goto(`${server.site}/package/`);
  await page.waitForFunction(() => window.emberglass !== undefined);
  return { page, context, close: () => page.close() };
}

/** In the page. */
async function loadAndAsk({ url, options }) {
  const model = await emberglass.loadTextModel(url, options);
  const { text } = await model.generate("a", { temperature: 0, maxTokens: 8 }).result;
  const { storage } = model.info;
  await model.dispose();
  return { text, storage };
}

function load(page, options = {}, url = "/kept/m.gguf") {
  return page.evaluate(loadAndAsk, { url, options: { ...OPTIONS, ...options } });
}

/** Byte ranges of the chunks that are stored. */
function stored(page) {
  return page.evaluate(async ({ chunk, bytes }) => {
    const ranges = [];
    const root = await navigator.storage.getDirectory();
    const top = await root.getDirectoryHandle("emberglass", { create: true });
    for await (const folder of top.values()) {
      if (folder.kind !== "directory") continue;
      for await (const file of folder.values()) {
        const [, index] = /^0-(\d+)-[0-9a-f]{64}-[0-9a-f]{8}$/.exec(file.name) ?? [];
        const start = Number(index) * chunk;
        // One that was being written when its tab ended is shorter.
        if (index !== undefined && (await file.getFile()).size === Math.min(chunk, bytes - start)) ranges.push([start, start + chunk]);
      }
    }
    return ranges;
  }, { chunk: CHUNK, bytes: MODEL.length });
}

/** Changes a byte of a stored file. */
function flip(page, at) {
  return page.evaluate(
    async ({ at, chunk }) => {
      const root = await navigator.storage.getDirectory();
      const top = await root.getDirectoryHandle("emberglass");
      for await (const folder of top.values()) {
        if (folder.kind !== "directory") continue;
        for await (const file of folder.values()) {
          if (!file.name.startsWith(`0-${Math.floor(at / chunk)}-`)) continue;
          const place = at % chunk;
          const [byte] = new Uint8Array(await (await file.getFile()).slice(place, place + 1).arrayBuffer());
          const writable = await file.createWritable({ keepExistingData: true });
          await writable.write({ type: "write", position: place, data: Uint8Array.of(byte ^ 16) });
          await writable.close();
          return;
        }
      }
      throw new Error(`byte ${at} is not stored`);
    },
    { at, chunk: CHUNK },
  );
}

const digest = createHash("sha256").update(MODEL).digest("hex");
const DOWNLOAD = ({ url, sha256, retryTimeoutMs }) => emberglass.models.download(url, { sha256, retryTimeoutMs }).then(({ complete }) => complete, ({ code }) => code);

test("downloads that are cut at random bytes go on where they were", { timeout: PATIENCE }, async () => {
  const kills = {
    /** The tab is closed. */
    tab: async (here) => here.page.close(),
    server: async () => {
      line.isDown = true;
      for (const socket of line.sockets) socket.destroy();
    },
    network: async ({ context }) => context.setOffline(true),
  };
  const { context, close } = await tab();
  const keeper = await tab(context);
  for (let n = 0; n < 20; n++) {
    const kind = Object.keys(kills)[n % 3];
    await keeper.page.evaluate(async () => {
      for (const { id } of await emberglass.models.list()) await emberglass.models.delete(id);
    });
    const at = randomInt(1, MODEL.length);
    const named = `${kind} at byte ${at}`;
    const here = await tab(context);
    const isCut = new Promise((resolve) => cutAfter(at, resolve));
    const ending = here.page.evaluate(DOWNLOAD, { url: "/kept/m.gguf", sha256: digest, retryTimeoutMs: 0 }).catch(() => "closed");
    await isCut;
    await kills[kind](here);
    const outcome = await ending;
    // The last bytes may have been on their way.
    if (outcome !== true) assert.ok(["closed", "network"].includes(outcome), `${named}: ${outcome}`);
    await context.setOffline(false);
    line.isDown = false;
    line.log.length = 0;
    const again = await tab(context);
    const before = await stored(again.page);
    assert.equal(await again.page.evaluate(DOWNLOAD, { url: "/kept/m.gguf", sha256: digest, retryTimeoutMs: 0 }), true, named);
    for (const { from, to } of line.log) {
      for (const [start, end] of before) assert.ok(to <= start || from >= end, `${named}: bytes ${from} to ${to} again, of which ${start} to ${end} were stored`);
    }
    if (n < 3) {
      line.isDown = true;
      const { text, storage } = await load(again.page);
      assert.equal(text, expected.text, named);
      assert.equal(storage.networkBytes, 0);
      line.isDown = false;
    }
    await again.close();
    if (!here.page.isClosed()) await here.close();
  }
  await close();
});

test("a whole model loads without the server; flipped bytes are found, named and fetched again", { timeout: PATIENCE }, async () => {
  const { page, close } = await tab();
  line.log.length = 0;
  const first = await load(page, { sha256: digest });
  assert.deepEqual(line.log.map(({ range }) => range), ["whole"]);
  assert.deepEqual([first.text, first.storage.kind, first.storage.networkBytes], [expected.text, "opfs", MODEL.length]);

  line.isDown = true;
  line.log.length = 0;
  const second = await load(page);
  assert.deepEqual([second.text, second.storage.storedBytes, second.storage.reason], [expected.text, MODEL.length, undefined]);
  const byId = await page.evaluate(loadAndAsk, { url: { stored: second.storage.id }, options: OPTIONS });
  assert.equal(byId.text, expected.text);
  assert.deepEqual(line.log, []);
  line.isDown = false;

  for (let round = 0; round < 5; round++) {
    const places = Array.from({ length: 4 }, () => randomInt(MODEL.length));
    const wrong = new Set();
    for (const at of places) {
      // Two changes of one byte would be none.
      if (wrong.has(at)) continue;
      wrong.add(at);
      await flip(page, at);
    }
    line.log.length = 0;
    const { text, storage } = await load(page);
    assert.equal(text, expected.text);
    const chunks = [...new Set(places.map((at) => Math.floor(at / CHUNK)))].sort((a, b) => a - b);
    const from = (index) => index * CHUNK;
    const to = (index) => Math.min(from(index + 1), MODEL.length);
    const repaired = storage.repaired.map((one) => one.from).sort((a, b) => a - b);
    assert.deepEqual(repaired, chunks.map(from), `flipped: ${places}`);
    const asked = line.log.reduce((bytes, one) => bytes + one.to - one.from, 0);
    assert.equal(asked, chunks.reduce((bytes, index) => bytes + to(index) - from(index), 0));
  }
  await close();
});

test("two tabs load at once, and every byte is asked once; a closed one hands over", { timeout: PATIENCE }, async () => {
  const first = await tab();
  const second = await tab(first.context);
  line.log.length = 0;
  const both = await Promise.all([load(first.page), load(second.page)]);
  for (const { text, storage } of both) assert.deepEqual([text, storage.reason], [expected.text, undefined]);
  assert.deepEqual(line.log.map(({ range }) => range), ["whole"]);
  assert.equal(both[0].storage.networkBytes + both[1].storage.networkBytes, MODEL.length);

  await second.page.evaluate(async () => {
    for (const { id } of await emberglass.models.list()) await emberglass.models.delete(id);
  });
  line.log.length = 0;
  line.bytesPerMs = 20_000;
  const isCut = new Promise((resolve) => cutAfter(MODEL.length / 2, resolve));
  const dying = load(first.page).catch(() => {});
  while (line.log.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  const loading = load(second.page);
  await isCut;
  await first.page.close();
  await dying;
  line.bytesPerMs = Infinity;
  const { text, storage } = await loading;
  assert.deepEqual([text, storage.reason], [expected.text, undefined]);
  // The first asked for all; the second for what the first had not stored, from the start of a chunk on.
  assert.equal(line.log[0].range, "whole");
  const later = line.log.slice(1);
  assert.ok(later.length > 0 && later[0].from > 0 && later[0].from % CHUNK === 0, JSON.stringify(later));
  later.slice(1).forEach(({ from }, i) => assert.equal(from, later[i].to));
  await second.context.close();
});

test("another version on the server is noticed, and not mixed with the old one", { timeout: PATIENCE }, async () => {
  const { page, close } = await tab();
  const other = tinyModel({ ffn: 16384, more: [["general.name", "other"]] });
  line.files.set("/kept/changing.gguf", { bytes: MODEL, etag: '"1"' });
  const url = "/kept/changing.gguf";
  cutAfter(MODEL.length / 2, () => {
    line.isDown = true;
    for (const socket of line.sockets) socket.destroy();
  });
  const failed = await load(page, { retryTimeoutMs: 0 }, url).catch(({ message }) => message);
  assert.match(failed, /failed at byte/);
  assert.ok((await stored(page)).length > 0);
  line.isDown = false;
  // It changes between two loads.
  line.files.set(url, { bytes: other, etag: '"2"' });
  const { text, storage } = await load(page, {}, url);
  assert.equal(text, expected.text);
  assert.deepEqual([storage.storedBytes, storage.networkBytes >= other.length], [0, true]);
  // And in the middle of one.
  await page.evaluate((id) => emberglass.models.delete(id), storage.id);
  cutAfter(MODEL.length / 2, () => {
    line.files.set(url, { bytes: MODEL, etag: '"3"' });
    for (const socket of line.sockets) socket.destroy();
  });
  const changed = await page.evaluate(
    ({ url, options }) => emberglass.loadTextModel(url, options).catch(({ code, detail, message }) => ({ code, detail, message })),
    { url, options: OPTIONS },
  );
  assert.deepEqual([changed.code, changed.detail], ["network", "changed"], changed.message);
  assert.deepEqual(await stored(page), []);
  await close();
});

test("a wrong digest is an error, and nothing of the file stays", { timeout: PATIENCE }, async () => {
  const { page, close } = await tab();
  const code = await page.evaluate(
    ({ options }) => emberglass.loadTextModel("/kept/m.gguf", { ...options, sha256: "0".repeat(64) }).catch(({ code }) => code),
    { options: OPTIONS },
  );
  assert.equal(code, "wrong-digest");
  assert.deepEqual(await stored(page), []);
  await close();
});

test("a page that a server in trouble sends is not kept as the model", { timeout: PATIENCE }, async () => {
  const path = "/kept/trouble.gguf";
  const { page, close } = await tab();
  line.files.set(path, { bytes: Buffer.from("<!doctype html><title>Sorry</title>"), etag: '"page"' });
  const refused = (loading) => loading.then(() => assert.fail("it loaded"), ({ message }) => message);
  assert.match(await refused(load(page, {}, path)), /a web page/);
  await page.evaluate((url) => emberglass.models.download(url), path);
  line.files.set(path, { bytes: MODEL, etag: '"1"' });
  // What was kept without a look at it is found to be none, and the next load asks again.
  assert.match(await refused(load(page, {}, path)), /a web page/);
  assert.equal((await load(page, {}, path)).text, expected.text);
  await close();
});

test("a model of more files than the browser has connections", { timeout: PATIENCE }, async () => {
  // Large enough that no answer fits into buffers.
  const files = splitTinyModel({ files: 9 }).map((bytes) => Buffer.concat([bytes, Buffer.alloc(9_000_000, 7)]));
  const shards = files.map((_, i) => `/kept/part-${i}`);
  files.forEach((bytes, i) => line.files.set(shards[i], { bytes, etag: '"1"' }));
  const { page, close } = await tab();
  const first = await load(page, { stallTimeoutMs: 10_000 }, { shards });
  assert.equal(first.storage.reason, undefined);
  const again = await load(page, {}, { shards });
  assert.deepEqual([again.text, again.storage.networkBytes], [first.text, 0]);
  await close();
});

test("how fast: from storage, beside plain reading of the same files", { timeout: PATIENCE }, async () => {
  const { page, close } = await tab();
  const bytes = Buffer.concat(Array(32).fill(randomBytes(CHUNK)));
  line.files.set("/kept/large.bin", { bytes, etag: '"large"' });
  const rates = await page.evaluate(async (mebibytes) => {
    const rate = (ms) => Math.round((mebibytes * 1.048576 * 1000) / ms);
    const timed = async (run) => {
      const begun = performance.now();
      await run();
      return performance.now() - begun;
    };
    /** From the first byte to the last; the engine's start is not in it. */
    const download = async () => {
      let begun;
      const onProgress = ({ loadedBytes }) => loadedBytes > 0 && (begun ??= [performance.now(), loadedBytes]);
      await emberglass.models.download("/kept/large.bin", { onProgress });
      const share = 1 - begun[1] / (mebibytes * 2 ** 20);
      return (performance.now() - begun[0]) / share;
    };
    const plain = async () => {
      const root = await navigator.storage.getDirectory();
      const top = await root.getDirectoryHandle("emberglass");
      let read = 0;
      for await (const folder of top.values()) {
        if (folder.kind !== "directory") continue;
        for await (const file of folder.values()) read += (await (await file.getFile()).arrayBuffer()).byteLength;
      }
      if (read < mebibytes * 2 ** 20) throw new Error(`${read} bytes are stored`);
    };
    const digests = async () => {
      const chunk = new Uint8Array(4 << 20);
      for (let i = 0; i < mebibytes / 4; i++) await crypto.subtle.digest("SHA-256", chunk);
    };
    const first = rate(await download());
    const again = [await download(), await download(), await download()].map(rate);
    return { first, again, plain: [await timed(plain), await timed(plain), await timed(plain)].map(rate), digests: rate(await timed(digests)) };
  }, bytes.length / 2 ** 20);
  console.log(`MB/s: download and store ${rates.first}; from storage ${rates.again}; plain reading ${rates.plain}; SHA-256 alone ${rates.digests}`);
  line.files.delete("/kept/large.bin");
  await close();
});

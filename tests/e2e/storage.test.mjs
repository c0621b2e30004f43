// Stored models in Chromium: kept in both kinds of store, listed, checked, mended, exported and deleted, whatever was done to them
// behind our back.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { launch, openPage, PATIENCE, SITE } from "./harness.mjs";
import { packageServer } from "./package-server.mjs";
import { tinyModel } from "./tiny-model.mjs";

const CHUNK = 4 * 2 ** 20;
const SCRIPT = new URL("../../pkg/dist/emberglass-worker.js", import.meta.url);

/** What a worker finds in place of a browser that has all: as in Firefox's private windows, and on a page without https. */
const REFUSALS = {
  opfs: "",
  cache: `navigator.storage.getDirectory = () => Promise.reject(new DOMException("refused", "SecurityError"));`,
  none: `navigator.storage.getDirectory = undefined; delete self.caches; delete WorkerGlobalScope.prototype.caches;
    Object.defineProperty(self, "caches", { value: undefined });`,
  // Chromium tells the same room whatever the quota is, so the true estimate of a full disk is made up.
  full: `navigator.storage.estimate = async () => ({ usage: 2e6, quota: 6e6 });`,
  // The way of writing of Chromium's SharedWorker.
  writable: `delete FileSystemFileHandle.prototype.createSyncAccessHandle;`,
};

let server, browser;

before(async () => {
  server = await packageServer(SITE, { answer: (request, response) => refusingWorker(request, response) || largeFile(request, response) });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** The worker's script at `/worker/KIND/`, which is refused something. */
function refusingWorker({ url }, response) {
  const kind = /^\/worker\/(\w+)\//.exec(url)?.[1];
  if (!(kind in REFUSALS)) return false;
  readFile(SCRIPT, "utf8").then((script) => {
    const headers = { "content-type": "text/javascript", "cross-origin-embedder-policy": "require-corp" };
    response.writeHead(200, headers).end(REFUSALS[kind] + script);
  });
  return true;
}

/** 20 MB that are no model: nobody looks at them. */
function largeFile({ url, headers }, response) {
  if (url !== "/large.gguf") return false;
  const bytes = Buffer.alloc(20_000_000, "0123456789abcdefghijklmnopqrstuvwxyz");
  const [, from] = /^bytes=(\d+)-/.exec(headers.range ?? "") ?? [];
  const start = Number(from ?? 0);
  const range = from === undefined ? {} : { "content-range": `bytes ${start}-${bytes.length - 1}/${bytes.length}` };
  const about = { "content-length": bytes.length - start, "accept-ranges": "bytes", etag: '"1"', "cross-origin-resource-policy": "same-origin" };
  response.writeHead(from === undefined ? 200 : 206, { ...about, ...range }).end(bytes.subarray(start));
  return true;
}

/** A page with nothing stored. `kind` is that of the store. */
async function visit(kind) {
  const opened = await openPage(browser, { site: server.site, path: "/package/" });
  const { page } = opened;
  await page.waitForFunction(() => "emberglass" in window);
  await page.evaluate(prepare, { kind, places: kind === "cache" ? "cache" : "opfs" });
  const call = (method, ...args) => page.evaluate(({ method, args }) => window.call(method, ...args), { method, args });
  const raw = (method, ...args) => page.evaluate(({ method, args }) => window.raw[method](...args), { method, args });
  return { page, call, raw, close: () => opened.close() };
}

/** Runs in the page. */
function prepare({ kind, places }) {
  const worker = { workerUrl: `/worker/${kind}/emberglass-worker.js` };
  /** Bytes that differ from chunk to chunk, and by `seed`. */
  window.bytesOf = (length, seed) => {
    const numbers = new Uint32Array(Math.ceil(length / 4));
    for (let i = 0; i < numbers.length; i++) numbers[i] = Math.imul(i + seed, 2654435761);
    return new Uint8Array(numbers.buffer, 0, length);
  };
  window.file = ({ name, length, seed }) => new File([window.bytesOf(length, seed)], name);
  /** The outcome of a method of `models`, or its error. Files are given as { name, length, seed }. */
  window.call = async (method, first, options = {}) => {
    const files = method === "import" ? (Array.isArray(first) ? { shards: first.map(window.file) } : window.file(first)) : first;
    const args = ["list", "usage"].includes(method) ? [] : [files];
    try {
      return await emberglass.models[method](...args, { ...worker, ...options });
    } catch (error) {
      const { code, message, name, detail } = error;
      return { code, message, name, detail };
    }
  };
  const opfs = {
    folder: async (id, create = false) => {
      const top = await (await navigator.storage.getDirectory()).getDirectoryHandle("emberglass", { create });
      return id === "" ? top : top.getDirectoryHandle(id, { create });
    },
    names: async (id) => {
      const names = [];
      try {
        for await (const name of (await opfs.folder(id)).keys()) names.push(name);
      } catch {
        // There is none.
      }
      return names.sort();
    },
    read: async (id, name) => {
      const file = await (await (await opfs.folder(id)).getFileHandle(name)).getFile();
      return new Uint8Array(await file.arrayBuffer());
    },
    write: async (id, name, bytes) => {
      const writable = await (await (await opfs.folder(id, true)).getFileHandle(name, { create: true })).createWritable();
      await writable.write(bytes);
      await writable.close();
    },
    remove: async (id, name) => (await opfs.folder(id)).removeEntry(name, { recursive: true }),
  };
  const address = (id, name) => `${location.origin}/.emberglass/${id === "" ? "" : `${id}/`}${name}`;
  const cached = () => caches.open("emberglass-models");
  const cache = {
    names: async (id) => {
      const urls = (await (await cached()).keys()).map(({ url }) => url);
      return urls.filter((url) => url.startsWith(address(id, ""))).map((url) => url.slice(address(id, "").length)).sort();
    },
    read: async (id, name) => new Uint8Array(await (await (await cached()).match(address(id, name))).arrayBuffer()),
    write: async (id, name, bytes) => {
      const headers = { "content-length": String(bytes.length) };
      await (await cached()).put(address(id, name), new Response(bytes, { headers }));
    },
    remove: async (id, name) => (await cached()).delete(address(id, name)),
  };
  /** What is stored, past the package. */
  const places_ = { opfs, cache }[places];
  window.raw = {
    names: places_.names,
    remove: places_.remove,
    text: async (id, name) => new TextDecoder().decode(await places_.read(id, name)),
    write: (id, name, text) => places_.write(id, name, new TextEncoder().encode(text)),
    flip: async (id, name, at) => {
      const bytes = await places_.read(id, name);
      bytes[at] ^= 1;
      await places_.write(id, name, bytes);
    },
    cut: async (id, name, length) => places_.write(id, name, (await places_.read(id, name)).subarray(0, length)),
    folder: (id) => opfs.folder(id, true).then(() => {}),
  };
}

const TWO = [
  { name: "a-00001-of-00002.gguf", length: 2 * CHUNK + 5, seed: 1 },
  { name: "a-00002-of-00002.gguf", length: 7, seed: 2 },
];
const SMALL = { name: "small.gguf", length: 1000, seed: 3 };
/** The name of a chunk that is stored. */
/** The name with its sum, as pkg/src/storage/names.ts makes it. */
function nameOfChunk(id, name) {
  const sum = Buffer.from(`${id}/${name}`).reduce((sum, byte) => Math.imul(sum ^ byte, 0x01000193) >>> 0, 0x811c9dc5);
  return `${name}-${sum.toString(16).padStart(8, "0")}`;
}
const chunk = async ({ raw }, id, file, index) => (await raw("names", id)).find((name) => name.startsWith(`${file}-${index}-`));

for (const kind of ["opfs", "writable", "cache"]) {
  test(`${kind}: files are kept in chunks, listed, and given back as they were`, { timeout: PATIENCE }, async () => {
    const visited = await visit(kind);
    const { page, call, raw } = visited;
    assert.deepEqual(await call("list"), []);
    const model = await call("import", TWO);
    const { id, lastUsed, ...rest } = model;
    assert.match(id, /^[0-9a-f]{32}$/, model.message);
    assert.ok(Math.abs(Date.now() - lastUsed) < PATIENCE);
    const bytes = 2 * CHUNK + 12;
    const files = TWO.map(({ name, length }) => ({ name, bytes: length, storedBytes: length }));
    assert.deepEqual(rest, { name: TWO[0].name, source: TWO[0].name, files, bytes, storedBytes: bytes, complete: true });
    const names = await raw("names", id);
    assert.deepEqual(names.map((name) => name.replace(/[0-9a-f]{64}-[0-9a-f]{8}$/, "")), ["0-0-", "0-1-", "0-2-", "1-0-", "record.json"]);
    assert.deepEqual(await call("list"), [model]);
    assert.deepEqual(await call("verify", id), { damaged: [], verifiedBytes: bytes, complete: true });
    const usage = await call("usage");
    assert.equal(usage.kind, kind === "cache" ? "cache" : "opfs");
    assert.equal(usage.modelBytes, bytes);
    assert.ok(usage.usedBytes >= bytes && usage.quotaBytes > usage.usedBytes);
    const exported = await page.evaluate(async ({ id, TWO }) => {
      const files = await window.call("export", id);
      const same = async (file, { length, seed }) => {
        const [got, expected] = [new Uint8Array(await file.arrayBuffer()), window.bytesOf(length, seed)];
        return got.length === expected.length && got.every((byte, i) => byte === expected[i]);
      };
      return Promise.all(files.map(async (file, i) => [file.name, await same(file, TWO[i])]));
    }, { id, TWO });
    assert.deepEqual(exported, TWO.map(({ name }) => [name, true]));
    // Once more they are the same model, and nothing is written.
    const again = await call("import", TWO);
    assert.deepEqual([again.id, again.complete], [id, true]);
    assert.deepEqual(await raw("names", id), names);
    const other = await call("import", SMALL, { name: "my model" });
    assert.deepEqual([other.name, other.source, other.files[0].name], ["my model", "my model", "my model"]);
    assert.deepEqual((await call("list")).map((one) => one.id), [other.id, id]);
    assert.equal(await call("delete", id), true);
    assert.equal(await call("delete", id), false);
    assert.deepEqual((await call("list")).map((one) => one.id), [other.id]);
    assert.deepEqual(await raw("names", id), []);
    for (const method of ["verify", "export"]) assert.equal((await call(method, id)).code, "not-stored");
    await visited.close();
  });
}

for (const kind of ["opfs", "cache"]) {
  test(`${kind}: damaged, cut and missing chunks are found, and mended by another import`, { timeout: PATIENCE }, async () => {
    const visited = await visit(kind);
    const { page, call, raw } = visited;
    const { id } = await call("import", TWO);
    await raw("flip", id, await chunk(visited, id, 0, 0), 123_456);
    await raw("cut", id, await chunk(visited, id, 0, 1), CHUNK - 1);
    await raw("cut", id, await chunk(visited, id, 1, 0), 0);
    // By their sizes alone two of them count no more.
    assert.deepEqual((await call("list")).map((one) => one.storedBytes), [CHUNK + 5]);
    assert.equal((await call("export", id)).code, "not-stored");
    assert.deepEqual(await call("verify", id), {
      damaged: [{ file: 0, from: 0, to: CHUNK }, { file: 0, from: CHUNK, to: 2 * CHUNK }, { file: 1, from: 0, to: 7 }],
      verifiedBytes: 5,
      complete: false,
    });
    assert.deepEqual((await raw("names", id)).map((name) => name.slice(0, 4)), ["0-2-", "reco"]);
    // The chunk that is right is used again.
    const begun = await page.evaluate(async (TWO) => {
      let begun;
      await window.call("import", TWO, { onProgress: ({ phase, loadedBytes }) => phase === "storing" && (begun ??= loadedBytes) });
      return begun;
    }, TWO);
    assert.equal(begun, 5);
    assert.equal((await call("verify", id)).complete, true);
    // Of two chunks for one place nobody knows which is right.
    await raw("write", id, nameOfChunk(id, `1-0-${"0".repeat(64)}`), "wronger");
    assert.equal((await call("list"))[0].complete, false);
    assert.deepEqual((await call("verify", id)).damaged, [{ file: 1, from: 0, to: 7 }]);
    assert.equal((await call("list"))[0].complete, true);
    // A chunk that was moved to another place does not count there.
    const moved = (await chunk(visited, id, 1, 0)).replace("1-0-", "0-1-");
    await raw("write", id, moved, "x".repeat(CHUNK));
    assert.equal((await call("list"))[0].complete, true);
    await visited.close();
  });

  test(`${kind}: a record that is none counts as absent, and the model can be checked and deleted`, { timeout: PATIENCE }, async () => {
    const visited = await visit(kind);
    const { call, raw } = visited;
    const { id } = await call("import", SMALL);
    const right = await raw("text", id, "record.json");
    for (const text of ["", right.slice(0, -1), "[]", right.replace("1000", "-1"), right.replace('"files":[', '"files":[7,')]) {
      await raw("write", id, "record.json", text);
      const [model] = await call("list");
      assert.deepEqual([model.id, model.name, model.complete, model.storedBytes], [id, id, false, 1000], text);
      assert.deepEqual(await call("verify", id), { damaged: [], verifiedBytes: 1000, complete: false });
      assert.equal((await call("export", id)).code, "not-stored");
    }
    assert.equal((await call("import", SMALL)).complete, true);
    await raw("write", id, "record.json", "");
    assert.equal(await call("delete", id), true);
    assert.deepEqual(await call("list"), []);
    await visited.close();
  });

  test(`${kind}: what is not ours is left alone`, { timeout: PATIENCE }, async () => {
    const visited = await visit(kind);
    const { call, raw } = visited;
    const { id } = await call("import", SMALL);
    const before = await call("list");
    const strange = ["0-0-abc", "00-0-" + "0".repeat(64), "0-0-" + "G".repeat(64), "../x".replace("/", "%2F"), "x".repeat(200)];
    for (const name of strange) await raw("write", id, name, "strange");
    await raw("write", "", "notes.txt", "strange");
    await raw("write", "not-an-id", "record.json", "{}");
    if (kind === "opfs") {
      // A file where a folder is expected, and the other way round.
      await raw("write", "", "f".repeat(32), "strange");
      await raw("folder", "e".repeat(32));
    }
    assert.deepEqual(await call("list"), before);
    assert.equal((await call("usage")).modelBytes, 1000);
    assert.equal((await call("verify", id)).complete, true);
    assert.equal((await call("verify", "f".repeat(32))).code, "not-stored");
    assert.equal(await call("delete", id), true);
    const left = await raw("names", "");
    assert.ok(left.includes("notes.txt") && left.some((name) => name.startsWith("not-an-id")));
    assert.equal(left.some((name) => name.startsWith(id)), false);
    await visited.close();
  });

  test(`${kind}: an import that is cancelled or fails leaves nothing`, { timeout: PATIENCE }, async () => {
    const visited = await visit(kind);
    const { page, call, raw } = visited;
    for (const phase of ["checking", "storing"]) {
      const error = await page.evaluate(async ({ TWO, phase }) => {
        const stop = new AbortController();
        const onProgress = (progress) => progress.phase === phase && stop.abort();
        return window.call("import", TWO, { signal: stop.signal, onProgress });
      }, { TWO, phase });
      assert.deepEqual([error.code, error.name], ["aborted", "AbortError"], phase);
      assert.deepEqual(await call("list"), []);
      assert.deepEqual((await raw("names", "")).filter((name) => name !== "probe"), []);
    }
    // A file that is written to is another one from then on, and the old one cannot be read.
    const gone = await page.evaluate(async () => {
      const handle = await (await navigator.storage.getDirectory()).getFileHandle("theirs.gguf", { create: true });
      const write = async (text) => {
        const writable = await handle.createWritable();
        await writable.write(text);
        await writable.close();
      };
      await write("GGUF one");
      const file = await handle.getFile();
      await write("GGUF and another");
      window.file = () => file;
      return window.call("import", "it");
    });
    assert.equal(gone.code, "io");
    assert.match(gone.message, /reading theirs\.gguf failed/);
    assert.deepEqual(await call("list"), []);
    await visited.close();
  });

  test(`${kind}: where the browser runs out of room, nothing is left of the import, and nothing is lost`, { timeout: PATIENCE }, async () => {
    const visited = await visit(kind);
    const { page, call, raw } = visited;
    const { id } = await call("import", SMALL);
    const before = await raw("names", "");
    const { usedBytes } = await call("usage");
    const cdp = await page.context().newCDPSession(page);
    // There is room for one of the chunks.
    await cdp.send("Storage.overrideQuotaForOrigin", { origin: server.site, quotaSize: usedBytes + CHUNK + 500_000 });
    const full = await call("import", TWO);
    assert.equal(full.code, "storage-full", full.message);
    assert.match(full.message, /8\.4 MB more are needed, and the browser gives no more/);
    assert.match(full.message, new RegExp(`models\\.delete\\(id\\): small\\.gguf \\(1\\.0 kB, id ${id}\\).*storage: "none"`));
    assert.deepEqual(await raw("names", ""), before);
    assert.equal((await call("verify", id)).complete, true);
    await cdp.send("Storage.overrideQuotaForOrigin", { origin: server.site });
    assert.equal((await call("import", TWO)).complete, true);
    await visited.close();
  });

  test(`${kind}: a model that is deleted while it is imported is gone`, { timeout: PATIENCE }, async () => {
    const visited = await visit(kind);
    const { page, call, raw } = visited;
    const { id } = await call("import", TWO);
    await raw("remove", id, await chunk(visited, id, 0, 1));
    // Both wait until the page lets them: the import to write the record, then the deletion, then the import to write the chunk.
    const [imported, deleted] = await page.evaluate(async ({ TWO, id }) => {
      const name = `emberglass-files:${id}`;
      const waiting = async (count) => {
        while ((await navigator.locks.query()).pending.filter((lock) => lock.name === name).length < count);
      };
      return navigator.locks.request(name, async () => {
        const importing = window.call("import", TWO);
        await waiting(1);
        const deleting = window.call("delete", id);
        await waiting(2);
        return [importing, deleting];
      }).then((both) => Promise.all(both));
    }, { TWO, id });
    assert.equal(deleted, true);
    assert.deepEqual([imported.code, imported.message], ["storage", "the model was deleted while it was imported"]);
    assert.deepEqual(await call("list"), []);
    await visited.close();
  });
}

test("too little room is told before anything is written", { timeout: PATIENCE }, async () => {
  const visited = await visit("full");
  const { call } = visited;
  const { id } = await call("import", SMALL);
  const full = await call("import", TWO);
  assert.equal(full.code, "storage-full");
  assert.match(full.message, /8\.4 MB more are needed, and the browser has room for 4\.0 MB\. Delete stored models.*small\.gguf/);
  assert.deepEqual((await call("list")).map((one) => one.id), [id]);
  await visited.close();
});

test("what is stored can be read and deleted where there is no room at all", { timeout: PATIENCE }, async () => {
  for (const kind of ["opfs", "cache"]) {
    const visited = await visit(kind);
    const { page, call } = visited;
    const { id } = await call("import", SMALL);
    const cdp = await page.context().newCDPSession(page);
    await cdp.send("Storage.overrideQuotaForOrigin", { origin: server.site, quotaSize: 1 });
    assert.equal((await call("verify", id)).complete, true, kind);
    assert.equal((await call("usage")).kind, kind);
    assert.equal((await call("import", { ...SMALL, seed: 9 })).code, "storage-full");
    assert.equal(await call("delete", id), true);
    await visited.close();
  }
});

test("two tabs that import the same files keep them once", { timeout: PATIENCE }, async () => {
  const visited = await visit("opfs");
  const { page, call, raw } = visited;
  const both = await page.evaluate((TWO) => Promise.all([window.call("import", TWO), window.call("import", TWO)]), TWO);
  assert.deepEqual(both.map(({ complete }) => complete), [true, true]);
  assert.equal(both[0].id, both[1].id);
  assert.equal((await raw("names", both[0].id)).length, 5);
  assert.equal((await call("verify", both[0].id)).complete, true);
  await visited.close();
});

test("a model whose file another program has open is not said to be deleted", { timeout: PATIENCE }, async () => {
  const visited = await visit("opfs");
  const { page, call } = visited;
  const { id } = await call("import", SMALL);
  const name = await chunk(visited, id, 0, 0);
  const opened = await page.evaluateHandle(({ id, name }) => {
    const open = async ({ data: { id, name } }) => {
      const top = await (await navigator.storage.getDirectory()).getDirectoryHandle("emberglass");
      self.handle = await (await (await top.getDirectoryHandle(id)).getFileHandle(name)).createSyncAccessHandle();
      postMessage("open");
    };
    const worker = new Worker(URL.createObjectURL(new Blob([`onmessage = ${open}`])));
    worker.postMessage({ id, name });
    return new Promise((resolve) => (worker.onmessage = () => resolve(worker)));
  }, { id, name });
  const error = await call("delete", id);
  assert.equal(error.code, "storage", JSON.stringify(error));
  assert.match(error.message, /stored models could not be read or changed: /);
  await opened.evaluate((worker) => worker.terminate());
  await page.waitForFunction((id) => window.call("delete", id).then((outcome) => outcome === true), id);
  assert.deepEqual(await call("list"), []);
  await visited.close();
});

test("a download is kept without a load, and nothing asks for it again", { timeout: PATIENCE }, async () => {
  const visited = await visit("opfs");
  const { page, call } = visited;
  const asked = [];
  page.context().on("request", (request) => request.url().includes(".gguf") && asked.push(request.url()));
  const secret = "tiny.gguf?token=secret";
  const model = await call("download", secret);
  const { id, bytes } = model;
  assert.equal(model.complete, true, JSON.stringify(model));
  assert.deepEqual([model.name, model.source, bytes], ["tiny.gguf", `${server.site}/package/tiny.gguf`, tinyModel().length]);
  assert.equal(asked.length, 1);
  const [listed] = await call("list");
  assert.deepEqual({ ...listed, lastUsed: 0 }, { ...model, lastUsed: 0 });
  assert.deepEqual(await call("verify", id), { damaged: [], verifiedBytes: bytes, complete: true });
  assert.equal((await call("download", secret)).id, id);
  const storage = await page.evaluate(async (stored) => {
    const model = await emberglass.loadTextModel({ stored }, { device: "cpu", contextLength: 64 });
    const { storage } = model.info;
    await model.dispose();
    return storage;
  }, id);
  assert.deepEqual(storage, { kind: "opfs", id, storedBytes: bytes, networkBytes: 0, repaired: [] });
  assert.equal(asked.length, 1);
  await visited.close();
});

test("an imported model loads by its id", { timeout: PATIENCE }, async () => {
  for (const kind of ["opfs", "cache"]) {
    const visited = await visit(kind);
    const { page } = visited;
    const [first, second, id] = await page.evaluate(async (workerUrl) => {
      const text = async (source) => {
        const model = await emberglass.loadTextModel(source, { device: "cpu", contextLength: 64, workerUrl });
        const { text } = await model.generate("a", { temperature: 0, maxTokens: 8 }).result;
        await model.dispose();
        return text;
      };
      const bytes = await (await fetch("tiny.gguf")).arrayBuffer();
      const { id } = await emberglass.models.import(bytes, { name: "mine", workerUrl });
      return [await text(bytes), await text({ stored: id }), id];
    }, `/worker/${kind}/emberglass-worker.js`);
    assert.ok(first.length > 0);
    assert.equal(second, first, `${kind} ${id}`);
    await visited.close();
  }
});

test("a download for which there is too little room is told with what could be deleted", { timeout: PATIENCE }, async () => {
  const visited = await visit("full");
  const { call } = visited;
  const { id } = await call("import", SMALL);
  const full = await call("download", `${server.site}/large.gguf`);
  assert.equal(full.code, "storage-full", JSON.stringify(full));
  assert.match(full.message, /20\.0 MB more are needed, and the browser has room for 4\.0 MB\. Delete stored models.*small\.gguf/);
  assert.deepEqual((await call("list")).map((one) => one.id), [id]);
  await visited.close();
});

test("a download that fills the disk ends there, and goes on from there once there is room", { timeout: PATIENCE }, async () => {
  const visited = await visit("opfs");
  const { page, call } = visited;
  const { id } = await call("import", SMALL);
  const { usedBytes } = await call("usage");
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("Storage.overrideQuotaForOrigin", { origin: server.site, quotaSize: usedBytes + 2 * CHUNK + 500_000 });
  const full = await call("download", `${server.site}/large.gguf`);
  assert.equal(full.code, "storage-full", JSON.stringify(full));
  assert.match(full.message, /the browser gives no more\. Delete stored models.*small\.gguf/);
  const stored = await call("list");
  assert.equal(stored.length, 2);
  const part = stored.find((one) => one.id !== id);
  assert.ok(part.storedBytes >= CHUNK && !part.complete, JSON.stringify(part));
  // Nothing is left of the chunk that did not fit.
  assert.equal((await call("usage")).modelBytes, stored.reduce((sum, { storedBytes }) => sum + storedBytes, 0));
  await cdp.send("Storage.overrideQuotaForOrigin", { origin: server.site });
  const whole = await call("download", `${server.site}/large.gguf`);
  assert.deepEqual([whole.id, whole.complete], [part.id, true], JSON.stringify(whole));
  assert.equal((await call("verify", part.id)).complete, true);
  await visited.close();
});

test("a browser that keeps nothing says so, and downloads nothing in vain", { timeout: PATIENCE }, async () => {
  const opened = await visit("none");
  const { page, call } = opened;
  assert.deepEqual(await call("list"), []);
  const usage = await call("usage");
  assert.deepEqual([usage.kind, usage.modelBytes], ["none", 0]);
  assert.equal(await call("delete", "0".repeat(32)), false);
  assert.equal((await call("verify", "0".repeat(32))).code, "not-stored");
  const requests = [];
  page.on("request", (request) => requests.push(new URL(request.url()).pathname));
  for (const error of [await call("import", SMALL), await call("download", "tiny.gguf")]) {
    assert.equal(error.code, "storage");
    assert.match(error.message, /this browser keeps nothing here/);
  }
  assert.deepEqual(requests.filter((path) => !path.startsWith("/worker/")), []);
  await opened.close();
});

test("what is no id, no option and no file is an error that names it", { timeout: PATIENCE }, async () => {
  const visited = await visit("opfs");
  const { page, call } = visited;
  for (const id of ["", "..", "record.json", "A".repeat(32), 7, null]) {
    for (const method of ["delete", "verify", "export"]) assert.equal((await call(method, id)).code, "invalid-option", `${method} ${id}`);
  }
  for (const [method, first] of [["list"], ["usage"], ["delete", "0".repeat(32)], ["verify", "0".repeat(32)], ["import", SMALL], ["download", "tiny.gguf"]]) {
    const { code, message } = await call(method, first, { storge: "none" });
    assert.equal(code, "invalid-option", `${method}: ${message}`);
    assert.match(message, new RegExp(`models\\.${method} has no option storge`));
  }
  assert.match((await call("import", SMALL, { name: "a/" })).message, /option name = "a\/" is not a name/);
  const others = await page.evaluate(async () => {
    const outcome = (promise) => promise.then(() => "it is taken", ({ code, message }) => `${code}: ${message}`);
    const { models } = emberglass;
    return [
      await outcome(models.import("https://host.example/m.gguf")),
      await outcome(models.download(new Blob(["GGUF"]))),
      await outcome(models.import({ shards: [] })),
      await outcome(models.import(new File([], "nothing.gguf"))),
    ];
  });
  assert.match(others[0], /^invalid-option: models\.import takes files/);
  assert.match(others[1], /^invalid-option: models\.download takes addresses/);
  assert.match(others[2], /^invalid-option/);
  assert.match(others[3], /^truncated: nothing\.gguf is empty/);
  await visited.close();
});

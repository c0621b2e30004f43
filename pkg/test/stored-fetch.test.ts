// The load through storage: what is stored is not asked again, nothing wrong is handed out, and versions are never mixed.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Browser, bytesOf, CHUNK, digestOf, failure, load, MemoryStore, open, Reader, Server, URL_1 } from "./stored-load.js";

const FILE = bytesOf(3700);

test("the first load stores on the way, the next takes no network", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  const first = await load(server, { store });
  assert.deepEqual(first.bytes, FILE);
  assert.deepEqual(server.log, ["whole"]);
  assert.deepEqual(store.indices(), [0, 1, 2, 3]);
  assert.deepEqual(first.report, { kind: "opfs", id: [...store.models.keys()][0], storedBytes: 0, networkBytes: 3700, repaired: [] });
  const [file] = store.model.record!.files;
  assert.deepEqual(file, { address: URL_1, bytes: 3700, etag: '"1"' });
  assert.equal(store.model.record!.source, URL_1);

  server.isGone = true;
  const second = await load(server, { store });
  assert.deepEqual(second.bytes, FILE);
  assert.equal(server.log.length, 1);
  assert.deepEqual([second.report.storedBytes, second.report.networkBytes], [3700, 0]);
  assert.ok(second.reader.pieces.every((length) => length <= CHUNK));
});

test("the date of the last load is kept", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  await load(server, { store });
  store.model.record!.lastUsed = 5;
  await load(server, { store });
  assert.ok(store.model.record!.lastUsed > Date.now() - 60_000);
});

test("a broken load goes on at the first chunk that is not there", async () => {
  const [server, store] = [new Server(FILE, { breaks: [2350] }), new MemoryStore()];
  const browser = new Browser();
  const files = await open(server, { store, browser });
  const reader = new Reader(files);
  reader.mostRetries = 0;
  await assert.rejects(reader.read(), /network error/);
  await files.close();
  assert.deepEqual(store.indices(), [0, 1]);
  const { bytes, report } = await load(server, { store });
  assert.deepEqual(bytes, FILE);
  assert.deepEqual(server.log, ["whole", "bytes=2000-"]);
  assert.deepEqual([report.storedBytes, report.networkBytes], [2000, 1700]);
});

test("a retry in one load asks for the exact byte", async () => {
  const [server, store] = [new Server(FILE, { breaks: [2350, 300, 10] }), new MemoryStore()];
  const { bytes } = await load(server, { store });
  assert.deepEqual(bytes, FILE);
  assert.deepEqual(server.log, ["whole", "bytes=2350-", "bytes=2650-", "bytes=2660-"]);
  assert.ok(server.sent.every((times) => times === 1));
});

test("a gap in the middle is asked for with both ends", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  await load(server, { store });
  store.drop(1);
  store.drop(3);
  server.log.length = 0;
  const { bytes, report } = await load(server, { store });
  assert.deepEqual(bytes, FILE);
  assert.deepEqual(server.log, ["bytes=1000-1999", "bytes=3000-"]);
  assert.deepEqual([report.storedBytes, report.networkBytes], [2000, 1700]);
  assert.deepEqual(store.indices(), [0, 1, 2, 3]);
});

test("every flipped byte is found before it is used, and fetched again", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  await load(server, { store });
  for (let n = 0; n < 40; n++) {
    const at = (n * 977) % FILE.length;
    const index = Math.floor(at / CHUNK);
    store.chunk(index).bytes[at % CHUNK]! ^= 1 << n % 8;
    server.log.length = 0;
    const { bytes, report } = await load(server, { store });
    assert.deepEqual(bytes, FILE);
    assert.deepEqual(report.repaired, [{ file: 0, from: index * CHUNK, to: Math.min((index + 1) * CHUNK, FILE.length) }]);
    assert.equal(server.log.length, 1);
    assert.equal(digestOf(store.chunk(index).bytes), store.chunk(index).name.sha256);
  }
});

test("a chunk that is shorter or longer, has another name or vanishes is fetched again", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  const damages: ((chunk: { bytes: Uint8Array<ArrayBuffer> }) => void)[] = [
    (chunk) => (chunk.bytes = chunk.bytes.slice(0, 999)),
    (chunk) => (chunk.bytes = bytesOf(1001)),
    (chunk) => (chunk.bytes = new Uint8Array()),
  ];
  await load(server, { store });
  for (const damage of damages) {
    damage(store.chunk(1));
    const { bytes, report } = await load(server, { store });
    assert.deepEqual(bytes, FILE);
    assert.deepEqual(report.repaired, [{ file: 0, from: 1000, to: 2000 }]);
  }
  // It vanishes between the listing and the reading.
  const files = await open(server, { store });
  const reader = new Reader(files);
  await reader.read(0, 10);
  store.drop(3);
  assert.deepEqual(await reader.read(10), FILE.slice(10));
  assert.deepEqual((await files.finish()).repaired, [{ file: 0, from: 3000, to: 3700 }]);
  await files.close();
});

test("two chunks for one place are both deleted", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  await load(server, { store });
  const other = { ...store.chunk(1).name, sha256: digestOf(bytesOf(1000, 8)) };
  await store.folder([...store.models.keys()][0]!).write(other, bytesOf(1000, 8));
  const { bytes, report } = await load(server, { store });
  assert.deepEqual(bytes, FILE);
  assert.deepEqual(report.repaired, [{ file: 0, from: 1000, to: 2000 }]);
  assert.deepEqual(store.indices(), [0, 1, 2, 3]);
});

test("another version on the server deletes what is stored of the old one", async () => {
  for (const change of [
    (server: Server) => (server.etag = '"2"'),
    (server: Server) => (server.bytes = bytesOf(3500, 2)),
    (server: Server) => ((server.etag = undefined), (server.lastModified = "Tue")),
  ]) {
    const [server, store] = [new Server(FILE), new MemoryStore()];
    server.lastModified = "Mon";
    await load(server, { store });
    store.drop(2);
    server.bytes = bytesOf(3700, 2);
    change(server);
    server.sent = new Uint8Array(4000);
    const { bytes, report } = await load(server, { store });
    assert.deepEqual(bytes, server.bytes);
    assert.equal(report.storedBytes, 0);
    assert.equal(report.reason, undefined);
    server.isGone = true;
    assert.deepEqual((await load(server, { store })).bytes, server.bytes);
  }
});

test("where nothing tells whether it is the same file, it is downloaded anew", async () => {
  const [server, store] = [new Server(FILE, { noLength: true, breaks: [2500] }), new MemoryStore()];
  server.etag = undefined;
  server.faults.hides = true;
  await assert.rejects(async () => {
    const files = await open(server, { store });
    const reader = new Reader(files);
    reader.mostRetries = 0;
    await reader.read().finally(() => files.close());
  });
  server.bytes = bytesOf(3700, 2);
  const { bytes, report } = await load(server, { store });
  assert.deepEqual(bytes, server.bytes);
  assert.equal(report.storedBytes, 0);
});

test("a file that changes during a load ends it, and nothing of it stays", async () => {
  const [server, store] = [new Server(FILE, { breaks: [2500] }), new MemoryStore()];
  const files = await open(server, { store });
  const reader = new Reader(files);
  await reader.read(0, 2450);
  server.etag = '"2"';
  await assert.rejects(reader.read(2450));
  assert.deepEqual([files.fault?.code, files.fault?.detail], ["network", "changed"]);
  assert.match(files.fault?.message ?? "", /the file changed on the server.*ETag was "1" and is "2"/);
  await files.close();
  assert.equal(store.models.size, 0);
});

test("a server without ranges loads, and what is stored is not written twice", async () => {
  const [server, store] = [new Server(FILE, { ignoresRanges: true, breaks: [2350] }), new MemoryStore()];
  const { bytes, report, reader } = await load(server, { store });
  assert.deepEqual(bytes, FILE);
  assert.deepEqual(server.log, ["whole", "bytes=2350-"]);
  assert.equal(reader.retries, 1);
  assert.equal(report.reason, undefined);
  assert.deepEqual(store.indices(), [0, 1, 2, 3]);
  store.drop(2);
  const again = await load(server, { store });
  assert.deepEqual(again.bytes, FILE);
  assert.deepEqual(store.indices(), [0, 1, 2, 3]);
});

test("an answer that begins elsewhere is stored where it belongs", async () => {
  const [server, store] = [new Server(FILE, { startsAtZero: true, breaks: [2350] }), new MemoryStore()];
  const { bytes, report } = await load(server, { store });
  assert.deepEqual(bytes, FILE);
  assert.equal(report.reason, undefined);
  server.isGone = true;
  assert.deepEqual((await load(server, { store })).bytes, FILE);
});

test("short answers are followed, and stored", async () => {
  for (const cap of [70, 1000, 1300]) {
    const [server, store] = [new Server(FILE, { cap }), new MemoryStore()];
    const { bytes, reader } = await load(server, { store });
    assert.deepEqual(bytes, FILE);
    assert.equal(server.log.length, Math.ceil(FILE.length / cap));
    assert.equal(reader.retries, 0);
    assert.deepEqual(store.indices(), [0, 1, 2, 3]);
    assert.ok(server.sent.every((times) => times === 1));
  }
});

test("an encoded body, and one without a length, are stored once their end is seen", async () => {
  for (const faults of [{ gzip: true }, { noLength: true }, { gzip: true, hides: true }, { hides: true }]) {
    const [server, store] = [new Server(FILE, faults), new MemoryStore()];
    const { bytes, report } = await load(server, { store });
    assert.deepEqual(bytes, FILE);
    assert.deepEqual(server.log, ["whole"], JSON.stringify(faults));
    assert.equal(report.reason, undefined);
    assert.equal(store.model.record!.files[0]!.bytes, FILE.length);
    server.isGone = true;
    assert.deepEqual((await load(server, { store })).bytes, FILE);
  }
});

test("an encoded body that breaks goes on with the bytes of the file", async () => {
  const [server, store] = [new Server(FILE, { gzip: true, breaks: [2350] }), new MemoryStore()];
  const { bytes } = await load(server, { store });
  assert.deepEqual(bytes, FILE);
  assert.deepEqual(server.log, ["whole", "bytes=2350-"]);
  assert.deepEqual(store.indices(), [0, 1, 2, 3]);
});

test("an engine that stops before the end of a body without length leaves nothing out", async () => {
  const [server, store] = [new Server(FILE, { noLength: true }), new MemoryStore()];
  const files = await open(server, { store });
  await new Reader(files).read(0, 3210);
  const report = await files.finish();
  await files.close();
  assert.deepEqual(server.log, ["whole"]);
  assert.equal(report.reason, undefined);
  assert.deepEqual(store.indices(), [0, 1, 2, 3]);
});

test("parts whose place is hidden are used and not stored, and the reason is told", async () => {
  const [server, store] = [new Server(FILE, { hides: true, breaks: [2350] }), new MemoryStore()];
  const { bytes, report } = await load(server, { store });
  assert.deepEqual(bytes, FILE);
  // The engine of this test has to ask where the file ends.
  assert.deepEqual(server.log, ["whole", "bytes=2350-", "bytes=3700-"]);
  assert.match(report.reason ?? "", /does not prove which bytes.*no Content-Range/);
  // The whole can be stored at once, so the next load begins anew.
  const again = await load(server, { store });
  assert.deepEqual(again.bytes, FILE);
  assert.equal(again.report.reason, undefined);
  server.isGone = true;
  assert.deepEqual((await load(server, { store })).bytes, FILE);
});

test("wrong answers reach the engine as they are", async () => {
  const store = new MemoryStore();
  for (const headers of [{ "Content-Range": "bytes -5--1/abc" }, { "Content-Range": "bytes 10-99/3700" }]) {
    const server = new Server(FILE, { cap: 90 });
    const fetch = server.fetch;
    Object.assign(server, {
      fetch: async (url: string, init: RequestInit) => {
        const answer = await fetch(url, init);
        return new Response(answer.body, { status: 206, headers });
      },
    });
    assert.match((await failure(load(server, { store }))).message, /wrong-answer/);
    assert.deepEqual(server.log, ["whole"]);
  }
  assert.deepEqual(store.indices(), []);
});

test("a status that is no success reaches the engine as it is", async () => {
  const store = new MemoryStore();
  for (const status of [404, 403, 429, 416, 500]) {
    const server = new Server(FILE, { status, headers: { "Retry-After": "7" } });
    const files = await open(server, { store });
    const answer = await files.fetch(URL_1, { headers: new Headers() });
    assert.deepEqual([answer.status, answer.headers.get("Retry-After")], [status, "7"]);
    await files.close();
  }
  // Also where something is stored: it stays.
  const server = new Server(FILE);
  await load(server, { store });
  store.drop(2);
  server.faults = { status: 503 };
  const files = await open(server, { store });
  assert.equal((await files.fetch(URL_1, { headers: new Headers() })).status, 503);
  await files.close();
  assert.deepEqual(store.indices(), [0, 1, 3]);
});

test("a half-stored model without a network does not load, and is not lost", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  await load(server, { store });
  store.drop(3);
  server.isGone = true;
  await assert.rejects(load(server, { store }), /Failed to fetch/);
  assert.deepEqual(store.indices(), [0, 1, 2]);
  server.isGone = false;
  server.log.length = 0;
  assert.deepEqual((await load(server, { store })).bytes, FILE);
  assert.deepEqual(server.log, ["bytes=3000-"]);
});

test("room that runs out in the middle ends the storing and not the load", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  store.room = 2;
  const { bytes, report } = await load(server, { store });
  assert.deepEqual(bytes, FILE);
  assert.deepEqual(store.indices(), [0, 1]);
  assert.match(report.reason ?? "", /room for this site is full/);
  assert.equal(report.kind, "opfs");
  store.room = Infinity;
  server.log.length = 0;
  await load(server, { store });
  assert.deepEqual(server.log, ["bytes=2000-"]);
});

test("too little room before the download is an error, but not for a header", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  const needed: number[] = [];
  const tooLittleRoom = async (bytes: number) => {
    needed.push(bytes);
    return { code: "storage-full", message: "too little" };
  };
  assert.equal((await failure(load(server, { store, tooLittleRoom }))).code, "storage-full");
  assert.deepEqual(needed, [3700]);
  assert.equal(store.models.size, 0);
  const files = await open(server, { store, tooLittleRoom, readsAll: false });
  assert.deepEqual(await new Reader(files).read(0, 50), FILE.slice(0, 50));
  await files.close();
});

test("reading a header downloads no more, stores nothing, and is in nobody's way", async () => {
  const [server, store, browser] = [new Server(FILE), new MemoryStore(), new Browser()];
  const files = await open(server, { store, browser, readsAll: false });
  await new Reader(files).read(0, 1450);
  assert.equal(store.models.size, 0);
  assert.equal(server.sent.reduce((a, b) => a + b), 1500);
  // The reader computes while another load begins and ends.
  const { report } = await load(server, { store, browser, stallMs: 60 });
  assert.deepEqual([report.kind, report.reason], ["opfs", undefined]);
  await files.close();
});

test("reading a header takes what is stored of the server's version, and deletes nothing of another", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  await load(server, { store });
  store.drop(2);
  const head = async () => {
    server.sent = new Uint8Array(4000);
    const files = await open(server, { store, readsAll: false });
    const bytes = await new Reader(files).read(0, 1450);
    await files.close();
    return { bytes, sent: server.sent.reduce((a, b) => a + b) };
  };
  const same = await head();
  assert.deepEqual([same.bytes, same.sent <= 100], [FILE.slice(0, 1450), true]);
  server.bytes = bytesOf(3700, 2);
  server.etag = '"2"';
  assert.deepEqual((await head()).bytes, server.bytes.slice(0, 1450));
  assert.deepEqual(store.indices(), [0, 1, 3]);
});

test("what the engine does not read is fetched at the end", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  const files = await open(server, { store });
  const reader = new Reader(files);
  await reader.read(0, 150);
  // It jumps.
  assert.deepEqual(await reader.read(2500, 2600), FILE.slice(2500, 2600));
  const report = await files.finish();
  await files.close();
  assert.equal(report.reason, undefined);
  assert.deepEqual(store.indices(), [0, 1, 2, 3]);
  assert.ok(server.sent.every((times) => times === 1), server.log.join());
  server.isGone = true;
  assert.deepEqual((await load(server, { store })).bytes, FILE);
});

test("an engine that jumps and comes back gets every byte from one request", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  const files = await open(server, { store });
  const reader = new Reader(files);
  await reader.read(0, 150);
  assert.deepEqual(await reader.read(2500, 2600), FILE.slice(2500, 2600));
  assert.deepEqual(await reader.read(150), FILE.slice(150));
  assert.equal((await files.finish()).reason, undefined);
  await files.close();
  assert.ok(server.sent.every((times) => times === 1), server.log.join());
});

test("a rest that does not come is told, and does not fail the load", async () => {
  for (const faults of [{ breaks: [200, 0] }, { silences: [200, 0] }]) {
    const [server, store] = [new Server(FILE, faults), new MemoryStore()];
    const files = await open(server, { store, stallMs: 20 });
    await new Reader(files).read(0, 150);
    server.isGone = true;
    assert.match((await files.finish()).reason ?? "", /the rest could not be downloaded/);
    await files.close();
  }
});

test("nothing is stored by the caller's wish, without a store, or on a page that is not secure", async () => {
  const server = new Server(FILE);
  const store = new MemoryStore();
  await load(server, { store });
  server.log.length = 0;
  const none = await load(server, { store, request: { storage: "none" } });
  assert.deepEqual(none.bytes, FILE);
  assert.deepEqual([none.report.kind, none.report.id, none.report.networkBytes], ["none", undefined, 3700]);
  assert.match(none.report.reason ?? "", /caller/);
  const missing = await load(server, {});
  assert.match(missing.report.reason ?? "", /keeps nothing/);
  const { crypto } = globalThis;
  Object.defineProperty(globalThis, "crypto", { value: {}, configurable: true });
  try {
    assert.match((await load(server, { store })).report.reason ?? "", /secure/);
  } finally {
    Object.defineProperty(globalThis, "crypto", { value: crypto, configurable: true });
  }
  assert.deepEqual(server.log, ["whole", "whole", "whole"]);
});

test("writing is bounded: the network waits for the disk", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  let release = () => {};
  const writes = new Promise<void>((resolve) => (release = resolve));
  let began = 0;
  store.beforeWrite = () => (began++, writes);
  const loading = load(server, { store });
  while (began < 2) await new Promise((resolve) => setImmediate(resolve));
  for (let i = 0; i < 200; i++) await new Promise((resolve) => setImmediate(resolve));
  // Two chunks wait to be written.
  assert.equal(server.sent.reduce((a, b) => a + b), 2000);
  release();
  assert.deepEqual((await loading).bytes, FILE);
});

test("a load that is given up leaves no request, and the next goes on", async () => {
  const [server, store] = [new Server(FILE, { silences: [2300] }), new MemoryStore()];
  const browser = new Browser();
  const files = await open(server, { store, browser });
  await new Reader(files).read(0, 2300);
  const hanging = new Reader(files).read(2300);
  const closing = files.close();
  await assert.rejects(hanging);
  await closing;
  assert.equal(browser.open, 0);
  assert.deepEqual(server.log, ["whole"]);
  assert.deepEqual((await load(server, { store })).bytes, FILE);
  assert.equal(server.log.at(-1), "bytes=2000-");
});

test("chunks without a record, and a record that is none, are a new download", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  await load(server, { store });
  store.model.record = undefined;
  const { report } = await load(server, { store });
  assert.equal(report.networkBytes, 3700);
  store.model.record!.source = "http://elsewhere.test/";
  assert.equal((await load(server, { store })).report.networkBytes, 3700);
  store.model.record!.files.push({ address: "x" });
  assert.equal((await load(server, { store })).report.networkBytes, 3700);
  store.model.record!.files[0]!.bytes = 2000;
  // Edited: the server knows better, if it is asked; and what is there is right.
  store.drop(0);
  const edited = await load(server, { store });
  assert.deepEqual(edited.bytes, FILE);
});

test("a model by its id", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  const { report } = await load(server, { store });
  const source = { stored: report.id! };
  server.isGone = true;
  const stored = await open(server, { store, source });
  assert.deepEqual(await new Reader(stored).read(), FILE);
  await stored.close();
  server.isGone = false;
  store.drop(1);
  const files = await open(server, { store, source });
  assert.deepEqual(await new Reader(files).read(), FILE);
  assert.equal((await files.finish()).reason, undefined);
  await files.close();

  assert.equal((await failure(open(server, { store, source: { stored: "0".repeat(32) } }))).code, "not-stored");
  assert.equal((await failure(open(server, { source }))).code, "not-stored");
  // An imported file has no address.
  store.model.record!.files[0]!.address = "m.gguf";
  const imported = await open(server, { store, source });
  assert.deepEqual(await new Reader(imported).read(), FILE);
  store.chunk(1).bytes[5]! ^= 1;
  await imported.close();
  const damaged = await open(server, { store, source });
  await assert.rejects(new Reader(damaged).read());
  assert.equal(damaged.fault?.code, "not-stored");
  await damaged.close();
  assert.equal((await failure(open(server, { store, source }))).code, "not-stored");
});

test("several files are one model, and of one version", async () => {
  const urls = ["http://server.test/1", "http://server.test/2"] as const;
  const servers = { [urls[0]]: new Server(bytesOf(1500)), [urls[1]]: new Server(bytesOf(2500, 9)) };
  const store = new MemoryStore();
  const both = async () => {
    const files = await open(servers, { store });
    try {
      const bytes = [await new Reader(files, 0).read(), await new Reader(files, 1).read()];
      return { bytes, report: await files.finish() };
    } finally {
      await files.close();
    }
  };
  assert.deepEqual((await both()).bytes, [servers[urls[0]].bytes, servers[urls[1]].bytes]);
  assert.equal((await both()).report.networkBytes, 0);

  // The second is missing, and both have changed: the first, which is whole, must not be used.
  for (const { name } of [...store.model.chunks.values()]) if (name.file === 1) store.drop(name.index, 1);
  for (const server of Object.values(servers)) {
    server.bytes = bytesOf(server.bytes.length, 77);
    server.etag = '"2"';
  }
  const anew = await both();
  assert.deepEqual(anew.bytes, [servers[urls[0]].bytes, servers[urls[1]].bytes]);
  assert.equal(anew.report.storedBytes, 0);
});

test("kills at random bytes: each load goes on, and asks for nothing that was stored", async () => {
  let state = 12345;
  const random = (below: number) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % below;
  };
  for (let round = 0; round < 25; round++) {
    const file = bytesOf(1 + random(9000), round);
    const server = new Server(file);
    server.piece = 1 + random(700);
    const store = new MemoryStore();
    const sha256 = [digestOf(file)];
    for (let n = 0; ; n++) {
      assert.ok(n < 200, "it never ends");
      const before = store.models.size > 0 ? store.indices() : [];
      server.sent.fill(0);
      server.faults = n % 3 === 0 ? { breaks: [random(4000), random(3000)] } : {};
      const browser = new Browser();
      const files = await open(server, { store, browser, request: { sha256 } });
      const reader = new Reader(files);
      const until = random(file.length * 2);
      const got = await reader.read(0, until);
      assert.deepEqual(got, file.slice(0, until));
      const isWhole = until >= file.length && n > 2;
      const report = isWhole ? await files.finish() : undefined;
      await files.close();
      for (const index of before) {
        assert.ok(server.sent.slice(index * CHUNK, (index + 1) * CHUNK).every((times) => times === 0), `round ${round}: chunk ${index} again`);
      }
      assert.ok(server.sent.every((times) => times <= 1), `round ${round}: a byte twice`);
      if (!report) continue;
      assert.equal(report.reason, undefined);
      assert.equal(store.model.record!.files[0]!.verified, true);
      break;
    }
    server.isGone = true;
    assert.deepEqual((await load(server, { store })).bytes, file);
  }
});

test("a file that is shorter now than what is missing of it is downloaded anew", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  await load(server, { store });
  store.drop(3);
  server.bytes = bytesOf(2000, 5);
  server.etag = '"2"';
  const { bytes, report } = await load(server, { store });
  assert.deepEqual(bytes, server.bytes);
  assert.deepEqual([report.storedBytes, report.reason], [0, undefined]);
});

test("a model that is deleted while it is loaded from storage goes on from the network, and is not kept", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  await load(server, { store });
  const files = await open(server, { store });
  const reader = new Reader(files);
  const head = await reader.read(0, 1000);
  await store.delete([...store.models.keys()][0] as string);
  const rest = await reader.read(1000);
  assert.deepEqual([...head, ...rest], [...FILE]);
  const { kind, reason } = await files.finish();
  assert.equal(kind, "none");
  assert.match(reason ?? "", /deleted/);
  await files.close();
  assert.equal(store.models.size, 0);
});

test("what a server sends beyond the part that it announced is not stored", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  await load(server, { store });
  store.drop(1);
  const body = new Uint8Array([...FILE.slice(1000, 1500), ...bytesOf(1500, 66)]);
  const headers = { "Content-Range": "bytes 1000-1499/3700", ETag: '"1"' };
  const liar = { fetch: async () => new Response(body, { status: 206, headers }) };
  const files = await open({ [URL_1]: liar }, { store });
  const reader = new Reader(files);
  reader.mostRetries = 0;
  await reader.read();
  await files.finish();
  await files.close();
  for (const index of store.indices()) assert.deepEqual(store.chunk(index).bytes, FILE.slice(index * CHUNK, (index + 1) * CHUNK));
});

test("a record that claims a checked file of a million chunks, or of no size, does no harm", { timeout: 10_000 }, async () => {
  for (const bytes of [undefined, 1e6 * CHUNK]) {
    const [server, store] = [new Server(FILE), new MemoryStore()];
    await load(server, { store });
    const { bytes: _, ...record } = store.model.record!.files[0]!;
    store.model.record!.files[0] = { ...record, ...(bytes === undefined ? {} : { bytes }), verified: true };
    const again = await load(server, { store });
    assert.deepEqual(again.bytes, FILE);
    assert.equal(again.report.reason, undefined);
  }
});

test("files of one name are told apart", async () => {
  const urls = ["http://server.test/1", "http://server.test/2"] as const;
  const servers = { [urls[0]]: new Server(bytesOf(1500)), [urls[1]]: new Server(bytesOf(2500, 9)) };
  const store = new MemoryStore();
  const files = await open(servers, { store });
  for (const file of [0, 1]) await new Reader(files, file).read();
  const { id = "" } = await files.finish();
  await files.close();
  // As of two Blobs that were imported.
  for (const file of store.model.record!.files) file.address = "the given Blob";
  const again = await open(servers, { store, source: { stored: id } });
  for (const [file, url] of urls.entries()) assert.deepEqual(await new Reader(again, file).read(), servers[url].bytes);
  await again.close();
});

test("a blob: address is that of one page, and is not kept", async () => {
  const store = new MemoryStore();
  const files = await open({ "blob:http://server.test/1234": new Server(FILE) }, { store });
  assert.deepEqual(await new Reader(files).read(), FILE);
  assert.match((await files.finish()).reason ?? "", /models\.import/);
  await files.close();
  assert.equal(store.models.size, 0);
});

test("a model of many files holds few connections, and gets every byte", async () => {
  const urls = Array.from({ length: 9 }, (_, i) => `http://server.test/${i}`);
  const contents = urls.map((_, i) => bytesOf(2500 + i, i));
  const answers: { signal: AbortSignal; isWhole: () => boolean }[] = [];
  let most = 0;
  const servers = Object.fromEntries(
    urls.map((url, i) => {
      const server = new Server(contents[i] ?? bytesOf(0));
      const fetch = async (_: string, init: RequestInit) => {
        const answer = await server.fetch(url, init);
        const end = Number(/-(\d+)\//.exec(answer.headers.get("Content-Range") ?? `-${server.bytes.length - 1}/`)?.[1]);
        answers.push({ signal: init.signal as AbortSignal, isWhole: () => server.sent[end]! > 0 });
        most = Math.max(most, answers.filter(({ signal, isWhole }) => !signal.aborted && !isWhole()).length);
        return answer;
      };
      return [url, { fetch }];
    }),
  );
  for (const store of [undefined, new MemoryStore()]) {
    const files = await open(servers, { store });
    const reading = [];
    for (const [i, url] of urls.entries()) {
      reading.push(readerOf(files, url, contents[i]?.length ?? 0));
      await reading[i]?.head;
    }
    for (const [i, { head, rest }] of reading.entries()) assert.deepEqual([...(await head), ...(await rest())], [...(contents[i] ?? [])]);
    await files.finish();
    await files.close();
  }
  // The browser has six for a server.
  assert.ok(most <= 5, `${most} at a time`);
});

/** Reads the head of a file, and the rest of the same answer when that is asked for. */
function readerOf(files: Awaited<ReturnType<typeof open>>, url: string, length: number) {
  const answer = files.fetch(url, { headers: new Headers(), signal: new AbortController().signal });
  let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  const next = async () => {
    reader ??= (await answer).body!.getReader();
    return (await reader.read()).value ?? new Uint8Array();
  };
  const rest = async () => {
    const bytes: number[] = [];
    const begun = (await head).length;
    while (begun + bytes.length < length) bytes.push(...(await next()));
    return bytes;
  };
  const head = next();
  return { head, rest };
}

test("an empty file is handed over once", async () => {
  for (const store of [undefined, new MemoryStore()]) {
    const server = new Server(bytesOf(0));
    const files = await open(server, { store });
    const answer = await files.fetch(URL_1, { headers: new Headers() });
    assert.deepEqual([answer.status, answer.headers.get("Content-Length"), server.log.length], [200, "0", 1]);
    await files.close();
  }
});

test("a web page in place of the rest deletes nothing", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  await load(server, { store });
  store.drop(3);
  for (const ignoresRanges of [true, false]) {
    const page = new Server(bytesOf(ignoresRanges ? 4000 : 400), { ignoresRanges, headers: { "Content-Type": "text/html; charset=utf-8" } });
    page.etag = undefined;
    const error = await failure(load(page, { store }));
    assert.deepEqual([error.code, error.detail], ["network", "wrong-answer"]);
    assert.match(error.message, /a web page instead of the rest.*models\.delete\("[0-9a-f]{32}"\)/);
  }
  assert.deepEqual(store.indices(), [0, 1, 2]);
  assert.equal((await load(server, { store })).report.storedBytes, 3000);
});

test("what the engine takes for no model does not stay, unless it was meant or imported", async () => {
  const discarded = async (change: (store: MemoryStore) => void) => {
    const [server, store] = [new Server(FILE), new MemoryStore()];
    const { report } = await load(server, { store });
    change(store);
    const files = await open(server, { store, source: { stored: report.id ?? "" } });
    await new Reader(files).read(0, 10);
    await files.discard();
    await files.close();
    return store.models.size === 0;
  };
  assert.equal(await discarded(() => {}), true);
  assert.equal(await discarded((store) => Object.assign(store.model.record!.files[0]!, { sha256: digestOf(FILE), verified: true })), false);
  assert.equal(await discarded((store) => (store.model.record!.files[0]!.address = "m.gguf")), false);
});

test("a file of the same length is not taken for the stored one where only the server now tells versions apart", async () => {
  const [server, store] = [new Server(FILE, { gzip: true }), new MemoryStore()];
  await load(server, { store });
  server.faults = {};
  server.bytes = bytesOf(3700, 2);
  server.etag = '"2"';
  store.drop(1);
  const { bytes, report } = await load(server, { store });
  assert.deepEqual([bytes, report.storedBytes], [server.bytes, 0]);
});

test("a model that is deleted while it is loaded does not go on with what may be another version", async () => {
  const [server, store] = [new Server(FILE, { gzip: true }), new MemoryStore()];
  await load(server, { store });
  server.faults = {};
  const files = await open(server, { store });
  const reader = new Reader(files);
  await reader.read(0, 1000);
  await store.delete([...store.models.keys()][0] as string);
  server.bytes = bytesOf(3700, 2);
  server.etag = '"2"';
  await assert.rejects(reader.read(1000));
  assert.equal(files.fault?.detail, "changed");
  await files.close();
});

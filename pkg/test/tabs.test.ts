// Several tabs that load one model: one download for all of them, and nobody waits for a tab that is dead or hangs.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Browser, bytesOf, failure, load, MemoryStore, open, Reader, Server } from "./stored-load.js";

const FILE = bytesOf(5300);

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

async function tab(server: Server, store: MemoryStore, browser: Browser, stallMs?: number) {
  const files = await open(server, { store, browser, ...(stallMs === undefined ? {} : { stallMs }) });
  return { files, reader: new Reader(files) };
}

test("tabs that load at once ask for every byte once", async () => {
  const [server, store, browser] = [new Server(FILE), new MemoryStore(), new Browser()];
  server.faults.beforePiece = () => turns(1);
  const loads = await Promise.all([1, 2, 3].map(() => load(server, { store, browser })));
  for (const { bytes, report, reader } of loads) {
    assert.deepEqual(bytes, FILE);
    assert.equal(report.reason, undefined);
    assert.equal(reader.retries, 0);
  }
  assert.ok(server.sent.every((times) => times === 1), server.log.join());
  const network = loads.map(({ report }) => report.networkBytes).sort();
  assert.deepEqual(network, [0, 0, 5300]);
  assert.equal(browser.open, 0);
});

test("a tab that is closed in the middle hands over", async () => {
  const [server, store, browser] = [new Server(FILE), new MemoryStore(), new Browser()];
  const first = await tab(server, store, browser);
  await first.reader.read(0, 2300);
  const second = await tab(server, store, browser);
  const loading = second.reader.read();
  while (second.reader.pieces.reduce((a, b) => a + b, 0) < 2000) await turns(1);
  await turns(10);
  await first.files.close();
  assert.deepEqual(await loading, FILE);
  const report = await second.files.finish();
  assert.equal(report.reason, undefined);
  assert.equal(second.reader.retries, 0);
  await second.files.close();
  // What the first had of a chunk in memory went with it.
  assert.deepEqual([...server.sent], Array.from(FILE, (_, at) => (at >= 2000 && at < 2300 ? 2 : 1)));
  assert.deepEqual(store.indices(), [0, 1, 2, 3, 4, 5]);
});

test("a tab that hangs is not waited for", async () => {
  const [server, store, browser] = [new Server(FILE), new MemoryStore(), new Browser()];
  const first = await tab(server, store, browser);
  await first.reader.read(0, 2300);
  const second = await tab(server, store, browser, 60);
  assert.deepEqual(await second.reader.read(), FILE);
  const report = await second.files.finish();
  assert.match(report.reason ?? "", /another tab/);
  assert.equal(report.storedBytes, 2000);
  await second.files.close();
  // The first goes on as if nothing were.
  assert.deepEqual(await first.reader.read(2300), FILE.slice(2300));
  assert.equal((await first.files.finish()).reason, undefined);
  await first.files.close();
  assert.deepEqual(store.indices(), [0, 1, 2, 3, 4, 5]);
});

test("a download that is only to be kept ends at once where a tab that hangs is in the way", async () => {
  const [server, store, browser] = [new Server(FILE), new MemoryStore(), new Browser()];
  const first = await tab(server, store, browser);
  await first.reader.read(0, 2300);
  server.sent.fill(0);
  const error = await failure(load(server, { store, browser, stallMs: 60, keepsOnly: true }));
  assert.equal(error.code, "storage");
  assert.match(error.message, /another tab downloads it.*close that tab/);
  assert.ok(server.sent.reduce((a, b) => a + b, 0) < 500);
  await first.files.close();
});

test("a tab that never tells what it does is not waited for, and nothing stored is used", async () => {
  const [server, store, browser] = [new Server(FILE), new MemoryStore(), new Browser()];
  await load(server, { store });
  const id = [...store.models.keys()][0];
  store.drop(2);
  let release = () => {};
  const hanging = browser.locks.request(`emberglass:${id}`, {}, () => new Promise<void>((resolve) => (release = resolve)));
  const { bytes, report } = await load(server, { store, browser, stallMs: 60 });
  assert.deepEqual(bytes, FILE);
  assert.deepEqual([report.storedBytes, report.networkBytes], [0, 5300]);
  release();
  await hanging;
});

test("a tab that ends its storing leaves the others to themselves", async () => {
  const [server, store, browser] = [new Server(FILE), new MemoryStore(), new Browser()];
  store.room = 2;
  server.faults.beforePiece = () => turns(1);
  const [first, second] = await Promise.all([load(server, { store, browser }), load(server, { store, browser })]);
  assert.deepEqual([first.bytes, second.bytes], [FILE, FILE]);
  assert.match(first.report.reason ?? "", /full/);
  // Two are written at a time, so the third may be there before the second.
  assert.equal(store.indices().length, 2);
});

test("a second tab does not use what the first finds to be old", async () => {
  const [server, store, browser] = [new Server(FILE), new MemoryStore(), new Browser()];
  await load(server, { store });
  store.drop(5);
  server.bytes = bytesOf(5300, 3);
  server.etag = '"2"';
  const [first, second] = await Promise.all([load(server, { store, browser }), load(server, { store, browser })]);
  assert.deepEqual([first.bytes, second.bytes], [server.bytes, server.bytes]);
});

test("a file that changes while two tabs load it ends both, or is the new one as a whole", async () => {
  const [server, store, browser] = [new Server(FILE, { breaks: [2500] }), new MemoryStore(), new Browser()];
  const [first, second] = [await tab(server, store, browser), await tab(server, store, browser)];
  await first.reader.read(0, 2450);
  await second.reader.read(0, 1500);
  server.etag = '"2"';
  await assert.rejects(first.reader.read(2450));
  assert.equal(first.files.fault?.detail, "changed");
  await turns(20);
  await assert.rejects(second.reader.read(1500));
  await first.files.close();
  await second.files.close();
  assert.equal(store.models.size, 0);
});

test("messages of other scripts do no harm", async () => {
  const [server, store, browser] = [new Server(FILE), new MemoryStore(), new Browser()];
  server.faults.beforePiece = () => turns(1);
  const first = await tab(server, store, browser);
  await first.reader.read(0, 1200);
  const [name = ""] = browser.held;
  const stranger = browser.channel(name);
  const second = await tab(server, store, browser);
  const both = Promise.all([first.reader.read(1200), second.reader.read()]);
  for (const message of [null, 7, {}, { kind: "state", files: [{ bytes: -1 }] }, { kind: "stored", chunk: { file: 0, index: 1e99, sha256: "x" } }]) {
    stranger.postMessage(message);
  }
  stranger.postMessage({ kind: "stored", chunk: { file: 0, index: 4, sha256: "0".repeat(64) } });
  const [, bytes] = await both;
  assert.deepEqual(bytes, FILE);
  for (const { files } of [first, second]) await files.close();
  stranger.close();
});

test("a browser without locks stores all the same", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  const browser = { locks: undefined, channel: new Browser().channel };
  const { report } = await load(server, { store, browser });
  assert.equal(report.reason, undefined);
  assert.equal(store.indices().length, 6);
});

test("a tab that follows does not use what it had read ahead of an older version", async () => {
  const [server, store, browser] = [new Server(FILE), new MemoryStore(), new Browser()];
  await load(server, { store });
  // Each tab reads ahead before it finds the damage.
  store.chunk(0).bytes[7]! ^= 1;
  server.bytes = bytesOf(5300, 3);
  server.etag = '"2"';
  const loads = await Promise.all([1, 2, 3].map(() => load(server, { store, browser })));
  for (const { bytes } of loads) assert.deepEqual(bytes, server.bytes);
});

test("a tab that goes on for another takes the rest of an answer that begins before it", async () => {
  const [server, store, browser] = [new Server(FILE), new MemoryStore(), new Browser()];
  const first = await tab(server, store, browser);
  await first.reader.read(0, 2300);
  server.faults = { startsAtZero: true };
  const second = await tab(server, store, browser, 60);
  assert.deepEqual(await second.reader.read(), FILE);
  for (const { files } of [first, second]) await files.close();
});

// The digest of a whole file: over stored and new bytes, before the engine has the last of them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { bytesOf, digestOf, failure, load, MemoryStore, open, Reader, Server, URL_1 } from "./stored-load.js";

const FILE = bytesOf(3700);
const RIGHT = { sha256: [digestOf(FILE)] };
const WRONG = { sha256: ["0".repeat(64)] };

test("the right digest is noted, and not made again", async () => {
  const [server, store] = [new Server(FILE, { breaks: [1200, 900] }), new MemoryStore()];
  const { report } = await load(server, { store, request: RIGHT });
  assert.equal(report.reason, undefined);
  assert.deepEqual(store.model.record!.files[0], { address: URL_1, bytes: 3700, etag: '"1"', sha256: RIGHT.sha256[0], verified: true });
});

test("with a wrong digest the engine never gets the last byte, and nothing stays", async () => {
  for (const faults of [{}, { breaks: [1200] }, { noLength: true }, { gzip: true }, { ignoresRanges: true, breaks: [2100] }]) {
    for (const storage of ["auto", "none"] as const) {
      const [server, store] = [new Server(FILE, faults), new MemoryStore()];
      const files = await open(server, { store, request: { ...WRONG, storage } });
      const reader = new Reader(files);
      const got: number[] = [];
      await assert.rejects(async () => {
        for (let at = 0; at < FILE.length; at += 50) got.push(...(await reader.read(at, at + 50)));
      });
      assert.ok(got.length < FILE.length);
      assert.equal(files.fault?.code, "wrong-digest");
      assert.match(files.fault?.message ?? "", new RegExp(`is ${RIGHT.sha256[0]} instead of 000`));
      await files.close();
      assert.equal(store.models.size, 0);
    }
  }
});

test("stored bytes and new ones have one digest", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  await load(server, { store });
  for (const index of [0, 2, 3]) {
    store.drop(index);
    const { report } = await load(server, { store, request: RIGHT });
    assert.equal(report.reason, undefined);
    assert.equal(store.model.record!.files[0]!.verified, true);
  }
});

test("where the engine jumps, the digest is made at the end", async () => {
  for (const storage of ["auto", "none"] as const) {
    for (const request of [RIGHT, WRONG]) {
      const [server, store] = [new Server(FILE), new MemoryStore()];
      const files = await open(server, { store, request: { ...request, storage } });
      const reader = new Reader(files);
      await reader.read(0, 80);
      await reader.read(2500, 3700);
      if (request === RIGHT) assert.equal((await files.finish()).kind, storage === "auto" ? "opfs" : "none");
      else assert.equal((await failure(files.finish())).code, "wrong-digest");
      await files.close();
      assert.equal(store.models.size, request === RIGHT && storage === "auto" ? 1 : 0);
    }
  }
});

test("a whole stored model is checked against a digest that is given later", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  await load(server, { store });
  server.isGone = true;
  await load(server, { store, request: RIGHT });
  assert.equal(store.model.record!.files[0]!.verified, true);
  delete store.model.record!.files[0]!.verified;
  delete store.model.record!.files[0]!.sha256;
  assert.equal((await failure(load(server, { store, request: WRONG }))).code, "wrong-digest");
  assert.equal(store.models.size, 0);
});

test("another digest than that of the stored model is another file", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  await load(server, { store, request: RIGHT });
  server.bytes = bytesOf(3700, 5);
  server.etag = '"2"';
  const { bytes, report } = await load(server, { store, request: { sha256: [digestOf(server.bytes)] } });
  assert.deepEqual(bytes, server.bytes);
  assert.equal(report.storedBytes, 0);
  assert.equal(store.model.record!.files[0]!.sha256, digestOf(server.bytes));
});

test("damage in a verified file makes it checked again", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  await load(server, { store, request: RIGHT });
  store.chunk(1).bytes[3]! ^= 4;
  await load(server, { store });
  assert.equal(store.model.record!.files[0]!.verified, true);
  // The server has the same length and tag, and other bytes.
  store.chunk(1).bytes[3]! ^= 4;
  server.bytes = bytesOf(3700, 6);
  assert.equal((await failure(load(server, { store }))).code, "wrong-digest");
  assert.equal(store.models.size, 0);
});

test("a chunk that vanished from a verified file is told", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  await load(server, { store, request: RIGHT });
  store.drop(2);
  const { report } = await load(server, { store });
  assert.deepEqual(report.repaired, [{ file: 0, from: 2000, to: 3000 }]);
});

test("a digest that cannot be checked fails the load", async () => {
  for (const storage of ["auto", "none"] as const) {
    const [server, store] = [new Server(FILE, { breaks: [1200] }), new MemoryStore()];
    const files = await open(server, { store, request: { ...RIGHT, storage } });
    await new Reader(files).read(0, 1000);
    server.isGone = true;
    const error = await failure(files.finish());
    assert.deepEqual([error.code, error.detail], ["network", "lost"]);
    await files.close();
  }
});

test("files that the page gives are checked, too", async () => {
  const server = new Server(FILE);
  const source = { blobs: [new Blob([FILE])], names: ["a.gguf"] };
  const files = await open(server, { source, request: RIGHT });
  assert.match((await files.finish()).reason ?? "", /the page gave the file/);
  assert.equal((await failure(open(server, { source, request: WRONG }))).code, "wrong-digest");
  assert.equal((await failure(open(server, { source, request: { sha256: [] } }))).code, "invalid-option");
});

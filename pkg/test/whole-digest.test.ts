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
  for (const faults of [{}, { breaks: [1200] }, { noLength: true }, { gzip: true }, { hides: true }, { ignoresRanges: true, breaks: [2100] }]) {
    for (const storage of ["auto", "none"] as const) {
      const [server, store] = [new Server(FILE, faults), new MemoryStore()];
      const files = await open(server, { store, request: { ...WRONG, storage } });
      const reader = new Reader(files);
      const got: number[] = [];
      await assert.rejects(async () => {
        // Parts whose place is hidden do not tell where the file ends: only one body does.
        const step = "hides" in faults ? FILE.length : 50;
        for (let at = 0; at < FILE.length; at += step) got.push(...(await reader.read(at, at + step)));
      });
      assert.ok(got.length < FILE.length);
      assert.equal(files.fault?.code, "wrong-digest");
      assert.match(files.fault?.message ?? "", new RegExp(`is ${RIGHT.sha256[0]} instead of 000`));
      await files.close();
      assert.equal(store.models.size, 0);
    }
  }
});

test("what came before a break is not asked for again, also where nothing is kept", async () => {
  for (const faults of [{ breaks: [1200, 900] }, { noLength: true, breaks: [1200, 900] }]) {
    const server = new Server(FILE, faults);
    const { bytes } = await load(server, { request: RIGHT });
    assert.deepEqual(bytes, FILE);
    assert.deepEqual(server.log, ["whole", "bytes=1200-", "bytes=2100-"]);
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

test("a hub's listing gives the digest, and is not asked for a model that is stored whole", async () => {
  const [server, store] = [new Server(FILE, { hides: true }), new MemoryStore()];
  let listings = 0;
  const listing = async () => {
    listings++;
    const entry = { type: "file", path: "m-Q4_K_M.gguf", size: 3700, oid: "0".repeat(40), lfs: { oid: RIGHT.sha256[0], size: 3700 } };
    return Response.json([entry]);
  };
  const hub = "http://hub.test";
  const address = `${hub}/owner/repo/resolve/main/m-Q4_K_M.gguf`;
  const servers = { [`${hub}/api/models/owner/repo/tree/main?recursive=true`]: { fetch: listing }, [address]: server };
  const source = { hub: { name: "hf:owner/repo", repository: "owner/repo", revision: "main", hubs: [hub] } };
  for (const request of [{ storage: "none" as const }, {}, {}]) {
    const files = await open(servers, { store, source, request });
    assert.deepEqual(await new Reader(files).read(), FILE);
    assert.equal((await files.finish()).reason === undefined, request.storage === undefined);
    await files.close();
  }
  // Nothing was asked, or read from storage, for the digest alone.
  assert.deepEqual(server.log, ["whole", "whole"]);
  assert.equal(listings, 2);
  assert.equal(store.reads, 4);
  const { source: name, files } = store.model.record!;
  assert.deepEqual([name, files[0]!.address, files[0]!.sha256, files[0]!.verified], ["hf:owner/repo", address, RIGHT.sha256[0], true]);
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

test("a stored model that is loaded by its id stays where the caller's digest is another", async () => {
  for (const request of [{}, RIGHT]) {
    const [server, store] = [new Server(FILE), new MemoryStore()];
    await load(server, { store, request });
    const [id = ""] = store.models.keys();
    const byId = { store, source: { stored: id } };
    server.isGone = true;
    const error = await failure(load(server, { ...byId, request: WRONG }));
    assert.equal(error.code, "wrong-digest");
    assert.match(error.message, /It stays stored: models\.delete deletes it$/);
    assert.deepEqual((await load(server, { ...byId, request: RIGHT })).bytes, FILE);
    assert.equal((await failure(load(server, { ...byId, request: { storage: "none" } }))).code, "invalid-option");
  }
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

test("another digest than that of the stored model deletes nothing where the other file cannot be had", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  await load(server, { store, request: RIGHT });
  server.isGone = true;
  const loading = load(server, { store, request: WRONG });
  await assert.rejects(loading, /Failed to fetch/);
  assert.deepEqual(store.indices(), [0, 1, 2, 3]);
  assert.equal((await load(server, { store })).report.networkBytes, 0);
});

test("a wrong digest of an imported model deletes nothing, and one for each file is wanted", async () => {
  const [server, store] = [new Server(FILE), new MemoryStore()];
  const { report } = await load(server, { store });
  const source = { stored: report.id ?? "" };
  const [wrong] = WRONG.sha256 as [string];
  assert.equal((await failure(open(server, { store, source, request: { sha256: [wrong, wrong] } }))).code, "invalid-option");
  store.model.record!.files[0]!.address = "m.gguf";
  const error = await failure(load(server, { store, source, request: WRONG }));
  assert.equal(error.code, "wrong-digest");
  assert.match(error.message, /stays stored/);
  assert.deepEqual(store.indices(), [0, 1, 2, 3]);
});

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { estimateRoom, inUnits, storageFull, tooLittleRoom } from "../src/storage/room.js";
import type { StoredModel } from "../src/types.js";

const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
afterEach(() => {
  if (before) Object.defineProperty(globalThis, "navigator", before);
  else Reflect.deleteProperty(globalThis, "navigator");
});

function browser(storage: object | undefined): void {
  Object.defineProperty(globalThis, "navigator", { value: { storage }, configurable: true });
}

function model(name: string, storedBytes: number): StoredModel {
  return { id: name, name, source: name, files: [], bytes: storedBytes, storedBytes, complete: true, lastUsed: 0 };
}

const none = () => Promise.resolve([]);

test("what fits is no error, to the last byte", async () => {
  browser({ estimate: async () => ({ usage: 40, quota: 100 }) });
  assert.equal(await tooLittleRoom(60, none), undefined);
  assert.equal((await tooLittleRoom(61, none))?.code, "storage-full");
  // More is used than may be, since the quota has shrunk.
  browser({ estimate: async () => ({ usage: 200, quota: 100 }) });
  assert.match((await tooLittleRoom(1, none))?.message ?? "", /room for 0 bytes/);
});

test("a browser that does not tell its room is tried", async () => {
  for (const storage of [undefined, {}, { estimate: async () => ({}) }, { estimate: () => Promise.reject(new Error("no")) }]) {
    browser(storage);
    assert.deepEqual(await estimateRoom(), { usedBytes: undefined, quotaBytes: undefined });
    assert.equal(await tooLittleRoom(1e15, none), undefined);
  }
});

test("the error names what is needed, what is there, and what could be deleted, the largest first", () => {
  const { message } = storageFull(2.5e9, 1e6, [model("small", 1500), model("large", 3e9), model("empty", 0)]);
  assert.match(message, /2\.5 GB more are needed, and the browser has room for 1\.0 MB\. Delete/);
  assert.match(message, /models\.delete\(id\): large \(3\.0 GB, id large\), small \(1\.5 kB, id small\), or load with storage: "none"/);
  const many = Array.from({ length: 30 }, (_, i) => model(`m${i}`, 1000 + i));
  const { message: long } = storageFull(1, 0, many);
  assert.match(long, /m29 .* and 22 more, or/);
  assert.match(storageFull(1, undefined, []).message, /the browser gives no more\. No stored model could be deleted/);
});

test("bytes are told in decimal units", () => {
  const told = [0, 999, 1000, 12_345, 999_999, 1e9, 123e9, 5e15].map(inUnits);
  assert.deepEqual(told, ["0 bytes", "999 bytes", "1.0 kB", "12.3 kB", "1000 kB", "1.0 GB", "123 GB", "5000 TB"]);
});

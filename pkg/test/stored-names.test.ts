import assert from "node:assert/strict";
import { test } from "node:test";
import { chunkOfName, isModelId, nameOfChunk } from "../src/storage/names.js";
import { MOST_RECORD_BYTES, readRecordText, writeRecordText } from "../src/storage/record.js";

const SHA256 = "0123456789abcdef".repeat(4);

test("the name of a chunk is read back", () => {
  for (const [file, index] of [[0, 0], [12, 345], [9999, 999_999]] as const) {
    const chunk = { file, index, sha256: SHA256 };
    assert.deepEqual(chunkOfName(nameOfChunk(chunk)), chunk);
  }
});

test("no other name is one of a chunk", () => {
  const right = `0-0-${SHA256}`;
  assert.ok(chunkOfName(right));
  for (const name of ["", "record.json", right.slice(1), `0${right}`, `-${right}`, `${right}0`, right.toUpperCase(), `10000-0-${SHA256}`, `0-1000000-${SHA256}`, `${right}\n`, `${right}.crswap`]) {
    assert.equal(chunkOfName(name), undefined, JSON.stringify(name));
  }
});

test("an id is 32 small hexadecimal digits", () => {
  assert.equal(isModelId(SHA256.slice(0, 32)), true);
  for (const id of ["", "..", SHA256, SHA256.slice(0, 31), SHA256.slice(0, 32).toUpperCase(), `${SHA256.slice(0, 32)}\n`]) assert.equal(isModelId(id), false, id);
});

const RECORD = {
  source: "https://host.example/a.gguf",
  files: [{ address: "https://host.example/a.gguf", bytes: 5, etag: '"1"', lastModified: "then", sha256: SHA256, verified: true }, { address: "b" }],
  lastUsed: 1,
};

test("a record is read back, without members that this version does not know", () => {
  assert.deepEqual(readRecordText(writeRecordText(RECORD)), RECORD);
  const later = { ...RECORD, colour: "red", files: RECORD.files.map((file) => ({ ...file, weight: 7 })) };
  assert.deepEqual(readRecordText(JSON.stringify(later)), RECORD);
});

test("a text that was cut or edited is no record", () => {
  const text = writeRecordText(RECORD);
  for (let length = 0; length < text.length; length++) assert.equal(readRecordText(text.slice(0, length)), undefined);
  const file = (change: object) => ({ ...RECORD, files: [{ address: "a", ...change }] });
  const wrong: unknown[] = [
    null,
    7,
    [],
    {},
    { ...RECORD, source: 7 },
    { ...RECORD, source: "x".repeat(20_000) },
    { ...RECORD, lastUsed: -1 },
    { ...RECORD, lastUsed: "1" },
    { ...RECORD, files: [] },
    { ...RECORD, files: { length: 1 } },
    { ...RECORD, files: [null] },
    { ...RECORD, files: Array.from({ length: 10_001 }, () => ({ address: "a" })) },
    file({ address: undefined }),
    file({ bytes: 1.5 }),
    file({ bytes: 1e300 }),
    file({ bytes: null }),
    file({ bytes: 2 ** 43 }),
    file({ etag: {} }),
    file({ etag: '"a\nb"' }),
    file({ lastModified: "\u4e2d" }),
    file({ lastModified: [] }),
    file({ sha256: "abc" }),
    file({ sha256: SHA256.toUpperCase() }),
    file({ verified: 1 }),
  ];
  for (const value of wrong) assert.equal(readRecordText(JSON.stringify(value)), undefined, JSON.stringify(value)?.slice(0, 100));
  assert.equal(readRecordText(text + " ".repeat(MOST_RECORD_BYTES)), undefined);
});

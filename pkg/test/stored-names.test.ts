import assert from "node:assert/strict";
import { test } from "node:test";
import { chunkOfName, isModelId, nameOfChunk } from "../src/storage/names.js";
import { MOST_RECORD_BYTES, readRecordText, writeRecordText } from "../src/storage/record.js";

const SHA256 = "0123456789abcdef".repeat(4);

const ID = SHA256.slice(0, 32);

test("the name of a chunk is read back", () => {
  for (const [file, index] of [[0, 0], [12, 345], [9999, 999_999]] as const) {
    const chunk = { file, index, sha256: SHA256 };
    assert.deepEqual(chunkOfName(ID, nameOfChunk(ID, chunk)), chunk);
  }
});

test("no other name is one of a chunk", () => {
  const right = nameOfChunk(ID, { file: 0, index: 0, sha256: SHA256 });
  assert.ok(chunkOfName(ID, right));
  const beyond = [{ file: 10_000, index: 0 }, { file: 0, index: 1_000_000 }].map((place) => nameOfChunk(ID, { ...place, sha256: SHA256 }));
  const old = `0-0-${SHA256}`;
  for (const name of ["", "record.json", old, right.slice(1), `0${right}`, `-${right}`, `${right}0`, right.toUpperCase(), ...beyond, `${right}\n`, `${right}.crswap`]) {
    assert.equal(chunkOfName(ID, name), undefined, JSON.stringify(name));
  }
});

test("a chunk that was moved to another place, file or model has no name there", () => {
  const right = nameOfChunk(ID, { file: 1, index: 2, sha256: SHA256 });
  for (const moved of [right.replace("1-2-", "1-3-"), right.replace("1-2-", "0-2-"), right.replace("0123", "1023")]) {
    assert.equal(chunkOfName(ID, moved), undefined, moved);
  }
  assert.equal(chunkOfName(ID.replace("0", "1"), right), undefined);
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

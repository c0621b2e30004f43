import assert from "node:assert/strict";
import { test } from "node:test";
import { canonicalAddress, importId, modelId, shownAddress } from "../src/storage/model-id.js";

const FILE = "https://host.example/a/b%20c.gguf";

test("what signs or authorises an address is no part of the model's name", () => {
  for (const address of [
    "https://user:secret@host.example/a/b%20c.gguf#part",
    `${FILE}?X-Amz-Signature=1&X-Amz-Date=2&x-goog-credential=3`,
    `${FILE}?Expires=1&Signature=2&Key-Pair-Id=3&Policy=4`,
    `${FILE}?sv=2024&se=tomorrow&sp=r&sig=abc`,
    `${FILE}?token=a&access_token=b`,
    `${FILE}?api_key=1&API-Key=2&private_token=3&jwt=4&Authorization=5&x-auth=6&client_secret=7`,
  ]) {
    assert.equal(canonicalAddress(address), FILE, address);
  }
});

test("a query that says which file is meant stays", () => {
  for (const query of ["?file=2", "?sp=1", "?expires=never&policy=x", "?a=b+c&d=%20e", "?key=1&author=2&tokens=3"]) {
    assert.equal(canonicalAddress(FILE + query), FILE + query);
  }
  assert.equal(canonicalAddress(`${FILE}?file=2&token=x`), `${FILE}?file=2`);
});

test("an id is 32 hexadecimal digits, and depends on the addresses and their order", async () => {
  const [a, b] = ["https://host.example/1.gguf", "https://host.example/2.gguf"];
  const id = await modelId([a, b]);
  assert.match(id, /^[0-9a-f]{32}$/);
  assert.equal(await modelId([`${a}?token=1`, `${b}#x`]), id);
  assert.equal(new Set(await Promise.all([modelId([a, b]), modelId([b, a]), modelId([a]), modelId([`${a}\n${b}`])])).size, 4);
});

test("an imported model is named by its files' names and their bytes", async () => {
  const sha256 = ["0".repeat(64)];
  const id = await importId([{ name: "a", sha256 }]);
  assert.equal(await importId([{ name: "a", sha256: [...sha256] }]), id);
  assert.notEqual(await importId([{ name: "b", sha256 }]), id);
  assert.notEqual(await importId([{ name: "a", sha256: ["1".repeat(64)] }]), id);
  assert.notEqual(await modelId(["import"]), await importId([]));
});

test("an address is shown without secrets", () => {
  assert.equal(shownAddress("https://user:secret@host.example:8080/a/b.gguf?token=1#x"), "https://host.example:8080/a/b.gguf");
  assert.equal(shownAddress("file:///models/a.gguf"), "file:///models/a.gguf");
  assert.equal(shownAddress("data:text/plain,secret"), "data:");
  assert.equal(shownAddress("model.gguf"), "model.gguf");
});

// The size of a file as the hub's listing has it: the server that sends the file may hide it.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ModelFiles } from "../src/model-files.js";
import { hubModel } from "../src/hub-source.js";
import { bytesOf, digestOf, failure, MemoryStore, open, Reader, Server, type Setup } from "./stored-load.js";

const FILE = bytesOf(3700);
const HUB = "https://hub.test";
const source = { hub: hubModel("hf:o/r", "source", { hubs: [HUB] }) };

/** A server of another origin: its Content-Length may be that of an encoded body. */
function ofAnotherOrigin({ fetch }: Server): Pick<Server, "fetch"> {
  return { fetch: async (url, init) => Object.defineProperty(await fetch(url, init), "type", { value: "cors" }) };
}

/** A hub whose listing says this size. */
function opened(server: Pick<Server, "fetch">, setup: Omit<Setup, "source">, size = FILE.length, sha256 = digestOf(FILE)): Promise<ModelFiles> {
  const listing = JSON.stringify([{ type: "file", path: "m.gguf", size, ...(sha256 === "" ? {} : { lfs: { oid: sha256, size } }) }]);
  const servers = { [`${HUB}/api/models/o/r/tree/main?recursive=true`]: { fetch: async () => new Response(listing) }, [`${HUB}/o/r/resolve/main/m.gguf`]: server };
  return open(servers, { ...setup, source });
}

test("a part of a download has the size of the whole, and room is asked for before it", async () => {
  const store = new MemoryStore();
  const needed: number[] = [];
  const tooLittleRoom = async (bytes: number) => void needed.push(bytes);
  const files = await opened(ofAnotherOrigin(new Server(FILE)), { store, tooLittleRoom });
  assert.equal(files.allBytes(), undefined);
  await new Reader(files).read(0, 1500);
  assert.equal(files.allBytes(), 3700);
  assert.deepEqual(needed, [3700]);
  await files.close();
  assert.equal(store.model.record!.files[0]!.bytes, 3700);
  const again = await opened(ofAnotherOrigin(new Server(FILE)), { store });
  assert.deepEqual(await new Reader(again).read(), FILE);
  assert.equal((await again.finish()).storedBytes, 1000);
  await again.close();
});

test("a file of another size than the listed one is not taken", async () => {
  const another = /m\.gguf has another file, of 3700 bytes instead of \d+$/;
  const cases: [boolean, number, RegExp][] = [
    [false, 3600, another],
    [false, 3800, another],
    [true, 3600, /m\.gguf sends more bytes than the 3600 that the hub lists$/],
  ];
  for (const [hides, size, words] of cases) {
    const store = new MemoryStore();
    const files = await opened(new Server(FILE, { hides }), { store }, size, "");
    const reader = new Reader(files);
    reader.mostRetries = 0;
    await failure(reader.read());
    assert.match(files.fault?.message ?? "", words);
    assert.deepEqual([files.fault?.code, files.fault?.detail], ["network", "wrong-answer"]);
    await files.close();
  }
});

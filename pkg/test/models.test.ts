// The page's half of `models`, over a browser that keeps nothing. What is kept is tested in browsers: tests/e2e/storage.test.mjs.
import assert from "node:assert/strict";
import { test } from "node:test";
import { modelsOver } from "../src/models.js";
import { FakeWorker } from "./fake-engine.js";
import { rejects } from "./harness.js";

const ID = "0".repeat(32);

function fresh() {
  const workers: FakeWorker[] = [];
  const models = modelsOver(() => ({
    spawn: () => {
      const worker = new FakeWorker();
      workers.push(worker);
      return worker;
    },
  }));
  return { models, workers };
}

test("each call has a worker of its own, which ends with it, and which takes no wasm", async () => {
  const { models, workers } = fresh();
  assert.deepEqual(await models.list(), []);
  assert.equal(await models.delete(ID), false);
  await rejects(models.verify(ID), "not-stored");
  await rejects(models.import(new Blob(["GGUF"])), "storage");
  await rejects(models.download("https://example.test/m.gguf"), "storage");
  await rejects(models.export(ID), "not-stored");
  assert.deepEqual(workers.map(({ terminated }) => terminated), workers.map(() => true));
  const verbs = workers.map(({ received }) => received.map(({ verb }) => verb));
  assert.deepEqual(verbs, [["listModels"], ["deleteModel"], ["verifyModel"], ["importModel"], ["download"], ["exportModel"]]);
});

test("what is wrong in a call is told before there is a worker", async () => {
  const { models, workers } = fresh();
  for (const id of ["../x", ID.toUpperCase().replace("0", "A"), undefined as unknown as string]) {
    for (const call of [models.delete, models.verify, models.export]) await rejects(call(id), "invalid-option");
  }
  const wrong = { storge: "none" } as object;
  const source = "https://example.test/m.gguf";
  for (const call of [models.list(wrong), models.usage(wrong), models.delete(ID, wrong), models.verify(ID, wrong), models.export(ID, wrong)]) {
    assert.match((await rejects(call, "invalid-option")).message, /has no option storge/);
  }
  assert.match((await rejects(models.download(source, wrong), "invalid-option")).message, /models\.download has no option storge/);
  await rejects(models.download(source, { storage: "none" } as object), "invalid-option");
  await rejects(models.download(new Blob(["GGUF"])), "invalid-option");
  await rejects(models.import(source as unknown as Blob), "invalid-option");
  for (const name of ["", " ", "folder/", "x".repeat(201)]) await rejects(models.import(new Blob(["GGUF"]), { name }), "invalid-option");
  assert.equal(workers.length, 0);
});

test("names of files lose folders and control characters; a name given counts for the only file", async () => {
  const { models, workers } = fresh();
  const asked = async (names: string[], name?: string) => {
    const files = names.map((one) => new File(["GGUF"], one));
    await rejects(models.import(files.length === 1 ? files[0]! : { shards: files }, name === undefined ? {} : { name }), "storage");
    const { args } = workers.at(-1)!.received[0] as { args: { name: string; names: string[] } };
    return [args.name, ...args.names];
  };
  assert.deepEqual(await asked(["C:\\models\\a\u0000\u001b.gguf"]), ["a.gguf", "a.gguf"]);
  assert.deepEqual(await asked(["a.gguf"], "mine"), ["mine", "mine"]);
  assert.deepEqual(await asked(["a", "b"], "mine"), ["mine", "a", "b"]);
  assert.deepEqual(await asked(["/"]), ["file 1", "file 1"]);
});

test("a call whose signal has fired has no worker", async () => {
  const { models, workers } = fresh();
  const error = await rejects(models.import(new Blob(["GGUF"]), { signal: AbortSignal.abort("enough") }), "aborted");
  assert.equal(error.cause, "enough");
  await rejects(models.download("https://example.test/m.gguf", { signal: AbortSignal.abort() }), "aborted");
  assert.equal(workers.length, 0);
});

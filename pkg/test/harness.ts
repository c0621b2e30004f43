import assert from "node:assert/strict";
import { EmberglassError } from "../src/errors.js";
import type { HelperLike } from "../src/helper-team.js";
import { openTextModel } from "../src/load.js";
import type { TextModel } from "../src/model.js";
import type { LoadOptions } from "../src/types.js";
import { FakeWorker, type Script } from "./fake-engine.js";

export async function load(
  script: Script = {},
  options: LoadOptions = {},
  spawnHelper?: () => HelperLike,
): Promise<{ model: TextModel; worker: FakeWorker }> {
  const worker = new FakeWorker(script);
  const model = await openTextModel("https://example.test/m.gguf", options, () => worker, spawnHelper);
  return { model, worker };
}

/** Rejects with an EmberglassError (the class, not a look-alike) of this code. */
export async function rejects(promise: PromiseLike<unknown>, code: string): Promise<EmberglassError> {
  let caught: unknown;
  await assert.rejects(Promise.resolve(promise), (error) => {
    caught = error;
    return true;
  });
  assert.ok(caught instanceof EmberglassError, `not an EmberglassError: ${String(caught)}`);
  assert.equal(caught.code, code);
  return caught;
}

/** Lets every message in flight arrive. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve));
}

export async function collect<T>(pieces: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const piece of pieces) all.push(piece);
  return all;
}

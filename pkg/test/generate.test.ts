import assert from "node:assert/strict";
import { test } from "node:test";
import type { Generate } from "./fake-engine.js";
import { untilAborted } from "./fake-engine.js";
import type { GenerateResult } from "../src/types.js";
import { collect, load, rejects, settle } from "./harness.js";

test("pieces stream in order, and the result has the whole text", async () => {
  const { model } = await load();
  const generation = model.generate("hi", { maxTokens: 3, seed: undefined as never });
  assert.deepEqual(await collect(generation), ["<", "hi", ">"]);
  assert.equal((await generation.result).text, "<hi>");
  assert.equal(generation.text, "<hi>");
});

test("options are sent as given, undefined ones not at all", async () => {
  const { model, worker } = await load();
  await model.generate("hi", { maxTokens: 3, seed: undefined as never, stop: ["x"] }).result;
  assert.deepEqual(worker.requests, [{ prompt: "hi", maxTokens: 3, stop: ["x"] }]);
});

test("the result says how many drafts were right", async () => {
  const stats = { draftedTokens: 9, acceptedTokens: 6 } as GenerateResult["stats"];
  const { model } = await load({ generate: async () => ({ stats }) }, { draftTokens: 3 });
  assert.deepEqual((await model.generate("hi").result).stats, stats);
});

test("a late reader gets every piece", async () => {
  const { model } = await load();
  const generation = model.generate("hi");
  await generation.result;
  assert.deepEqual(await collect(generation), ["<", "hi", ">"]);
});

test("requests run one after another, in order", async () => {
  const { model, worker } = await load();
  const order: string[] = [];
  await Promise.all(
    ["a", "b", "c"].map((prompt) => model.generate(prompt).result.then(({ text }) => order.push(text))),
  );
  assert.deepEqual(order, ["<a>", "<b>", "<c>"]);
  assert.equal(worker.mostAtOnce, 1);
});

test("tokenize waits for its turn, countTokens counts", async () => {
  const { model } = await load();
  assert.deepEqual(await model.tokenize("AB"), Uint32Array.of(65, 66));
  assert.equal(await model.countTokens("ABC"), 3);
  assert.equal(await model.detokenize([72, 105]), "Hi");
});

test("texts too long for the engine are refused before they reach the worker", async () => {
  const { model, worker } = await load();
  const half = "x".repeat(4 * 1024 * 1024 + 1);
  await rejects(model.tokenize(half + half), "text-too-long");
  await rejects(model.generate(half + half).result, "context-overflow");
  const messages = [half, half].map((content) => ({ role: "user" as const, content }));
  await rejects(model.generate(messages).result, "context-overflow");
  assert.equal(worker.requests.length, 0);
  assert.equal((await model.generate("hi").result).text, "<hi>");
});

test("aborting while generating resolves with the text so far and ends the stream", async () => {
  const { model } = await load({ generate: untilAborted("a", "b") });
  const controller = new AbortController();
  const generation = model.generate("hi", { signal: controller.signal });
  await settle();
  controller.abort();
  assert.deepEqual(await collect(generation), ["a", "b"]);
  const result = await generation.result;
  assert.equal(result.finishReason, "aborted");
  assert.equal(result.text, "ab");
});

test("leaving the loop stops the engine, and the next request runs", async () => {
  let calls = 0;
  const generate: Generate = (...args) => (calls++ === 0 ? untilAborted("a", "b")(...args) : Promise.resolve({ text: "next" }));
  const { model } = await load({ generate });
  const generation = model.generate("hi");
  for await (const piece of generation) {
    assert.equal(piece, "a");
    break;
  }
  assert.equal((await generation.result).finishReason, "aborted");
  assert.equal((await model.generate("again").result).text, "next");
});

test("aborting while queued rejects with AbortError and never reaches the engine", async () => {
  const { model, worker } = await load({ generate: untilAborted("a") });
  const first = model.generate("first");
  const controller = new AbortController();
  const second = model.generate("second", { signal: controller.signal });
  await settle();
  controller.abort();
  assert.equal((await rejects(second.result, "aborted")).name, "AbortError");
  await rejects(collect(second), "aborted");
  first.abort();
  await first.result;
  await settle();
  assert.deepEqual(worker.requests.map(({ prompt }) => prompt), ["first"]);
});

test("an engine error rejects the result and the stream, and the queue goes on", async () => {
  let calls = 0;
  const { model } = await load({
    generate: async (_request, onPiece) => {
      if (calls++ > 0) return { text: "fine" };
      onPiece("half");
      throw { code: "device-lost", message: "gone" };
    },
  });
  const generation = model.generate("hi");
  const pieces: string[] = [];
  const reading = (async () => {
    for await (const piece of generation) pieces.push(piece);
  })();
  await rejects(reading, "device-lost");
  await rejects(generation.result, "device-lost");
  assert.deepEqual(pieces, ["half"]);
  assert.equal((await model.generate("hi").result).text, "fine");
});

test("a trap rejects every pending request with wasm-trap, and later ones", async () => {
  const { model, worker } = await load({ generate: () => Promise.reject(new WebAssembly.RuntimeError("unreachable")) });
  const first = model.generate("a").result;
  const second = model.generate("b").result;
  const error = await rejects(first, "wasm-trap");
  assert.match(error.message, /unreachable/);
  assert.match(String(error.cause), /RuntimeError/);
  await rejects(second, "wasm-trap");
  await rejects(model.tokenize("x"), "wasm-trap");
  assert.equal(worker.terminated, true);
  assert.equal(worker.requests.length, 1);
});

test("a trap outside any promise still rejects the request under way", async () => {
  const { model, worker } = await load({ generate: () => new Promise(() => {}) });
  const { result } = model.generate("a");
  await settle();
  worker.uncaught(new WebAssembly.RuntimeError("unreachable"));
  await rejects(result, "wasm-trap");
});

test("a worker that dies rejects the request under way", async () => {
  const { model, worker } = await load({ generate: () => new Promise(() => {}) });
  const { result } = model.generate("a");
  await settle();
  worker.crash("Uncaught Error: boom");
  assert.match((await rejects(result, "worker-failed")).message, /boom/);
});

test("a value that cannot be cloned is invalid-option, and the queue goes on", async () => {
  const { model } = await load();
  await rejects(model.generate("x", { logitBias: (() => 1) as never }).result, "invalid-option");
  assert.equal((await model.generate("x").result).text, "<x>");
});

test("dispose stops the running request, rejects the waiting ones, frees, then ends the worker", async () => {
  const { model, worker } = await load({ generate: untilAborted("a") });
  const running = model.generate("a");
  const waiting = model.generate("b");
  await settle();
  await model.dispose();
  assert.equal((await running.result).finishReason, "aborted");
  await rejects(waiting.result, "disposed");
  await rejects(model.generate("c").result, "disposed");
  assert.equal(worker.freed, true);
  assert.equal(worker.terminated, true);
  await model.dispose();
});

test("dispose does not wait for ever for an engine that hangs", async () => {
  const { model, worker } = await load({ generate: () => new Promise(() => {}) });
  const { result } = model.generate("a");
  await settle();
  await model.dispose();
  await rejects(result, "disposed");
  assert.equal(worker.terminated, true);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { untilAborted } from "./fake-engine.js";
import { collect, load, rejects, settle } from "./harness.js";

const messages = [{ role: "user" as const, content: "hi" }];

test("a whole answer has OpenAI's shape and usage", async () => {
  const { model, worker } = await load();
  const answer = await model.chat.completions.create({
    messages: [{ role: "developer", content: "s" }, { role: "user", content: [{ type: "text", text: "hi" }] }],
    max_tokens: 9,
    top_p: 0.5,
    stop: "END",
    seed: null,
  });
  assert.equal(answer.object, "chat.completion");
  assert.equal(answer.model, "fake");
  assert.deepEqual(answer.choices, [
    { index: 0, message: { role: "assistant", content: "<hi>", refusal: null }, finish_reason: "stop", logprobs: null },
  ]);
  assert.deepEqual(answer.usage, {
    prompt_tokens: 5,
    completion_tokens: 3,
    total_tokens: 8,
    prompt_tokens_details: { cached_tokens: 2 },
  });
  assert.deepEqual(worker.requests[0], {
    messages: [{ role: "system", content: "s" }, { role: "user", content: "hi" }],
    maxTokens: 9,
    topP: 0.5,
    stop: ["END"],
  });
});

test("a streamed answer: role first, then pieces, then the reason, then usage", async () => {
  const { model } = await load({
    generate: async (_request, onPiece) => {
      onPiece("a");
      onPiece("b");
      return { text: "ab", finishReason: "context-full" };
    },
  });
  const chunks = await collect(
    await model.chat.completions.create({ messages, stream: true, stream_options: { include_usage: true } }),
  );
  assert.deepEqual(
    chunks.map(({ choices }) => choices[0] && [choices[0].delta, choices[0].finish_reason]),
    [[{ role: "assistant", content: "" }, null], [{ content: "a" }, null], [{ content: "b" }, null], [{}, "length"], undefined],
  );
  assert.equal(chunks.at(-1)?.usage?.total_tokens, 8);
  assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
});

test("stopping: a stream ends quietly without a reason, a whole answer is an AbortError", async () => {
  const { model } = await load({ generate: untilAborted("a") });
  const stream = await model.chat.completions.create({ messages, stream: true });
  const reading = collect(stream);
  await settle();
  stream.controller.abort();
  assert.equal((await reading).at(-1)?.choices[0]?.finish_reason, null);

  const controller = new AbortController();
  const whole = model.chat.completions.create({ messages }, { signal: controller.signal });
  await settle();
  controller.abort();
  await rejects(whole, "aborted");
});

test("leaving the stream stops the engine", async () => {
  const { model } = await load({ generate: untilAborted("a") });
  for await (const chunk of await model.chat.completions.create({ messages, stream: true })) {
    if (chunk.choices[0]?.delta.content === "a") break;
  }
  // Waits its turn behind the stream: it would never come if the engine still ran.
  assert.equal(await model.countTokens("x"), 1);
});

test("what is not supported is refused by name", async () => {
  const { model } = await load();
  await rejects(model.chat.completions.create({ messages, n: 2 }), "invalid-option");
  await rejects(model.chat.completions.create({ messages: [{ role: "tool" as never, content: "" }] }), "invalid-option");
});

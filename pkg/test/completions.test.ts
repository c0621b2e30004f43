import assert from "node:assert/strict";
import { test } from "node:test";
import type { NeutralParams } from "../src/completions.js";
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

test("answers on a page without https, which has no crypto.randomUUID", async (t) => {
  Object.defineProperty(crypto, "randomUUID", { value: undefined, configurable: true });
  t.after(() => Reflect.deleteProperty(crypto, "randomUUID"));
  const { model } = await load();
  const ids = await Promise.all([1, 2].map(async () => (await model.chat.completions.create({ messages })).id));
  for (const id of ids) assert.match(id, /^chatcmpl-[0-9a-f]{32}$/);
  assert.notEqual(ids[0], ids[1]);
});

test("leaving the stream stops the engine", async () => {
  const { model } = await load({ generate: untilAborted("a") });
  for await (const chunk of await model.chat.completions.create({ messages, stream: true })) {
    if (chunk.choices[0]?.delta.content === "a") break;
  }
  // Waits its turn behind the stream: it would never come if the engine still ran.
  assert.equal(await model.countTokens("x"), 1);
});

test("what would change the answer and is not supported is refused by name", async () => {
  const { model, worker } = await load();
  const wrong: [object, RegExp][] = [
    [{ n: 2 }, /^option n = 2 is not supported: only 1 is$/],
    [{ tools: [{ type: "function", function: { name: "f" } }] }, /^option tools = \[\{"type":"function".* is not supported: only \[\] is$/],
    [{ tool_choice: "required" }, /^option tool_choice = "required"/],
    [{ tool_choice: { type: "function", function: { name: "f" } } }, /^option tool_choice/],
    [{ functions: [{ name: "f" }] }, /^option functions/],
    [{ function_call: { name: "f" } }, /^option function_call/],
    [{ response_format: { type: "json_object" } }, /^option response_format = \{"type":"json_object"\} is not supported: only \{"type":"text"\} is$/],
    [{ response_format: { type: "json_schema", json_schema: { name: "x", schema: {} } } }, /^option response_format/],
    [{ logprobs: true }, /^option logprobs/],
    [{ top_logprobs: 3 }, /^option top_logprobs/],
    [{ modalities: ["text", "audio"] }, /^option modalities/],
    [{ audio: { voice: "x", format: "wav" } }, /^option audio .*: leave it out$/],
    [{ reasoning_effort: "low" }, /^option reasoning_effort/],
    [{ verbosity: "low" }, /^option verbosity/],
    [{ prediction: { type: "content", content: "x" } }, /^option prediction/],
    [{ web_search_options: {} }, /^option web_search_options/],
    [{ service_tier: "priority" }, /^option service_tier/],
    [{ store: true }, /^option store/],
    [{ user: 5 }, /^option user = 5 is not a string/],
    [{ metadata: { a: 1 } }, /^option metadata\["a"\] = 1/],
    [{ stream: "yes" }, /^option stream/],
    [{ stream_options: { include_obfuscation: true } }, /^option stream_options\.include_obfuscation = true is not supported/],
    [{ stream_options: { usage: true } }, /^option stream_options has no member usage/],
    [{ max_tokens: 5, max_completion_tokens: 6 }, /max_tokens = 5 and max_completion_tokens = 6/],
    [{ temperature: "1" }, /^option temperature/],
    [{ stop: 5 }, /^option stop/],
    [{ logit_bias: { 5: "1" } }, /^option logit_bias/],
    [{ min_tokens: 5 }, /^chat.completions.create has no option min_tokens: there are /],
    [{ moderation: {} }, /^option moderation .*: leave it out$/],
    [{ messages: undefined }, /^option messages = undefined is not an array$/],
    [{ messages: null }, /^option messages = undefined is not an array$/],
    [{ messages: [{ role: "tool", content: "", tool_call_id: "x" }] }, /^option messages\[0\]\.role = "tool" is not one of system, developer, user, assistant$/],
    [{ messages: [{ role: "user", content: "x", tool_call_id: "x" }] }, /^option messages\[0\]\.tool_call_id = "x" is not supported: leave it out$/],
    [{ messages: [{ role: "function", content: "" }] }, /^option messages\[0\]\.role = "function"/],
    [{ messages: [{ role: "user", content: "x", name: "Jo" }] }, /^option messages\[0\]\.name = "Jo" is not supported: leave it out$/],
    [{ messages: [{ role: "assistant", content: null, tool_calls: [{ id: "1" }] }] }, /^option messages\[0\]\.tool_calls .*not supported/],
    [{ messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "x" } }] }] }, /^option messages\[0\]\.content\[0\] has no member image_url/],
    [{ messages: [{ role: "user", content: [{ type: "input_audio" }] }] }, /^option messages\[0\]\.content\[0\]\.type = "input_audio" is not one of text$/],
    [{ messages: [{ role: "user", content: [{ type: "text", text: 5 }] }] }, /^option messages\[0\]\.content\[0\]\.text = 5/],
  ];
  for (const [params, words] of wrong) {
    assert.match((await rejects(model.chat.completions.create({ messages, ...params } as never), "invalid-option")).message, words);
  }
  assert.equal((await rejects(model.chat.completions.create({ messages, n: 2 } as never), "invalid-option")).detail, "n");
  assert.equal(worker.requests.length, 0);
});

test("what asks for nothing changes nothing", async () => {
  const { model, worker } = await load();
  const nothing: Required<NeutralParams> = {
    n: 1,
    logprobs: false,
    top_logprobs: 0,
    response_format: { type: "text" },
    modalities: ["text"],
    verbosity: "medium",
    service_tier: "auto",
    store: false,
    tools: [],
    tool_choice: "auto",
    parallel_tool_calls: true,
    functions: [],
    function_call: "none",
    user: "somebody",
    safety_identifier: "x",
    metadata: { a: "b" },
    prompt_cache_key: "x",
    prompt_cache_retention: "24h",
  };
  await model.chat.completions.create({ messages, ...nothing });
  const nulls = Object.fromEntries([...Object.keys(nothing), "temperature", "max_tokens", "stop", "audio", "reasoning_effort", "model", "stream"].map((name) => [name, null]));
  await model.chat.completions.create({ messages, ...nulls });
  assert.deepEqual(worker.requests, [{ messages }, { messages }]);
});

test("an answer goes back as it came", async () => {
  const { model, worker } = await load();
  const { choices } = await model.chat.completions.create({ messages });
  await model.chat.completions.create({ messages: [...messages, choices[0]!.message, { role: "assistant", content: null, annotations: [] }, ...messages] });
  assert.deepEqual(worker.requests[1]?.messages, [...messages, { role: "assistant", content: "<hi>" }, { role: "assistant", content: "" }, ...messages]);
});

test("the engine's errors have the names that were given", async () => {
  const generate = () => Promise.reject({ code: "invalid-option", detail: "maxTokens", message: "option maxTokens = -1 is out of range (0 to 9)" });
  const { model } = await load({ generate });
  for (const name of ["max_tokens", "max_completion_tokens"]) {
    const whole = model.chat.completions.create({ messages, [name]: -1 });
    const { message, detail } = await rejects(whole, "invalid-option");
    assert.deepEqual([message, detail], [`option ${name} = -1 is out of range (0 to 9)`, name]);
    const stream = await model.chat.completions.create({ messages, stream: true, [name]: -1 });
    assert.equal((await rejects(collect(stream), "invalid-option")).message, `option ${name} = -1 is out of range (0 to 9)`);
  }
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { EmberglassError } from "../src/errors.js";
import { writeLatents, readLatents } from "../src/latent-file.js";
import { openImageDecoder, openTextModel } from "../src/load.js";
import { type Kinds, number, options, text } from "../src/options.js";
import { FakeWorker } from "./fake-engine.js";
import { collect, load, rejects } from "./harness.js";

const hi = [{ role: "user" as const, content: "hi" }];
const latents = { channels: 1, height: 1, width: 2, data: Float32Array.of(3, 4) };

/** Values of every kind, and objects that cannot be read. */
const NONSENSE: unknown[] = [
  undefined, null, true, 0, -0, -1, 1.5, NaN, Infinity, 2 ** 53, 1e300, 5n, Symbol("s"), "", "x", "5", () => {}, [], [null], [[]], {}, { a: 1 },
  new Map([[1, 2]]), new Date(0), new Proxy({}, { ownKeys: () => { throw new Error("boo"); }, get: () => { throw new Error("boo"); } }),
  { get temperature() { throw new TypeError("boo"); } }, Object.assign(Object.create(null), { signal: 5 }), new AbortController(), new ArrayBuffer(4), Promise.resolve(),
  (() => { const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); return proxy; })(),
];

type Call = (value: never) => unknown;

/** Every argument of every public function. */
async function entries(): Promise<[string, Call][]> {
  const { model } = await load();
  const vae = await openImageDecoder("https://e.test/v", {}, () => new FakeWorker({ image: {} }));
  const chat = model.createChat();
  const { completions } = model.chat;
  const worker = () => new FakeWorker({ image: {} });
  return [
    ["loadTextModel(source)", (v) => openTextModel(v, {}, worker)],
    ["loadTextModel(options)", (v) => openTextModel("https://e.test/m", v, worker)],
    ["loadImageDecoder(source)", (v) => openImageDecoder(v, {}, worker)],
    ["loadImageDecoder(options)", (v) => openImageDecoder("https://e.test/m", v, worker)],
    ["generate(input)", (v) => model.generate(v).result],
    ["generate(message)", (v) => model.generate([v]).result],
    ["generate(options)", (v) => model.generate("x", v).result],
    ["generate(options), read", (v) => collect(model.generate("x", v))],
    ["send(text)", (v) => chat.send(v).result],
    ["send(options)", (v) => chat.send("x", v).result],
    ["regenerate(options)", (v) => chat.regenerate(v).result],
    ["create(params)", (v) => completions.create(v)],
    ["create(messages)", (v) => completions.create({ messages: v })],
    ["create(message)", (v) => completions.create({ messages: [v] })],
    ["create(content)", (v) => completions.create({ messages: [{ role: "user", content: v }] })],
    ["create(part)", (v) => completions.create({ messages: [{ role: "user", content: [v] }] })],
    ["create(options)", (v) => completions.create({ messages: hi }, v)],
    ["tokenize(text)", (v) => model.tokenize(v)],
    ["tokenize(options)", (v) => model.tokenize("x", v)],
    ["detokenize(ids)", (v) => model.detokenize(v)],
    ["detokenize(options)", (v) => model.detokenize([1], v)],
    ["countTokens(text)", (v) => model.countTokens(v)],
    ["countTokens(options)", (v) => model.countTokens("x", v)],
    ["decode(latents)", (v) => vae.decode(v)],
    ["decode(data)", (v) => vae.decode({ ...latents, data: v })],
    ["decode(options)", (v) => vae.decode(latents, v)],
    ["decodeTo(canvas)", (v) => vae.decodeTo(v, latents)],
    ["decodeTo(latents)", (v) => vae.decodeTo({ transferControlToOffscreen: () => ({}) } as never, v)],
    ["decodeTo(options)", (v) => vae.decodeTo({ transferControlToOffscreen: () => ({}) } as never, latents, v)],
    ["encode(source)", (v) => vae.encode(v)],
    ["encode(options)", (v) => vae.encode({ width: 8, height: 8, data: new Uint8ClampedArray(256) } as ImageData, v)],
    ["sample(seed)", (v) => vae.sample(v)],
    ["sample(options)", (v) => vae.sample(1, v)],
    ["refreshInfo(options)", (v) => vae.refreshInfo(v)],
    ["loadImageDecoder(shareWith)", (v) => openImageDecoder("https://e.test/m", { shareWith: v }, worker)],
    ["loadImageDecoder(shareWith), a proxy", () => openImageDecoder("https://e.test/m", { shareWith: new Proxy(model, {}) }, worker)],
    ["readLatents(source)", (v) => readLatents(v)],
  ];
}

test("whatever is given, what comes back is a result or an EmberglassError, and never at once", async () => {
  for (const [name, call] of await entries()) {
    for (const value of NONSENSE) {
      let answer: unknown;
      assert.doesNotThrow(() => (answer = call(value as never)), name);
      assert.ok(answer instanceof Promise, name);
      const error = await answer.then(() => undefined, (thrown: unknown) => thrown);
      if (error === undefined || (error instanceof EmberglassError && error.code !== "internal")) continue;
      // Engines of these tests have no images, and their canvases no contexts.
      assert.match(String(error), /not scripted|getContext/, name);
    }
  }
});

test("what is no promise throws an EmberglassError", async () => {
  const { model } = await load();
  const chat = model.createChat();
  for (const value of NONSENSE) {
    for (const call of [
      () => model.createChat(value as never),
      () => model.createChat({ messages: value as never }),
      () => model.createChat({ system: value as never }),
      () => (chat.system = value as never),
      () => writeLatents(value as never),
    ]) {
      try {
        call();
      } catch (error) {
        assert.ok(error instanceof EmberglassError, String(error));
      }
    }
  }
  for (const system of [null, 5, {}]) assert.throws(() => model.createChat({ system: system as never }), { code: "invalid-option", message: /system/ });
});

test("a wrong kind of value is named with the option, the value and what is expected", async () => {
  const wrong: [string, unknown, RegExp][] = [
    ["temperature", "0.5", /^option temperature = "0.5" is not a number$/],
    ["temperature", null, /^option temperature = null is not a number$/],
    ["temperature", {}, /^option temperature = \{\} is not a number$/],
    ["seed", 2n ** 70n, /^option seed = 1180591620717411303424n is not a number$/],
    ["maxTokens", "5", /^option maxTokens = "5"/],
    ["topK", [1], /^option topK = \[1\]/],
    ["penaltyWindow", Symbol("w"), /^option penaltyWindow = Symbol\(w\)/],
    ["stop", ".", /^option stop = "\." is not an array$/],
    ["stop", null, /^option stop = null is not an array$/],
    ["stop", ["a", 5], /^option stop\[1\] = 5 is not a string$/],
    ["stop", new Array(1), /^option stop\[0\] = undefined is not a string$/],
    ["logitBias", new Map([[5, 1]]), /^option logitBias = a Map is not an object$/],
    ["logitBias", [], /^option logitBias = \[\] is not an object$/],
    ["logitBias", () => 1, /^option logitBias = a function is not an object$/],
    ["logitBias", { 5: "1" }, /^option logitBias\["5"\] = "1" is not a number$/],
    ["signal", 5, /^option signal = 5 is not an AbortSignal$/],
    ["signal", new AbortController(), /^option signal = an AbortController is not an AbortSignal$/],
    ["signal", { aborted: false, addEventListener() {}, [Symbol.toStringTag]: "AbortSignal" }, /is not an AbortSignal$/],
  ];
  const { model, worker } = await load();
  for (const [name, value, words] of wrong) {
    assert.match((await rejects(model.generate("x", { [name]: value }).result, "invalid-option")).message, words);
  }
  const long = await rejects(model.generate("x", { seed: "1".repeat(1e6) as never }).result, "invalid-option");
  assert.ok(long.message.length < 200);
  const getter = await rejects(model.generate("x", { get seed(): number { throw new Error("boo"); } }).result, "invalid-option");
  assert.match(getter.message, /options of generate could not be read: "boo"/);
  assert.equal(worker.requests.length, 0);
});

test("an option that is not known is named, and the one that was meant", async () => {
  const { model, worker } = await load();
  const chat = model.createChat();
  const meant: [Promise<unknown>, RegExp][] = [
    [model.generate("x", { max_tokens: 5 } as never).result, /^generate has no option max_tokens: did you mean maxTokens\?$/],
    [model.generate("x", { temprature: 1 } as never).result, /temprature: did you mean temperature\?/],
    [model.generate("x", { TopK: 1 } as never).result, /TopK: did you mean topK\?/],
    [model.generate("x", { foo: 1 } as never).result, /^generate has no option foo: there are maxTokens, stop, seed, temperature/],
    [model.generate("x", JSON.parse('{ "__proto__": { "temperature": 0 } }')).result, /option __proto__/],
    [model.generate("x", { constructor: 1 } as never).result, /option constructor/],
    [chat.send("x", { maxToken: 1 } as never).result, /^send has no option maxToken: did you mean maxTokens\?$/],
    [chat.regenerate({ seeds: 1 } as never).result, /^regenerate has no option seeds: did you mean seed\?$/],
    [openTextModel("https://e.test/m", { nCtx: 5 } as never, () => assert.fail("a worker")), /^loadTextModel has no option nCtx: did you mean contextLength\?$/],
    [openTextModel("https://e.test/m", { progress_callback: () => {} } as never, () => assert.fail("a worker")), /did you mean onProgress\?$/],
    [openTextModel("https://e.test/m", { useCache: false } as never, () => assert.fail("a worker")), /did you mean storage\?$/],
    [openTextModel("https://e.test/m", { token: "hf_x" } as never, () => assert.fail("a worker")), /did you mean accessToken\?$/],
    [model.generate("x", { cache: true } as never).result, /^generate has no option cache: there are maxTokens/],
    // Options of other libraries: those that exist here, and those that only have a similar name.
    [model.generate("x", { n_predict: 5 } as never).result, /did you mean maxTokens\?$/],
    [model.generate("x", { max_new_tokens: 5 } as never).result, /did you mean maxTokens\?$/],
    [model.generate("x", { repeat_penalty: 1.1 } as never).result, /did you mean repetitionPenalty\?$/],
    [model.generate("x", { abortSignal: 5 } as never).result, /did you mean signal\?$/],
    [model.generate("x", { n_ctx: 5 } as never).result, /^generate has no option n_ctx: there are maxTokens/],
    [model.generate("x", { min_tokens: 5 } as never).result, /^generate has no option min_tokens: there are maxTokens/],
    [model.generate("x", { top_a: 0.1 } as never).result, /: there are /],
    [model.chat.completions.create({ messages: hi, stop_sequences: ["x"] } as never), /did you mean stop\?$/],
    [model.chat.completions.create({ messages: hi, num_predict: 5 } as never), /did you mean max_tokens\?$/],
    [openTextModel("https://e.test/m", { context_length: 5 } as never, () => assert.fail("a worker")), /did you mean contextLength\?/],
    [openImageDecoder("https://e.test/m", { contextLength: 5 } as never, () => assert.fail("a worker")), /^loadImageDecoder has no option contextLength/],
    [model.tokenize("x", { specials: true } as never), /did you mean special\?/],
    [model.detokenize([1], { special: true } as never), /^detokenize has no option special: there are signal$/],
    [model.chat.completions.create({ messages: hi, maxTokens: 5 } as never), /^chat.completions.create has no option maxTokens: did you mean max_tokens\?$/],
    [model.chat.completions.create({ messages: hi }, { timeout: 5 } as never), /no option timeout/],
    [model.generate([{ role: "user", content: "x", name: "Jo" } as never]).result, /^messages\[0\] has no member name: there are role, content$/],
  ];
  for (const [promise, words] of meant) assert.match((await rejects(promise, "invalid-option")).message, words);
  assert.throws(() => model.createChat({ sytem: "x" } as never), { code: "invalid-option", message: /did you mean system\?/ });
  assert.equal(worker.requests.length, 0);
  // Undefined is "not given", whatever its name.
  await model.generate("x", { max_tokens: undefined, seed: undefined } as never).result;
  assert.deepEqual(worker.requests, [{ prompt: "x" }]);
});

test("messages are checked by role and content, and null is an empty text", async () => {
  const { model, worker } = await load();
  for (const [message, words] of [
    [{ role: "tool", content: "x" }, /^messages\[0\]\.role = "tool" is not one of system, user, assistant$/],
    [{ role: "constructor", content: "x" }, /role = "constructor"/],
    [{ role: "__proto__", content: "x" }, /role = "__proto__"/],
    [{ content: "x" }, /^messages\[0\]\.role = undefined/],
    [{ role: "user" }, /^messages\[0\]\.content = undefined is not a string$/],
    [{ role: "user", content: 5 }, /^messages\[0\]\.content = 5/],
    [{ role: "user", content: [{ type: "text", text: "x" }] }, /content = \[\{"type":"text"/],
    ["x", /^messages\[0\] = "x" is not an object$/],
  ] as const) {
    assert.match((await rejects(model.generate([message] as never).result, "invalid-option")).message, words);
  }
  await model.generate([{ role: "assistant", content: null as never }, ...hi]).result;
  assert.deepEqual(worker.requests.at(-1)?.messages, [{ role: "assistant", content: "" }, ...hi]);
});

test("options are read once: what the caller changes later does not matter", async () => {
  const { model, worker } = await load();
  const stop = ["a"];
  const messages = [{ ...hi[0]! }];
  const first = model.generate("x").result;
  const second = model.generate(messages, { stop }).result;
  stop.push(5 as never);
  messages[0]!.content = "changed";
  await Promise.all([first, second]);
  assert.deepEqual(worker.requests[1], { messages: hi, stop: ["a"] });
});

test("token ids are whole numbers of 32 bits", async () => {
  const { model } = await load();
  for (const id of [-1, 1.5, NaN, 2 ** 32, "5", 5n, null]) {
    assert.match((await rejects(model.detokenize([65, id] as never), "invalid-option")).message, /^argument ids\[1\] = .* is not a whole number from 0 to 4294967295$/);
  }
  await rejects(model.detokenize("65" as never), "invalid-option");
  const transferred = Uint32Array.of(65);
  structuredClone(transferred, { transfer: [transferred.buffer] });
  assert.match((await rejects(model.detokenize(transferred), "invalid-option")).message, /^argument ids = a Uint32Array .*transferred$/);
  assert.equal(await model.detokenize(Uint32Array.of(65)), "A");
});

test("a generation can be read twice, and stopped twice", async () => {
  const { model } = await load();
  const generation = model.generate("hi");
  assert.deepEqual(await Promise.all([collect(generation), collect(generation)]), [["<", "hi", ">"], ["<", "hi", ">"]]);
  generation.abort();
  generation.abort();
  assert.equal((await generation.result).finishReason, "stop");
});

test("frameworks make no proxies of what has private members", async () => {
  const { model } = await load();
  const vae = await openImageDecoder("https://e.test/v", {}, () => new FakeWorker({ image: {} }));
  // Vue wraps what calls itself a plain object, even one deep in another.
  const names = [model, model.createChat(), model.generate("x"), vae].map((object) => Object.prototype.toString.call(object));
  assert.deepEqual(names, ["[object TextModel]", "[object Chat]", "[object Generation]", "[object ImageDecoder]"]);
});

test("a table of kinds has every member of its type, and no other", () => {
  interface Two {
    a?: number;
    b?: string | undefined;
  }
  const both: Kinds<Two> = { a: number, b: text };
  // @ts-expect-error One is missing.
  const one: Kinds<Two> = { a: number };
  // @ts-expect-error One is of another kind.
  const other: Kinds<Two> = { a: number, b: number };
  // @ts-expect-error One is too much.
  const three: Kinds<Two> = { a: number, b: text, c: text };
  assert.deepEqual([one, other, three].length, 3);
  assert.deepEqual(options<Two>("f", both, { a: 1, b: undefined }), { a: 1 });
});

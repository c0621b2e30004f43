// What callers may get wrong, up to the real engine: ranges that the engine checks, sources in all forms, texts without
// words, and conversations that overflow. Names and kinds of options are tested in pkg/test/options.test.ts.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, openPage, PATIENCE, SITE } from "./harness.mjs";
import { packageServer } from "./package-server.mjs";

let server, browser, visit, page;

before(async () => {
  server = await packageServer(SITE);
  browser = await launch();
  visit = await openPage(browser, { site: server.site, path: "/package/" });
  ({ page } = visit);
  await page.evaluate(async () => {
    window.CPU = { device: "cpu", threads: 1 };
    window.fate = (promise) => promise.then((value) => ({ value }), (error) => ({ code: error.code, message: error.message, class: error instanceof emberglass.EmberglassError }));
    window.model = await emberglass.loadTextModel("tiny-chat.gguf", { ...CPU, contextLength: 64 });
  });
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** Words of Rust and its libraries, which no caller knows. */
const FOREIGN_WORDS = /\b(u8|u16|u32|u64|i32|i64|usize|serde|inf|None|Some|Option|struct|invalid type|invalid value)\b/;

/** `tries` are expressions of the page, with what the error says. */
async function refused(tries, code = "invalid-option") {
  for (const [expression, words] of tries) {
    const error = await page.evaluate((expression) => fate((async () => eval(expression))()), expression);
    assert.deepEqual([error.code, error.class], [code, true], `${expression}: ${JSON.stringify(error)}`);
    assert.match(error.message, words, expression);
    assert.doesNotMatch(error.message, FOREIGN_WORDS, expression);
  }
}

test("a number out of its range is an error with name, value and range", { timeout: PATIENCE }, async () => {
  const generate = (options) => `model.generate("x", { maxTokens: 2, ...${options} }).result`;
  const whole = (name, value, most) => [generate(`{ ${name}: ${value} }`), new RegExp(`^option ${name} = \\S+ is out of range \\(a whole number from 0 to ${most}\\)$`)];
  const between = (name, value, range) => [generate(`{ ${name}: ${value} }`), new RegExp(`^option ${name} = \\S+ is out of range \\(${range}\\)$`)];
  const each = (values, of) => values.map(of);
  const nonsense = ["NaN", "Infinity", "-Infinity", "1e300"];
  await refused([
    ...each(["-1", "1.5", "2 ** 53", ...nonsense], (v) => whole("maxTokens", v, "9007199254740991")),
    ...each(["-1", "1.5", "2 ** 53", ...nonsense], (v) => whole("seed", v, "9007199254740991")),
    ...each(["-1", "1.5", "2 ** 32", ...nonsense], (v) => whole("topK", v, "4294967295")),
    ...each(["-1", "1.5", "2 ** 32", ...nonsense], (v) => whole("penaltyWindow", v, "4294967295")),
    ...each(["-0.1", "101", ...nonsense], (v) => between("temperature", v, "0 to 100")),
    ...each(["-0.1", "1.1", ...nonsense], (v) => between("topP", v, "0 to 1")),
    ...each(["-0.1", "1.1", ...nonsense], (v) => between("minP", v, "0 to 1")),
    ...each(["0", "-1", "101", ...nonsense], (v) => between("repetitionPenalty", v, "above 0, at most 100")),
    ...each(["-101", "101", ...nonsense], (v) => between("presencePenalty", v, "-100 to 100")),
    ...each(["-101", "101", ...nonsense], (v) => between("frequencyPenalty", v, "-100 to 100")),
    [generate("{ temperature: Infinity }"), /temperature = Infinity /],
    [generate("{ seed: 1e300 }"), /seed = 1e\+?300 /],
    [generate("{ logitBias: { 96: 1 } }"), /^option logitBias = a bias for token 96 is out of range \(token ids from 0 to 95\)$/],
    ...each(["abc", "-1", "1.5", "1e1", "05", "+5", " 5", "4294967296", "NaN", ""], (key) => [
      generate(`{ logitBias: { ${JSON.stringify(key)}: 1 } }`),
      /^option logitBias = a bias for ".*" is out of range \(token ids as keys\)$/,
    ]),
    ...each(["NaN", "Infinity", "1e39"], (v) => [generate(`{ logitBias: { 5: ${v} } }`), /^option logitBias = (NaN|Infinity) for token 5 is out of range \(a finite number, or -Infinity/]),
    [generate("{ logitBias: Object.fromEntries(Array.from({ length: 96 }, (_, id) => [id, -Infinity])) }"), /at least one token must stay allowed/],
    [generate('{ stop: [""] }'), /^option stop = an empty string is out of range/],
    [generate('{ stop: Array.from({ length: 1025 }, (_, i) => "z" + i) }'), /^option stop = 1025 strings .*at most 1024 strings/],
    ["model.detokenize([5, 96])", /^option ids = 96 at 1 is out of range \(token ids from 0 to 95\)$/],
    ["model.chat.completions.create({ messages: [{ role: 'user', content: 'x' }], top_p: 2 })", /^option top_p = 2 is out of range \(0 to 1\)$/],
    ["model.chat.completions.create({ messages: [{ role: 'user', content: 'x' }], max_completion_tokens: -1 })", /^option max_completion_tokens = -1 /],
  ]);
  const load = (options) => `emberglass.loadTextModel("tiny.gguf", { ...CPU, ...${options} })`;
  await refused([
    ...each(["0", "1.5", "257", "NaN", "1e300"], (v) => [
      load(`{ contextLength: ${v} }`),
      /^option contextLength = \S+ is out of range \(a whole number from 1 to 256, the context that this model was trained with\)$/,
    ]),
    ...each(["8", "NaN"], (v) => [load(`{ draftTokens: ${v} }`), /^option draftTokens = \S+ is out of range \(a whole number from 0 to 7\)$/]),
    ...each(["0", "33", "NaN"], (v) => [load(`{ threads: ${v} }`), /^option threads = \S+ is not a whole number from 1 to 32$/]),
    ...each(["4", "Infinity"], (v) => [load(`{ activationBits: ${v} }`), /^option activationBits = \S+ is out of range \(8 or 16\)$/]),
    ...each(["0", "NaN", "2 ** 31"], (v) => [load(`{ stallTimeoutMs: ${v} }`), /^option stallTimeoutMs = \S+ is out of range \(milliseconds, from 1 to 2147483647\)$/]),
    [load("{ retryTimeoutMs: -1 }"), /^option retryTimeoutMs = -1 is out of range \(milliseconds, from 0 to 2147483647\)$/],
    [load('{ device: "gpu" }'), /^option device = gpu is out of range \(auto, webgpu or cpu\)$/],
    [load('{ kvCache: "q4" }'), /^option kvCache = q4 is out of range \(f32, f16 or q8_0\)$/],
  ]);
  // The ends of the ranges are in them.
  const ends = await page.evaluate(async () => {
    const none = await model.generate("x", { maxTokens: 0 }).result;
    const zero = await model.generate("x", { maxTokens: -0, seed: -0, temperature: -0 }).result;
    const most = await model.generate("x", { maxTokens: 2, seed: 2 ** 53 - 1, topK: 2 ** 32 - 1, penaltyWindow: 2 ** 32 - 1, temperature: 100, topP: 0, minP: 1, stop: [] }).result;
    const openai = await model.chat.completions.create({ messages: [{ role: "user", content: "x" }], max_tokens: 0 });
    return [none.text, none.finishReason, zero.finishReason, most.seed, openai.choices[0].message.content, openai.choices[0].finish_reason];
  });
  assert.deepEqual(ends, ["", "length", "length", 2 ** 53 - 1, "", "length"]);
});

test("image models say ranges too", { timeout: PATIENCE }, async () => {
  await page.evaluate(async () => {
    window.vae = await emberglass.loadImageDecoder("/emoji/emoji-vae.safetensors", { device: "cpu" });
    window.latents = await vae.sample(1);
  });
  await refused([
    ["vae.sample(-1)", /^option seed = -1 is out of range \(a whole number/],
    ["vae.sample(1, { spread: 11 })", /^option spread = 11 is out of range \(0 to 10\)$/],
    ["vae.sample(1, { spread: NaN })", /^option spread = NaN/],
    ["vae.decode({ ...latents, channels: 3 })", /latents/],
    ["vae.decode({ ...latents, height: 1.5 })", /^option latents = 1.5 is out of range/],
    ["vae.decode({ channels: 3, height: 1, width: 1, data: [1, 2, 3] })", /^option latents = 3 channels, 1 × 1 is out of range \(16 channels, and sides from 1 to 1024\)$/],
    ["vae.decode({ ...latents, data: new Float32Array(5) })", /^option latents = 5 values for a shape of/],
    ["vae.decode({ ...latents, data: latents.data.map(() => NaN) })", /^option latents = NaN at 0/],
    ["vae.decode(latents, { memoryBytes: -1 })", /^option memoryBytes = -1 is out of range/],
    ["vae.decode(latents, { memoryBytes: 5 })", /^option memoryBytes = 5 bytes, where this size needs/],
    ["vae.encode(new ImageData(8, 8), { maxSide: NaN })", /^option maxSide = NaN/],
    ["vae.encode(new ImageData(8, 8), { seed: 0.5 })", /^option seed = 0.5/],
    ["vae.encode(new Response('x'))", /^argument source = a Response is no picture: give an image file as a Blob/],
    ["vae.encode(document.body)", /picture \(HTMLBodyElement\) could not be read/],
    ["vae.decodeTo(document.body, latents)", /^argument canvas = an? HTMLBodyElement is neither a canvas/],
    ["emberglass.loadImageDecoder('/emoji/emoji-vae.safetensors', { device: 'cpu', precision: 'f8' })", /^option precision = f8 is out of range \(f32 or f16\)$/],
  ]);
  await page.evaluate(() => vae.dispose());
});

test("a file loads in whatever form the page has it", { timeout: PATIENCE }, async () => {
  const texts = await page.evaluate(async () => {
    const buffer = await (await fetch("tiny.gguf")).arrayBuffer();
    const folder = await navigator.storage.getDirectory();
    const handle = await folder.getFileHandle("tiny.gguf", { create: true });
    const writable = await handle.createWritable();
    await writable.write(buffer);
    await writable.close();
    const frame = document.body.appendChild(document.createElement("iframe"));
    const sources = {
      address: "tiny.gguf",
      url: new URL("tiny.gguf", location.href),
      blob: new Blob([buffer]),
      file: new File([buffer], "tiny.gguf"),
      buffer,
      bytes: new Uint8Array(buffer),
      part: new DataView(buffer),
      response: await fetch("tiny.gguf"),
      handle,
      shards: { shards: [buffer] },
      shared: new Uint8Array(new SharedArrayBuffer(buffer.byteLength)),
      otherWindow: new frame.contentWindow.Blob([buffer]),
    };
    sources.shared.set(new Uint8Array(buffer));
    const texts = {};
    for (const [name, source] of Object.entries(sources)) {
      const loaded = await emberglass.loadTextModel(source, CPU);
      texts[name] = (await loaded.generate("a", { temperature: 0, maxTokens: 8 }).result).text;
      await loaded.dispose();
    }
    return texts;
  });
  assert.equal(new Set(Object.values(texts)).size, 1, JSON.stringify(texts));
  await refused([["fetch('tiny.gguf', { method: 'HEAD' }).then((r) => r.text().then(() => emberglass.loadTextModel(r)))", /read already/]]);
  // Not in Node, whose proxies of a Blob can be read.
  await refused([["emberglass.loadTextModel(new Proxy(new Blob(['x']), {}))", /^source = a Blob is a copy or a proxy.*give the object itself$/]]);
  await refused([["fetch('/no/such/file').then((r) => emberglass.loadTextModel(r))", /answered 404/]], "http-status");
});

test("nothing to answer is empty-prompt", { timeout: PATIENCE }, async () => {
  await refused(
    [
      "model.generate('').result",
      "model.generate([]).result",
      "model.generate([{ role: 'user', content: '' }]).result",
      "model.generate([{ role: 'user', content: null }, { role: 'assistant', content: '' }]).result",
      "model.chat.completions.create({ messages: [] })",
      "model.chat.completions.create({ messages: [{ role: 'user', content: [] }] })",
      "model.createChat().send('').result",
      "model.createChat().regenerate().result",
    ].map((expression) => [expression, /empty|no message to answer/]),
    "empty-prompt",
  );
});

test("a chat goes on after a message that overflows the context, and says what to do once all do", { timeout: PATIENCE }, async () => {
  const { long, after, filled, errors, undone } = await page.evaluate(async () => {
    const chat = model.createChat();
    const say = (text) => fate(chat.send(text, { temperature: 0, maxTokens: 4 }).result);
    await say("one");
    const long = await say("x".repeat(70));
    await say("two");
    const after = chat.messages.map(({ role }) => role);
    let last;
    do last = await say("fills");
    while (last.value);
    const filled = chat.messages;
    const errors = [last, await say("more"), await fate(chat.regenerate({ temperature: 0, maxTokens: 4 }).result)];
    const undone = [chat.undo(), await say("fits"), chat.messages.at(-2).content];
    chat.reset();
    undone.push(await say("anew"));
    return { long, after, filled, errors, undone };
  });
  assert.equal(long.code, "context-overflow");
  assert.match(long.message, /^the prompt has \d+ tokens, \d+ too many: the context holds 64\b.*undo.*reset.*contextLength \(at most 256 for this model\)$/);
  assert.deepEqual(after, ["user", "assistant", "user", "assistant"]);
  assert.equal(filled.at(-1).role, "assistant");
  assert.deepEqual(errors.map(({ code }) => code), ["context-overflow", "context-overflow", undefined]);
  assert.match(errors[1].message, / too many: .*\(reset\)/);
  assert.equal(undone[0], "fills");
  assert.ok(undone[1].value, JSON.stringify(undone[1]));
  assert.equal(undone[2], "fits");
  assert.ok(undone[3].value);
  await refused([["(async () => { const full = await emberglass.loadTextModel('tiny-chat.gguf', CPU); await full.generate('x'.repeat(300)).result.finally(() => full.dispose()); })()", /256.*\(reset\)$/]], "context-overflow");
});

test("the page has no complaint", () => {
  assert.deepEqual(visit.complaints.filter((text) => !text.includes("404")), []);
});

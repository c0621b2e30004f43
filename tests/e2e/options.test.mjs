// Load options of the npm package in a real browser: drafts, the KV cache's type, kernels, defaults of sampling. On the CPU with the default
// model, on the software adapter with a tiny one.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, openPage, PATIENCE, SITE, WEBGPU } from "./harness.mjs";
import { packageServer } from "./package-server.mjs";
import { tinyModel } from "./tiny-model.mjs";

const COPY = `${"Monday, Tuesday, Wednesday, Thursday. ".repeat(4)}Monday,`;

let server, browser, page;

before(async () => {
  server = await packageServer(SITE);
  browser = await launch(WEBGPU);
  ({ page } = await openPage(browser, { site: server.site, path: "/package/" }));
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** Loads, continues a text that repeats itself, and tells of both. */
async function run(options, tiny) {
  return page.evaluate(
    async ({ options, tiny, prompt }) => {
      const { default: offered } = await (await fetch("/models/manifest.json")).json();
      const model = await emberglass.loadTextModel(tiny ? "tiny.gguf" : `/${offered.url}`, { contextLength: 256, ...options });
      try {
        const { text, stats } = await model.generate(prompt, { temperature: 0, maxTokens: 24 }).result;
        return { info: model.info, text, stats };
      } finally {
        await model.dispose();
      }
    },
    { options, tiny, prompt: COPY },
  );
}

for (const { device, tiny, most } of [{ device: "cpu", tiny: false, most: 3 }, { device: "webgpu", tiny: true, most: 7 }]) {
  // A software adapter takes long: `cargo xtask test --exhaustive` asks it, too.
  const skip = device === "webgpu" && !process.env.EMBERGLASS_EXHAUSTIVE;
  test(`drafts change no text on ${device}, and some of them are right`, { timeout: PATIENCE, skip }, async () => {
    const plain = await run({ device }, tiny);
    assert.equal(plain.info.draftTokens, 0);
    const drafted = await run({ device, draftTokens: 7 }, tiny);
    assert.equal(drafted.info.draftTokens, most);
    assert.equal(drafted.text, plain.text);
    console.log(`${device}: ${drafted.stats.acceptedTokens} of ${drafted.stats.draftedTokens} drafts accepted: ${JSON.stringify(drafted.text)}`);
    if (!tiny) assert.ok(drafted.stats.acceptedTokens > 4, "a text that repeats itself is foreseen");
  });

  test(`the KV cache is f16 on ${device} if it is not told otherwise, and q8_0 takes less`, { timeout: PATIENCE, skip }, async () => {
    const [f32, f16, q8] = [await run({ device, kvCache: "f32" }, tiny), await run({ device }, tiny), await run({ device, kvCache: "q8_0" }, tiny)];
    assert.deepEqual([f32, f16, q8].map(({ info }) => info.kvCache), ["f32", "f16", "q8_0"]);
    assert.equal(f16.info.kvBytes, f32.info.kvBytes / 2);
    assert.equal(q8.info.kvBytes, (f32.info.kvBytes * 9) / 32);
    if (device === "webgpu") {
      const saved = f32.info.gpuBytes - f16.info.gpuBytes;
      assert.equal(saved, f32.info.kvBytes / 2);
    } else {
      assert.equal(f16.text, f32.text);
      assert.match(q8.text, /Tuesday/);
    }
  });
}

test("kernels are chosen, remembered for the next load, and can be pinned", { timeout: PATIENCE }, async () => {
  await page.evaluate(() => localStorage.clear());
  const first = await run({ device: "webgpu" }, true);
  assert.deepEqual(first.info.device.features, ["subgroups"]);
  assert.match(first.info.device.kernelsReason, /software adapter/);
  const again = await run({ device: "webgpu" }, true);
  assert.equal(again.info.device.kernelsReason, "Kernels as measured at an earlier load.");
  assert.equal(again.info.device.kernels, first.info.device.kernels);
  const pinned = await run({ device: "webgpu", kernels: "lanes4+pairs1+subgroups+dot4/memory" }, true);
  assert.equal(pinned.info.device.kernelsReason, "Kernels as asked for.");
  assert.equal(pinned.info.device.kernels, "lanes4+pairs1+subgroups+dot4/memory");
  const missing = await run({ device: "webgpu", kernels: "lanes8+pairs1+f16/f16" }, true).catch((error) => String(error));
  assert.match(missing, /no f16/);
  const refused = await run({ device: "webgpu", kernels: "lanes9/nonsense" }, true).catch((error) => String(error));
  assert.match(refused, /kernels/);
});

/** Recommended by a file: greedy, and two that cannot be applied. */
const RECOMMENDED = [
  ["general.sampling.temp", 0],
  ["general.sampling.top_p", 1.5],
  ["general.sampling.mirostat", 2],
];

/** The texts of seeds 1 and 2, which differ unless the draw is greedy, and what the model says of its defaults. */
async function sampled(load, request = {}, more = RECOMMENDED) {
  const bytes = tinyModel({ more }).toString("base64");
  return page.evaluate(
    async ({ bytes, load, request }) => {
      const file = new Blob([Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0))]);
      const model = await emberglass.loadTextModel(file, { device: "cpu", threads: 1, ...load });
      try {
        const text = async (seed) => (await model.generate("abc", { seed, maxTokens: 16, topK: undefined, ...request }).result).text;
        return { texts: [await text(1), await text(2)], info: model.info };
      } finally {
        await model.dispose();
      }
    },
    { bytes, load, request },
  );
}

test("a file's recommended sampling is used, and what cannot be applied is named", { timeout: PATIENCE }, async () => {
  const { texts, info } = await sampled({});
  assert.equal(texts[0], texts[1], "temperature 0 of the file");
  assert.deepEqual(info.sampling.temperature, { value: 0, from: "file" });
  assert.deepEqual(info.sampling.topP, { value: 0.95, from: "engine" });
  assert.deepEqual(info.samplingNotApplied, [
    { key: "general.sampling.mirostat", value: "2", reason: "the engine does not have this sampler" },
    { key: "general.sampling.top_p", value: "1.5", reason: "out of range (0 to 1)" },
  ]);
});

test("an option of the load comes before the file, and one of a request before both", { timeout: PATIENCE }, async () => {
  const loaded = await sampled({ sampling: { temperature: 2, minP: 0 } });
  assert.notEqual(loaded.texts[0], loaded.texts[1], "temperature 2 of the load");
  assert.deepEqual(loaded.info.sampling.temperature, { value: 2, from: "option" });
  assert.deepEqual(loaded.info.sampling.minP, { value: 0, from: "option" });
  const asked = await sampled({ sampling: { temperature: 2, minP: 0 } }, { temperature: 0 });
  assert.equal(asked.texts[0], asked.texts[1], "temperature 0 of the request");
  const plain = await sampled({}, {}, []);
  assert.deepEqual(plain.info.sampling.temperature, { value: 0.8, from: "engine" });
  assert.deepEqual(plain.info.samplingNotApplied, []);
});

test("a default of sampling that is out of range is refused before the weights are read", { timeout: PATIENCE }, async () => {
  for (const [sampling, named] of [[{ topP: 2 }, /topP.*0 to 1/], [{ topK: 1.5 }, /topK/], [{ top_p: 0.9 }, /top_p/]]) {
    await assert.rejects(sampled({ sampling }), named);
  }
});

test("OpenAI's call takes the same defaults", { timeout: PATIENCE }, async () => {
  const texts = await page.evaluate(async () => {
    const { default: offered } = await (await fetch("/models/manifest.json")).json();
    const model = await emberglass.loadTextModel(`/${offered.url}`, { device: "cpu", contextLength: 256, sampling: { temperature: 0 } });
    try {
      const create = (seed, temperature) =>
        model.chat.completions.create({ messages: [{ role: "user", content: "Name a colour." }], max_tokens: 8, seed, temperature });
      const text = async (...wish) => (await create(...wish)).choices[0].message.content;
      return [await text(1), await text(2, null), await text(1, 5)];
    } finally {
      await model.dispose();
    }
  });
  assert.equal(texts[0], texts[1]);
  assert.notEqual(texts[0], texts[2]);
});

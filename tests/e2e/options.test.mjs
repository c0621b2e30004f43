// Load options of the npm package in a real browser: drafts, the KV cache's type, kernels. On the CPU with the default
// model, on the software adapter with a tiny one.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, openPage, PATIENCE, SITE, WEBGPU } from "./harness.mjs";
import { packageServer } from "./package-server.mjs";

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
  test(`drafts change no text on ${device}, and some of them are right`, { timeout: PATIENCE }, async () => {
    const plain = await run({ device }, tiny);
    assert.equal(plain.info.draftTokens, 0);
    const drafted = await run({ device, draftTokens: 7 }, tiny);
    assert.equal(drafted.info.draftTokens, most);
    assert.equal(drafted.text, plain.text);
    console.log(`${device}: ${drafted.stats.acceptedTokens} of ${drafted.stats.draftedTokens} drafts accepted: ${JSON.stringify(drafted.text)}`);
    if (!tiny) assert.ok(drafted.stats.acceptedTokens > 4, "a text that repeats itself is foreseen");
  });

  // A software adapter takes long: `cargo xtask test --exhaustive` asks it, too.
  const skip = device === "webgpu" && !process.env.EMBERGLASS_EXHAUSTIVE;
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

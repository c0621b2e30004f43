// Measures Emberglass on WebGPU (software adapter) and wllama on the CPU (one thread), one after the
// other in one headless Chromium, and prints the results as JSON: node run.mjs MODEL.gguf
// Emberglass must be built first: cargo xtask demo --no-serve.

import { readFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { CHROMIUM, serve } from "../serve.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const [model] = process.argv.slice(2);
if (!model) throw new Error("usage: node run.mjs MODEL.gguf");
const { bench } = JSON.parse(await readFile(join(here, "../reference/prompts.json"), "utf8"));

const server = await serve({ "/": here, "/model.gguf": resolve(model), "/pkg": join(here, "../../pkg") });
const WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
const browser = await chromium.launch({ ...CHROMIUM, args: [...(CHROMIUM.args ?? []), ...WEBGPU] });
const options = {
  modelUrl: `${server.origin}/model.gguf`,
  promptText: bench.text,
  promptTokens: bench.ids.length,
  decodeTokens: 32,
  end: [0, 2, 4], // SmolLM2's ends of text
};

async function measure(html, name) {
  const page = await browser.newPage();
  page.setDefaultTimeout(600_000);
  page.on("pageerror", (error) => console.error(error));
  await page.goto(`${server.origin}/${html}`);
  await page.waitForFunction((name) => window[name], name);
  const result = await page.evaluate(([name, options]) => window[name](options), [name, options]);
  await page.close();
  return result;
}

try {
  const emberglass = await measure("emberglass.html", "runEmberglass");
  const wllama = await measure("wllama.html", "runWllama");
  console.log(JSON.stringify({ chromium: browser.version(), emberglass, wllama }, null, 1));
} finally {
  await browser.close();
  await server.close();
}

// Measures wllama once in headless Chromium and prints the result as JSON: node run.mjs MODEL.gguf

import { readFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { CHROMIUM, serve } from "../serve.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const [model] = process.argv.slice(2);
if (!model) throw new Error("usage: node run.mjs MODEL.gguf");
const { bench } = JSON.parse(await readFile(join(here, "../reference/prompts.json"), "utf8"));

const server = await serve({ "/": here, "/model.gguf": resolve(model) });
const browser = await chromium.launch(CHROMIUM);
try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => console.error(error));
  await page.goto(`${server.origin}/wllama.html`);
  await page.waitForFunction(() => window.runWllama);
  const result = await page.evaluate((options) => window.runWllama(options), {
    modelUrl: "/model.gguf",
    promptText: bench.text,
    promptTokens: bench.ids.length,
    decodeTokens: 64,
  });
  console.log(JSON.stringify({ chromium: browser.version(), ...result }));
} finally {
  await browser.close();
  await server.close();
}

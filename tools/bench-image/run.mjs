// Compares decoders in headless Chromium: see README.md. `node run.mjs ORT_DIST ONNX_FOLDER TAEF2_FOLDER [SIDE [ENGINES [RUNS [THREADS]]]]`
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { ISOLATION, serve } from "../serve.mjs";

const [ortDist, onnx, taef2, side = "32", engines = "cpu,ort-wasm,webgpu,ort-webgpu", runs = "3", threads = "1"] = process.argv.slice(2);
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const { chromium } = createRequire(here("../../tests/e2e/package.json"))("playwright-core");
const FLAGS = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];

const server = await serve({ "/": here("."), "/pkg": here("../../pkg"), "/ort": ortDist, "/onnx": onnx, "/taef2": taef2 }, ISOLATION);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: [...FLAGS, ...WEBGPU] });
try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => console.error(String(error)));
  await page.goto(`${server.origin}/page.html?side=${side}&engines=${engines}&runs=${runs}&threads=${threads}`);
  await page.waitForFunction(() => window.result, undefined, { timeout: 1_800_000 });
  const rows = await page.evaluate(() => window.result);
  console.log(`Chromium ${browser.version()}, TAEF2 decoder, ${8 * side} × ${8 * side} pixels`);
  console.table(rows);
} finally {
  await browser.close();
  await server.close();
}

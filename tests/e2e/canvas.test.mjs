// A canvas that the GPU itself draws on. Chromium's software adapter only survives that where all of its graphics are
// Vulkan's, and the package only asks real adapters for it: this one is passed off as real.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { countPipelines, launch, openPage, PATIENCE, SITE, WEBGPU } from "./harness.mjs";
import { packageServer } from "./package-server.mjs";

const VULKAN = ["--enable-features=Vulkan", "--use-vulkan=swiftshader", "--use-angle=swiftshader"];

let server, browser, visit;

before(async () => {
  server = await packageServer(SITE);
  browser = await launch([...WEBGPU, ...VULKAN]);
  visit = await openPage(browser, { site: server.site, path: "/package/" });
});
after(async () => {
  await browser?.close();
  await server?.close();
});

test("a picture goes from the GPU to a canvas without a readback", { timeout: PATIENCE }, async () => {
  const { page } = visit;
  // A language model on the CPU: a worker in which there is no device yet.
  await page.evaluate(async () => {
    window.model = await emberglass.loadTextModel("tiny.gguf", { device: "cpu", threads: 1, contextLength: 64 });
  });
  const [worker] = page.workers();
  await worker.evaluate(countPipelines);
  await worker.evaluate(() => {
    Object.defineProperty(GPUAdapterInfo.prototype, "isFallbackAdapter", { get: () => false });
    self.maps = 0;
    const { mapAsync } = GPUBuffer.prototype;
    GPUBuffer.prototype.mapAsync = function (...args) {
      self.maps += 1;
      return mapAsync.apply(this, args);
    };
  });
  const loaded = await page.evaluate(async () => {
    window.vae = await emberglass.loadImageDecoder("/emoji/emoji-vae.safetensors", { device: "webgpu", shareWith: model });
    window.small = await vae.sample(1);
    window.want = (await vae.decode(small)).data;
    window.canvas = document.body.appendChild(document.createElement("canvas"));
    return vae.info.device;
  });
  assert.deepEqual([loaded.kind, loaded.isFallbackAdapter], ["webgpu", false]);
  const maps = () => worker.evaluate(() => self.maps);
  const compiled = await worker.evaluate(() => self.pipelines);
  assert.ok(compiled.sync === 0 && compiled.async > 5, JSON.stringify(compiled));
  const before = await maps();
  const shown = await page.evaluate(async () => {
    // Twice: the second goes to a canvas that the worker has already.
    await vae.decodeTo(canvas, small);
    const { width, height, stats } = await vae.decodeTo(canvas, small);
    return [width, height, stats.dispatches > 0];
  });
  assert.deepEqual(shown, [64, 64, true]);
  assert.equal(await maps(), before, "nothing was read back");
  const apart = await page.evaluate(async () => {
    for (let tries = 0; ; tries++) {
      await new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)));
      const bitmap = await createImageBitmap(canvas);
      const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
      context.drawImage(bitmap, 0, 0);
      const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
      const apart = data.length === want.length ? data.reduce((top, value, i) => Math.max(top, Math.abs(value - want[i])), 0) : Infinity;
      if (apart === 0 || tries === 50) return apart;
    }
  });
  assert.equal(apart, 0);
  await visit.screenshot("image-canvas");
  assert.deepEqual(visit.complaints, []);
});

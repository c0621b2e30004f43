// The GPU, by Chromium's software adapter. That is slow, so only what must run there is tested there: subgroups, an
// answer, Stop, and losing the device. Firefox's is some ten times as fast: tour.test.mjs has longer answers and the
// pictures. `?device=webgpu` asks for the GPU, since the CPU is faster by far.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { countPipelines, launch, openPage, PATIENCE, prefaceWorkers, WEBGPU } from "./harness.mjs";

const FRANCE = "What is the capital of France?";

let browser, chat, compiled;

before(async () => {
  browser = await launch(WEBGPU);
});
after(() => browser?.close());

test("left to itself the page prefers the CPU to a software adapter, and says so", { timeout: PATIENCE }, async () => {
  const page = await openPage(browser);
  await page.load();
  assert.match(await page.status(), /CPU · /);
  const note = await page.why();
  assert.match(note, /software/);
  assert.match(note, /graphics driver/);
  assert.deepEqual(page.complaints, []);
  await page.close();
});

test("a device that is none is refused by name", { timeout: PATIENCE }, async () => {
  const page = await openPage(browser, { path: "/?device=%3Cb%3Enpu" });
  assert.equal(await page.errorCode(), "invalid-option");
  assert.match(await page.get("error").innerText(), /"<b>npu"/);
  await page.get("load-button").waitFor();
  await page.close();
});

test("asked for the GPU, the page uses it", { timeout: PATIENCE }, async () => {
  chat = await openPage(browser, { path: "/?device=webgpu" });
  await prefaceWorkers(chat.page, countPipelines);
  const start = performance.now();
  await chat.load();
  console.log(`loaded in ${((performance.now() - start) / 1000).toFixed(1)} s; ${await chat.status()}`);
  const status = await chat.status();
  assert.match(status, /WebGPU · /);
  assert.match(status, /software adapter/);
  assert.match(status, /154 dispatches\/token/);
  assert.match(status, /subgroups/, "the worker asks for them, since wgpu does not");
  assert.match(await chat.why(), /Kernels for a software adapter. lanes1\+pairs2\/quads/);
});

test("all pipelines were compiled while loading, beside everything else and many at once", async () => {
  compiled = await pipelines();
  console.log(`${compiled.async} pipelines, up to ${compiled.most} at once`);
  assert.equal(compiled.sync, 0, "the device stood still for a pipeline");
  assert.equal(compiled.compiling, 0, "the model was ready before its pipelines");
  assert.ok(compiled.async >= 10 && compiled.most >= 5, JSON.stringify(compiled));
});

test("the GPU's answer is right", { timeout: 2 * PATIENCE }, async () => {
  await chat.set({ temperature: 0, maxTokens: 8 });
  assert.match(await chat.ask(FRANCE), /Paris/);
  assert.match(await chat.status(), /tokens\/s/);
  assert.deepEqual(await pipelines(), compiled, "nothing is compiled while the visitor waits");
});

test("Stop stops the GPU", { timeout: PATIENCE }, async () => {
  await chat.set({ maxTokens: 1000 });
  await chat.begin("Write a long story about a lighthouse keeper.");
  await chat.get("stop").click();
  const stopped = await chat.answered("stopped");
  await chat.page.waitForTimeout(1000);
  assert.equal(await chat.answerText(), stopped, "the text grows no more");
});

test("when the GPU goes away in the middle of an answer, the CPU goes on with the conversation", { timeout: 2 * PATIENCE }, async () => {
  const talk = await chat.conversation();
  await chat.set({ maxTokens: 24 });
  await chat.begin(FRANCE);
  await crashGpu();
  assert.equal(await chat.errorCode(), "device-lost");
  await chat.screenshot("gpu-lost");
  await chat.get("error").getByText("Go on on the CPU").click();
  await chat.ready();
  assert.match(await chat.status(), /CPU · /);
  assert.match(await chat.answered(), /Paris/);
  const after = await chat.conversation();
  assert.deepEqual(after.slice(0, -1), [...talk, FRANCE]);
  assert.equal(await chat.get("error").count(), 0);
  chat.assertNoStrangers();
});

/** What the engine's worker has counted. */
function pipelines() {
  return chat.page.workers()[0].evaluate(() => self.pipelines);
}

/** Ends the browser's GPU process, as a driver that crashes does. The call itself may not return. */
async function crashGpu() {
  const devtools = await browser.newBrowserCDPSession();
  devtools.send("Browser.crashGpuProcess").catch(() => {});
}

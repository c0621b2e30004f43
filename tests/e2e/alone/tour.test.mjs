// A short visit with each browser. Their WebAssembly, workers, shared memory, canvases and WebGPU are written by different
// people. The other files ask Chromium the same and everything else, so it takes the tour with --exhaustive only.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { canvasBytes, launch, openPage, PATIENCE, SITE, WEBGPU } from "../harness.mjs";
import { launchWebKit } from "../webkit.mjs";

const FRANCE = "What is the capital of France?";

const BROWSERS = {
  chromium: { launch: () => launch(WEBGPU, "chromium"), simd: "relaxed SIMD" },
  firefox: { launch: () => launch(WEBGPU, "firefox"), simd: "relaxed SIMD" },
  webkit: { launch: () => launchWebKit(), simd: "SIMD" },
};

for (const [name, { launch, simd }] of Object.entries(BROWSERS)) {
  const skip = name === "chromium" && !process.env.EMBERGLASS_EXHAUSTIVE && "only with --exhaustive";
  describe(name, { skip }, () => {
    let browser, chat;

    before(async () => {
      browser = await launch();
      console.log(`${name} ${browser.version()}`);
    });
    after(() => browser?.close());

    test("an isolated page computes with two threads, and answers", { timeout: PATIENCE }, async () => {
      chat = await openPage(browser, { path: "/?device=cpu" });
      await chat.set({ threads: 2, temperature: 0, maxTokens: 32 });
      await chat.load();
      const status = await chat.status();
      assert.ok(status.includes(`CPU · ${simd} · 2 threads`), `${status}: ${await chat.why()}`);
      assert.match(await chat.ask(FRANCE), /Paris/);
      assert.match(await chat.status(), /tokens\/s/);
      console.log(`${name}: ${await chat.status()}`);
      await chat.screenshot(`tour-${name}`);
    });

    test("Stop stops, and a reload keeps the conversation", { timeout: PATIENCE }, async () => {
      await chat.set({ maxTokens: 1000 });
      await chat.begin("Write a long story about a lighthouse keeper.");
      await chat.get("stop").click();
      const stopped = await chat.answered("stopped");
      const talk = await chat.conversation();
      assert.equal(talk.length, 4);
      await chat.page.reload();
      await chat.load();
      assert.deepEqual(await chat.conversation(), talk);
      assert.equal(await chat.answerText(), stopped);
      await chat.set({ maxTokens: 32 });
      await chat.get("new-chat").click();
      assert.match(await chat.ask(FRANCE), /Paris/);
      await done(chat);
    });

    test("an error is shown by name", { timeout: PATIENCE }, async () => {
      const page = await openPage(browser, { path: "/?model=missing.gguf" });
      await page.get("load-button").click();
      assert.equal(await page.errorCode(), "http-status");
      await page.close();
    });

    test("the picture page samples", { timeout: PATIENCE }, async () => {
      await pictures(await openPage(browser, { path: "/image.html?device=cpu" }), /· CPU/);
    });

    // Chromium's software adapter is slower by far: gpu.test.mjs has its sample. WebKitGTK has no WebGPU.
    if (name !== "firefox") return;

    test("the GPU answers, and a second turn knows the first", { timeout: PATIENCE }, async () => {
      chat = await openPage(browser, { path: "/?device=webgpu" });
      await chat.set({ temperature: 0, maxTokens: 32 });
      await chat.load();
      assert.match(await chat.status(), /WebGPU · .*software adapter/);
      assert.match(await chat.ask(FRANCE), /Paris/);
      assert.match(await chat.ask("Name a river in that city."), /Paris|Seine/);
      console.log(`${name}: ${await chat.status()}`);
      await chat.set({ maxTokens: 1000 });
      await chat.begin("Write a long story about a lighthouse keeper.");
      await chat.get("stop").click();
      await chat.answered("stopped");
      await chat.screenshot(`tour-${name}-webgpu`);
      await done(chat);
    });

    test("the GPU computes the picture page", { timeout: PATIENCE }, async () => {
      await pictures(await openPage(browser, { path: "/image.html?device=webgpu" }), /· GPU/);
    });

    async function pictures(page, device) {
      await page.get("sample-picture").nth(11).waitFor();
      await page.page.waitForFunction(() => /^50 % of the way/.test(document.querySelector("#middle-text").textContent));
      assert.match(await page.get("image-model").innerText(), device);
      for (const canvas of ["from", "middle", "explored"]) {
        assert.ok(new Set(await canvasBytes(page.page, canvas)).size > 20, `${canvas} is blank`);
      }
      // A second picture on the same canvas.
      const half = await canvasBytes(page.page, "middle");
      await page.page.evaluate(() => {
        const slider = document.querySelector("#slider");
        slider.value = "1";
        slider.dispatchEvent(new Event("input"));
      });
      await page.page.waitForFunction(() => /^100 % of the way/.test(document.querySelector("#middle-text").textContent));
      assert.notDeepEqual(await canvasBytes(page.page, "middle"), half);
      assert.equal(await page.get("error").count(), 0);
      await page.screenshot(`tour-${name}-pictures`);
      await done(page);
    }
  });
}

async function done(visit) {
  assert.deepEqual(visit.complaints, []);
  visit.assertNoStrangers();
  await visit.close();
}

// A visitor without WebGPU is told so, and what to do.
import assert from "node:assert/strict";
import { test } from "node:test";
import { launch, openPage, PATIENCE } from "./harness.mjs";

for (const [name, flags, code] of [
  ["a browser with WebGPU switched off", ["--disable-features=WebGPU", "--disable-blink-features=WebGPU"], "no-webgpu"],
  ["a browser that offers no adapter", ["--disable-gpu", "--disable-software-rasterizer"], "no-adapter"],
]) {
  test(name, { timeout: PATIENCE }, async () => {
    const browser = await launch(flags);
    try {
      const chat = await openPage(browser);
      await chat.get("no-webgpu").waitFor();
      const text = await chat.get("no-webgpu").innerText();
      assert.ok(text.includes(code), text);
      assert.match(text, /What you can do/);
      assert.equal(await chat.get("load-button").count(), 0);
      assert.equal(await chat.get("composer").isVisible(), false);
      await chat.screenshot(code);
      assert.deepEqual(chat.complaints, []);
      chat.assertNoStrangers();
    } finally {
      await browser.close();
    }
  });
}

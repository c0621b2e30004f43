// The bench page: that it measures and checks, not how fast anything is.
import assert from "node:assert/strict";
import { test } from "node:test";
import { launch, openPage, PATIENCE } from "./harness.mjs";

test("the bench measures Emberglass and llama.cpp side by side, and checks them", { timeout: PATIENCE }, async () => {
  const { result, chat, browser } = await visit("/bench.html?quick=1&auto=1&rows=cpu-1,wllama-1");
  try {
    assert.equal(result.ok, true, result.markdown);
    assert.deepEqual(result.rows.map(({ id }) => id), ["cpu-1", "wllama-1"]);
    for (const { figures } of result.rows) {
      assert.equal(figures.promptTokens, 128);
      for (const figure of ["loadSeconds", "prefillTokensPerSecond", "decodeTokensPerSecond", "firstTokenMs"]) {
        assert.ok(figures[figure] > 0, `${figure}: ${figures[figure]}`);
      }
    }
    assert.ok(result.readBandwidth > 0);
    assert.match(result.markdown, /\| Emberglass, CPU, 1 thread \|.*×.*\| ok, 1 pass \|/);
    assert.equal(await chat.page.locator("#table tbody tr").count(), 2);
    await chat.screenshot("bench");
    assert.deepEqual(chat.complaints, []);
    chat.assertNoStrangers();
  } finally {
    await browser.close();
  }
});

test("what the address may not ask for is refused by name", { timeout: PATIENCE }, async () => {
  for (const [query, message] of [
    ["?model=https://example.com/m.gguf", /same site/],
    ["?speed=9", /“speed”/],
    ["?auto=1&rows=abacus", /“abacus”/],
  ]) {
    const { result, browser } = await visit(`/bench.html${query}`);
    await browser.close();
    assert.match(result, message);
  }
});

async function visit(path) {
  const browser = await launch();
  const chat = await openPage(browser, { path });
  await chat.page.waitForFunction(() => window.benchResult ?? window.benchError);
  const result = await chat.page.evaluate(() => window.benchResult ?? window.benchError);
  return { browser, chat, result };
}

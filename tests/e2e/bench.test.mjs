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
      assert.deepEqual(figures.points.map(({ promptTokens }) => promptTokens), [32, 128]);
      for (const figure of ["loadSeconds", "runtimeBytes"]) assert.ok(figures[figure] > 0, `${figure}: ${figures[figure]}`);
      for (const { prefillTokensPerSecond, firstTokenMs } of figures.points) assert.ok(prefillTokensPerSecond > 0 && firstTokenMs > 0);
      assert.ok(figures.points[0].decodeTokensPerSecond > 0);
      assert.equal(figures.points[1].decodeTokensPerSecond, undefined);
    }
    // What is behind the shares of bandwidth and arithmetic.
    const [{ figures: own }] = result.rows;
    assert.ok(result.readBandwidth > 0);
    assert.ok(own.layerParameters > 100e6 && own.layerParameters < 110e6, `${own.layerParameters}`);
    assert.ok(own.points[0].traffic.weightBytes > 90e6);
    for (const line of [
      /^\| Emberglass, CPU, 1 thread \| \d+ \| .* \| ok(, text parts after \d+ characters)? \|$/m,
      /^\| Emberglass, CPU, 1 thread \| [\d.]+ \([\d.]+×\) \| [\d.]+ \([\d.]+×\) \|$/m,
      /^\| Emberglass, CPU, 1 thread \| – \| – \| – \| \d+ \| [\d.]+ \([\d.]+ %\) \| [\d.]+ \|$/m,
    ]) {
      assert.match(result.markdown, line);
    }
    assert.deepEqual(await chat.page.locator("#tables tbody").evaluateAll((bodies) => bodies.map(({ rows }) => rows.length)), [2, 2, 2, 1]);
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

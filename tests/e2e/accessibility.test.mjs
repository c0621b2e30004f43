// axe on all pages, and what it cannot see: keyboard, focus, what is announced, and a page enlarged to 400 %.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { launch, openPage, PATIENCE } from "./harness.mjs";
import { fallSilent, loaded, openScripted, say } from "./scripted-engine.mjs";

const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const ANSWER = "# Title\n\ntext `code` **b** [link](https://a.b)\n\n- a\n- b\n\n|a|b|\n|-|-|\n|1|2|\n\n> quote\n\n```js\nlet x\n```\n\nlast";

/** What the scripted engine says of the offered model, and of what is stored. */
const FITS = {
  fits: true, storedBytes: 62_000_000, downloadBytes: 36_362_432, deviceBytes: 160_000_000, contextBytesPerToken: 23_040, header: {}, reasons: [],
  device: { kind: "webgpu", adapter: "A card", isFallbackAdapter: false, features: [], threads: 1, choice: "adapter", reason: "there is a graphics card" },
  estimate: { tokensPerSecond: 61.3, firstTokenMs: 40, loadSeconds: 12 },
};
const MODELS = [
  { id: "a".repeat(32), name: "a-model.gguf", source: "hf:owner/repo:Q4_K_M", files: [{ name: "a-model.gguf", bytes: 98e6, storedBytes: 62e6 }], bytes: 98e6, storedBytes: 62e6, complete: false, lastUsed: 0 },
  { id: "b".repeat(32), name: "my own.gguf", source: "my own.gguf", files: [{ name: "my own.gguf", bytes: 5e8, storedBytes: 5e8 }], bytes: 5e8, storedBytes: 5e8, complete: true, lastUsed: 1 },
];
const USAGE = { kind: "opfs", modelBytes: 562e6, usedBytes: 57e7, quotaBytes: 1e10, persisted: true };

let browser, chat, page, axe;

before(async () => {
  browser = await launch();
  axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  chat = await openScripted(browser);
  page = chat.page;
});
after(() => browser?.close());

test("empty, and while loading: Load keeps the focus near, Escape cancels", { timeout: PATIENCE }, async () => {
  await chat.get("load-button").focus();
  await clean(page, "empty");
  await page.keyboard.press("Enter");
  await chat.get("progress").waitFor();
  assert.equal(await focused(), "progress");
  await clean(page, "loading");
  await chat.get("settings").click();
  await page.keyboard.press("Escape");
  await chat.get("settings-panel").waitFor({ state: "hidden" });
  assert.ok(await chat.get("progress").isVisible(), "Escape closes the settings and nothing else");
  await chat.get("cancel-load").focus();
  await page.keyboard.press("Escape");
  await chat.get("load-button").waitFor();
  assert.equal(await focused(), "load-button");
  await page.keyboard.press("Enter");
  await loaded(page);
  await chat.ready();
  assert.equal(await focused(), "composer");
});

test("by the keyboard alone: an answer, stopped with Escape, and settings", { timeout: PATIENCE }, async () => {
  await page.keyboard.type("Hello");
  await page.keyboard.press("Enter");
  await chat.get("message-assistant").waitFor();
  await say(page, ANSWER);
  await chat.answer.getByText("last").waitFor();
  await clean(page, "answering");
  await page.keyboard.press("Escape");
  await chat.answered("stopped");
  await page.keyboard.type("Again");
  await page.keyboard.press("Enter");
  await chat.get("message-assistant").nth(1).waitFor();
  await say(page, ANSWER);
  await fallSilent(page);
  await chat.answered();
  await clean(page, "answered");
  const announced = (await page.locator("#announcer").textContent()).replace(/\s+/g, " ");
  assert.equal(announced, "Title text code b link a b a b 1 2 quote let x last");
  await chat.get("why-device").focus();
  await page.keyboard.press("Enter");
  await clean(page, "why");
  await page.keyboard.press("Escape");
  assert.equal(await focused(), "why-device");
  await chat.get("settings").focus();
  await page.keyboard.press("Enter");
  await clean(page, "settings");
  await chat.get("setting-temperature").fill("99");
  await chat.get("settings-close").click();
  assert.equal(await focused(), "setting-temperature", "a value that is not taken is told");
  await chat.get("setting-temperature").fill("");
  await page.keyboard.press("Escape");
  assert.equal(await focused(), "settings");
});

test("at 400 % all of the page scrolls, to the newest text and back", { timeout: PATIENCE }, async () => {
  await page.setViewportSize({ width: 320, height: 256 });
  const place = () => page.evaluate(() => ({ top: document.documentElement.scrollTop, end: document.documentElement.scrollHeight - innerHeight, wide: document.documentElement.scrollWidth }));
  await page.waitForFunction(() => document.documentElement.scrollTop > 0);
  const { top, end, wide } = await place();
  assert.ok(end > 256 && end - top < 2, `scrolled to ${top} of ${end}`);
  assert.equal(wide, 320);
  await page.mouse.wheel(0, -10_000);
  await page.waitForFunction(() => document.documentElement.scrollTop === 0);
  await page.locator("#to-latest").click();
  await page.waitForFunction(() => document.documentElement.scrollTop > 0);
  await page.setViewportSize({ width: 1100, height: 800 });
});

test("the offer in its states, the models on this device, and a model by its address", { timeout: PATIENCE }, async () => {
  const visit = await openScripted(browser, { answers: { canRun: FITS, listModels: MODELS, storageUsage: USAGE, verifyModel: { damaged: [{ file: 0, from: 0, to: 4194304 }], verifiedBytes: 58_000_000, complete: false } } });
  await visit.get("offer-line").getByText("Runs on your graphics card, about 61 tokens a second, ready in about 12 s.").waitFor();
  assert.match(await visit.get("load-button").innerText(), /^Continue .* · 36 MB to go$/);
  await visit.get("offer-details").locator("summary").focus();
  await visit.page.keyboard.press("Enter");
  await clean(visit.page, "offer");
  await visit.get("stored-models").focus();
  await visit.page.keyboard.press("Enter");
  await visit.get("stored-model").nth(1).waitFor();
  await visit.get("check-stored").first().click();
  await visit.get("stored-said").first().getByText("One part was damaged (4.2 MB) and deleted").waitFor();
  await visit.get("delete-stored").last().click();
  await clean(visit.page, "models on this device");
  await visit.page.keyboard.press("Escape");
  assert.equal(await visit.page.evaluate(() => document.activeElement.dataset.testid), "stored-models");
  await visit.get("from-address").focus();
  await visit.page.keyboard.press("Enter");
  await visit.page.keyboard.type("hf:x");
  await visit.page.keyboard.press("Enter");
  await visit.get("address-problem").waitFor();
  await clean(visit.page, "address");
  await visit.close();

  const tooLarge = { ...FITS, fits: false, reasons: [{ code: "address-space", message: "The model takes 5.2 GB" }], estimate: { tokensPerSecond: null, firstTokenMs: null, loadSeconds: null } };
  const other = await openScripted(browser, { answers: { canRun: { ...tooLarge, storedBytes: 0, downloadBytes: 98e6 } } });
  await other.get("offer-line").getByText("It does not fit: it takes 160 MB of memory, more than a web page can have.").waitFor();
  await clean(other.page, "an offer that does not fit");
  await other.close();
});

test("at 320 pixels a load under way and the models on this device have room", { timeout: PATIENCE }, async () => {
  const visit = await openScripted(browser, { answers: { canRun: FITS, listModels: MODELS, storageUsage: USAGE } });
  await visit.page.setViewportSize({ width: 320, height: 640 });
  await visit.get("stored-models").click();
  const { height } = await visit.get("stored-close").boundingBox();
  assert.ok(height < 45, `the button has ${height} pixels, more than one line`);
  await visit.page.keyboard.press("Escape");
  await visit.get("load-button").click();
  const [panel, around] = await Promise.all([visit.get("progress").boundingBox(), visit.page.locator("#welcome-loader").boundingBox()]);
  assert.ok(panel.x >= around.x && panel.x + panel.width <= around.x + around.width, `${JSON.stringify(panel)} in ${JSON.stringify(around)}`);
  await visit.close();
});

test("an error", { timeout: PATIENCE }, async () => {
  await page.goto(`${chat.site}/?device=none`);
  await chat.get("error").waitFor();
  await clean(page, "error");
});

test("pictures and bench", { timeout: PATIENCE }, async () => {
  const pictures = await openPage(browser, { path: "/image.html" });
  await clean(pictures.page, "pictures, loading");
  await pictures.page.locator(".sample").first().click();
  await pictures.page.locator("#between:not([hidden])").waitFor();
  await clean(pictures.page, "pictures");
  const bench = await openPage(browser, { path: "/bench.html" });
  await bench.page.locator("#start:enabled").waitFor();
  await clean(bench.page, "bench");
});

const focused = () => page.evaluate(() => document.activeElement.dataset.testid);

/** axe finds nothing, in light and in dark. */
async function clean(where, what) {
  for (const colorScheme of ["light", "dark"]) {
    await where.emulateMedia({ colorScheme });
    // The page's policy lets in no script; this way needs none of its leave.
    await where.evaluate(axe);
    const { violations } = await where.evaluate((values) => axe.run({ runOnly: { type: "tag", values } }), TAGS);
    assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 100)).join(" | ")}`), [], `${what}, ${colorScheme}`);
  }
}

// One visit with a browser as it comes, without a graphics card: load the real model on the CPU, chat,
// stop, chat on. The steps build on one another.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, openPage, PATIENCE, watch, watched } from "./harness.mjs";

const FRANCE = "What is the capital of France?";

let browser, chat;

before(async () => {
  browser = await launch();
  chat = await openPage(browser);
});
after(() => browser?.close());

test("the empty page offers the default model", { timeout: PATIENCE }, async () => {
  await chat.get("load-button").waitFor();
  assert.match(await chat.get("load-button").innerText(), /SmolLM2-135M-Instruct/);
  await picture("welcome");
});

test("the model loads, with progress", { timeout: PATIENCE }, async () => {
  await chat.page.evaluate(() => {
    window.__progress = [];
    const note = () => {
      const text = document.querySelector('[data-testid="progress"]')?.textContent;
      if (text && text !== window.__progress.at(-1)) window.__progress.push(text);
    };
    new MutationObserver(note).observe(document.body, { subtree: true, childList: true, characterData: true });
  });
  const start = performance.now();
  await chat.load();
  console.log(`loaded in ${((performance.now() - start) / 1000).toFixed(1)} s; ${await chat.status()}`);
  const progress = await chat.page.evaluate(() => window.__progress);
  const loaded = progress.map((text) => /([\d.]+) MB of ([\d.]+) MB/.exec(text)).filter(Boolean).map((match) => Number(match[1]));
  assert.ok(new Set(loaded).size >= 3, `progress in several steps: ${progress.join(" | ")}`);
  assert.deepEqual(loaded, [...loaded].sort((a, b) => a - b), "progress only grows");
  assert.equal(await chat.get("progress").count(), 0);
});

test("the CPU computes, leaves a core to the page, and says why", { timeout: PATIENCE }, async () => {
  const isolated = await chat.page.evaluate(() => crossOriginIsolated);
  const cores = await chat.page.evaluate(() => Math.max(1, Math.min(8, navigator.hardwareConcurrency - 1)));
  assert.equal(isolated, true, "the site is served for threads");
  assert.ok((await chat.status()).includes(`CPU · relaxed SIMD · ${cores} thread`), await chat.status());
  assert.doesNotMatch(await chat.status(), /dispatches/);
  await chat.get("why-device").click();
  await chat.screenshot("why-cpu");
  await chat.get("why-device").click();
  const note = await chat.why();
  assert.match(note, /Running on the CPU/);
  assert.match(note, /No graphics adapter/);
  assert.match(note, /hardware acceleration/);
  assert.match(note, /Threads by default: up to \d+, of \d+ cores/);
});

test("the settings show the model's own defaults of sampling, and where they come from", { timeout: PATIENCE }, async () => {
  await chat.get("settings").click();
  const shown = async (key) => [await chat.get(`setting-${key}`).getAttribute("placeholder"), await chat.page.locator(`#hint-${key}`).innerText()];
  assert.deepEqual(await shown("temperature"), ["0.2", "0 always takes the likeliest token. Default 0.2, recommended for this model"]);
  assert.equal((await shown("topP"))[0], "0.9");
  assert.deepEqual(await shown("topK"), ["40", "Keep the k likeliest; 0 keeps all. Default 40, Emberglass’s own"]);
  assert.equal(await chat.get("sampling-not-applied").innerText(), "");
  await picture("settings");
  await chat.get("settings-close").click();
});

test("an answer is right, and says how fast it came", { timeout: PATIENCE }, async () => {
  await chat.set({ temperature: 0, maxTokens: 64 });
  await watch(chat.page);
  const text = await chat.ask(FRANCE);
  const { lengths } = await watched(chat.page);
  console.log(`answer: ${JSON.stringify(text)}, shown in ${lengths.length} steps`);
  assert.match(text, /Paris/);
  assert.deepEqual(lengths, [...lengths].sort((a, b) => a - b), "the text only grows");
  assert.equal(await chat.get("error").count(), 0);
  assert.match(await chat.get("status").innerText(), /tokens\/s/);
});

test("a second turn knows the first", { timeout: PATIENCE }, async () => {
  const text = await chat.ask("Name a river in that city.");
  console.log(`answer: ${JSON.stringify(text)}`);
  assert.match(text, /Paris|Seine/);
  assert.equal(await chat.get("message-user").count(), 2);
  assert.equal(await chat.get("message-assistant").count(), 2);
  await picture("conversation");
});

// Eight tokens may come within two frames of the page, so this takes an answer of many.
test("an answer streams in: it is shown in steps while more of it is made", { timeout: PATIENCE }, async () => {
  await chat.set({ maxTokens: 256 });
  await watch(chat.page);
  const text = await chat.ask("Write a long story about a river and a bridge.");
  const { lengths, early } = await watched(chat.page);
  console.log(`${text.length} characters, shown in ${lengths.length} steps, ${early} of them while streaming`);
  assert.ok(text.length > 200, text);
  assert.ok(early >= 4, `${early} steps while streaming: ${lengths}`);
  assert.deepEqual(lengths, [...lengths].sort((a, b) => a - b), "the text only grows");
});

test("Stop stops, and the page answers clicks meanwhile", { timeout: 2 * PATIENCE }, async () => {
  await chat.set({ maxTokens: 1000 });
  const before = await chat.get("message-assistant").count();
  await chat.send("Write a long story about a lighthouse keeper and a storm.");
  await chat.get("message-assistant").nth(before).waitFor();
  await chat.page.waitForFunction(() => [...document.querySelectorAll('[data-testid="message-assistant"] .body')].at(-1).textContent.length > 20);
  await watch(chat.page);

  const clicked = performance.now();
  await chat.get("settings").click();
  await chat.get("settings-panel").waitFor();
  await chat.get("settings-close").click();
  await chat.get("settings-panel").waitFor({ state: "hidden" });
  const reaction = performance.now() - clicked;
  const length = (await chat.answerText()).length;
  await chat.page.waitForFunction((least) => [...document.querySelectorAll('[data-testid="message-assistant"] .body')].at(-1).textContent.length > least, length + 20);
  assert.equal(await chat.answer.getAttribute("data-state"), "streaming");

  const { frames, median, worst } = await watched(chat.page);
  console.log(`while generating: settings opened and closed in ${reaction.toFixed(0)} ms; ${frames} frames, gap median ${median.toFixed(1)} ms, worst ${worst.toFixed(1)} ms`);
  assert.ok(reaction < 5000, `the settings took ${reaction} ms`);

  await chat.get("stop").click();
  const stopped = await chat.answered("stopped");
  assert.ok(stopped.length > 20, stopped);
  await chat.page.waitForTimeout(1500);
  assert.equal(await chat.answerText(), stopped, "the text grows no more");
  await chat.get("send").waitFor();
  assert.equal(await chat.get("error").count(), 0);
});

test("New chat forgets", { timeout: PATIENCE }, async () => {
  await chat.get("new-chat").click();
  assert.deepEqual(await chat.conversation(), []);
  await chat.set({ maxTokens: 64 });
  assert.match(await chat.ask(FRANCE), /Paris/);
  assert.equal((await chat.conversation()).length, 2);
});

test("nothing went wrong unseen, and no other site was asked", () => {
  assert.deepEqual(chat.complaints, []);
  chat.assertNoStrangers();
});

/** Light, dark, and on a phone; nothing may stick out sideways. */
async function picture(name) {
  const { page } = chat;
  for (const [scheme, width, height] of [["light", 1100, 800], ["dark", 1100, 800], ["light", 375, 740], ["dark", 375, 740]]) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize({ width, height });
    await page.waitForTimeout(300);
    await chat.screenshot(`${name}-${scheme}-${width}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= width, `${name} at ${width} px is ${wide} px wide`);
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1100, height: 800 });
}

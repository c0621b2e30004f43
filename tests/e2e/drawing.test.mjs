// How a streaming answer is drawn: what is finished stays, what is too long ends, and a hidden tab draws nothing.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { launch, PATIENCE } from "./harness.mjs";
import { fallSilent, loaded, openScripted, say } from "./scripted-engine.mjs";

let browser, chat, page;

before(async () => {
  browser = await launch();
  chat = await openScripted(browser);
  page = chat.page;
  await chat.get("load-button").click();
  await loaded(page);
  await chat.ready();
});
after(() => browser?.close());
beforeEach(async () => {
  if (await chat.get("new-chat").isEnabled()) await chat.get("new-chat").click();
  await chat.send("Say something.");
  await chat.get("message-assistant").waitFor();
});

test("a finished block keeps its nodes, and a selection in it, while the answer grows", { timeout: PATIENCE }, async () => {
  await say(page, "The *first* block.\n\n- one\n- two\n\nThe last");
  await shows(/The last/);
  await page.evaluate(() => {
    const [paragraph, list] = document.querySelectorAll(".markdown > *");
    window.kept = [paragraph, list];
    getSelection().selectAllChildren(paragraph);
  });
  await say(page, " block grows.\n\n```js\nlet x = 1;\n");
  await shows(/let x = 1;/);
  await page.locator(".code-copy").focus();
  await say(page, "let y = 2;\n```\n\nThe end.");
  await shows(/The end\./);
  assert.equal(await page.evaluate(() => document.activeElement.className), "code-copy");
  await fallSilent(page);
  await chat.answered();
  assert.equal(await page.evaluate(() => getSelection().toString()), "The first block.");
  assert.deepEqual(await page.evaluate(() => window.kept.map((node) => node.isConnected)), [true, true]);
});

test("in whatever pieces it comes, an answer looks as if it had come at once", { timeout: PATIENCE }, async () => {
  const text = [
    "# Head\r\nA line\nof *two* lines\n-\n- item\n- item\n\n  in the item\n10. ten\n\n> quote\nlazily on\n> > deeper", "Setext\n===\n\n[later] and [sooner]", "| a | b |\n|:--|--:|\n| 1 | 2 |\n| 3 |",
    "```html\n<b>not bold</b>\n\n```\n    indented\n\n    code", "[later]: https://example.org 'title'\n[sooner]: <https://example.com>", "~~~\nnever closed\n\n# no head",
  ].join("\n\n");
  for (let i = 0; i < text.length; i += 7) {
    await say(page, text.slice(i, i + 7));
    // Lets some of the pieces be drawn.
    if (i % 5 === 0) await page.waitForTimeout(90);
  }
  await fallSilent(page);
  await chat.answered();
  const html = () => chat.answer.locator(".body").innerHTML();
  const streamed = await html();
  assert.match(streamed, /<a href="https:\/\/example.org\/?"/);
  assert.match(streamed, /<td class="align-right">2<\/td>/);
  await page.reload();
  assert.equal(await html(), streamed);
  await chat.get("load-button").click();
  await loaded(page);
  await chat.ready();
});

test("twelve drawings a second at most, and none in a hidden tab", { timeout: PATIENCE }, async () => {
  await page.evaluate(() => {
    window.drawings = [];
    new MutationObserver(() => window.drawings.push(performance.now())).observe(document.querySelector(".markdown"), { subtree: true, childList: true, characterData: true });
  });
  for (let i = 0; i < 100; i++) await say(page, `word ${i} `);
  await shows(/word 99/);
  const times = await page.evaluate(() => window.drawings);
  const gaps = times.slice(1).map((time, i) => time - times[i]);
  assert.ok(gaps.every((gap) => gap > 60), `gaps in ms: ${gaps}`);

  // As in a hidden tab: no animation frames.
  await page.evaluate(() => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => true });
    window.frames = [];
    window.requestAnimationFrame = (frame) => window.frames.push(frame);
    window.drawings.length = 0;
  });
  await say(page, "unseen");
  await fallSilent(page);
  await page.locator('[data-testid="message-assistant"][data-state="done"]').waitFor();
  await page.waitForTimeout(300);
  assert.equal(await page.evaluate(() => window.drawings.length), 0);
  await page.evaluate(() => {
    delete document.hidden;
    for (const frame of window.frames) frame(performance.now());
  });
  await shows(/unseen/);
  await page.reload();
  await chat.get("load-button").click();
  await loaded(page);
  await chat.ready();
});

// Each of them once stopped the page for seconds, or would.
const TOO_LONG = {
  "one run of letters": "A".repeat(400_000),
  "a code block": `\`\`\`\n${"let x = 1;\n".repeat(100_000)}`,
  "many cells": `| a | b | c | d |\n|-|-|-|-|\n${"| 1 | 2 | 3 | 4 |\n".repeat(2500)}`,
  "many columns": `${"|a".repeat(5000)}|\n${"|-".repeat(5000)}|\n${"a\n".repeat(100)}`,
  "many paragraphs": "short\n\n".repeat(30_000),
  "lines in quotes": `${">".repeat(100)} a\n`.repeat(4000),
};
for (const [name, text] of Object.entries(TOO_LONG)) {
  test(`${name}: the page draws a part, says so, and saves all`, { timeout: PATIENCE }, async () => {
    await say(page, text.slice(0, text.length / 2));
    await say(page, text.slice(text.length / 2));
    await fallSilent(page);
    await chat.answered();
    await chat.get("rest").last().waitFor();
    const left = Number(/([\d,]+) more characters/.exec(await chat.get("rest").last().innerText())[1].replaceAll(",", ""));
    assert.ok(left > 0 && left < text.length, `${left} of ${text.length}`);
    assert.ok((await page.locator(".markdown *").count()) < 14_000);
    const [download] = await Promise.all([page.waitForEvent("download"), chat.get("save-all").last().click()]);
    const saved = await (await import("node:fs/promises")).readFile(await download.path(), "utf8");
    assert.equal(saved, text);
  });
}

test("deep nesting loses no word", { timeout: PATIENCE }, async () => {
  await say(page, `${">".repeat(200)} the word\n\nafter`);
  await fallSilent(page);
  assert.match(await chat.answered(), /the word\s+after$/);
});

test("an answer of spaces is no answer", { timeout: PATIENCE }, async () => {
  await say(page, " \n\n ");
  await fallSilent(page);
  await chat.get("unanswered").waitFor();
  assert.equal(await page.locator("#announcer").textContent(), "The model said nothing.");
  await chat.get("answer-it").click();
  await chat.get("message-assistant").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "stop");
  await say(page, "Now.");
  await fallSilent(page);
  assert.equal(await chat.answered(), "Now.");
});

test("Hebrew begins at the right, and an address within the page is no link", { timeout: PATIENCE }, async () => {
  await say(page, "Left.\n\nשלום עולם.\n\n- קטן\n\n```\ncode\n```\n\n[a](/b) [c](https://d.example)");
  await fallSilent(page);
  assert.match(await chat.answered(), /\[a\]\(\/b\) c$/);
  const directions = await page.locator(".markdown > *").evaluateAll((blocks) => blocks.map((block) => getComputedStyle(block).direction));
  assert.deepEqual(directions, ["ltr", "rtl", "rtl", "ltr", "ltr"]);
});

test("on paper is the whole conversation", { timeout: PATIENCE }, async () => {
  await say(page, "A line.\n\n".repeat(200));
  await fallSilent(page);
  await chat.answered();
  await page.emulateMedia({ media: "print" });
  const cut = await page.locator("#scroll").evaluate(({ scrollHeight, clientHeight }) => scrollHeight - clientHeight);
  assert.equal(cut, 0);
  assert.ok(await page.evaluate(() => document.documentElement.scrollHeight > 3000 && getComputedStyle(document.body).overflow === "visible"));
  await page.emulateMedia({ media: null });
});

test("nothing went wrong unseen", () => assert.deepEqual(chat.complaints, []));

async function shows(text) {
  await chat.answer.locator(".body").filter({ hasText: text }).waitFor();
}

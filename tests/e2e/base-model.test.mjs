// A model without a chat template: the page continues texts with it, says so, and shows no roles.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch, openPage, PATIENCE } from "./harness.mjs";
import { tinyModel } from "./tiny-model.mjs";

const BEGINNING = "Once upon a time,\nthere was";
/** Room for an answer that is long enough to be stopped. */
const CONTEXT = 16384;

let browser, chat, folder;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "emberglass-e2e-"));
  writeFileSync(join(folder, "tiny.gguf"), tinyModel({ contextLength: CONTEXT }));
  browser = await launch();
  chat = await openPage(browser);
});
after(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

test("the page says that the model continues texts", { timeout: PATIENCE }, async () => {
  assert.equal(await chat.get("continues").isVisible(), false, "before a model is loaded");
  await chat.get("load-button").waitFor();
  await chat.set({ temperature: 0, maxTokens: 40, contextLength: CONTEXT });
  await chat.get("model-file").setInputFiles(join(folder, "tiny.gguf"));
  await chat.ready();
  assert.match(await chat.get("continues").innerText(), /no chat template: it continues a text/);
  assert.equal(await chat.get("composer").getAttribute("placeholder"), "Begin a text…");
  await chat.page.getByLabel("Text to continue").waitFor();
  assert.doesNotMatch((await chat.get("suggestion").allInnerTexts()).join("|"), /\?/, "no questions are suggested");
  await chat.screenshot("base-welcome");
});

test("a text is shown with its continuation, in one piece", { timeout: PATIENCE }, async () => {
  const shown = await chat.ask(BEGINNING);
  assert.ok(shown.startsWith(BEGINNING), shown);
  assert.ok(shown.length > BEGINNING.length + 10, shown);
  assert.equal(await chat.get("message-user").count(), 0);
  assert.equal(await chat.get("error").count(), 0);
  await chat.screenshot("base-continued");

  // The same text again: nothing of the first is in the context, so the same comes out.
  assert.equal(await chat.ask(BEGINNING), shown);
  assert.deepEqual(await chat.conversation(), [shown, shown]);
  await chat.get("regenerate").last().click();
  assert.equal(await chat.answered(), shown);
});

test("Stop stops", { timeout: PATIENCE }, async () => {
  await chat.set({ maxTokens: CONTEXT });
  await chat.send(BEGINNING);
  await chat.page.waitForFunction((least) => [...document.querySelectorAll('[data-testid="message-assistant"] .body')].at(-1).textContent.length > least, 100);
  await chat.get("stop").click();
  const stopped = await chat.answered("stopped");
  assert.ok(stopped.startsWith(BEGINNING), stopped);
  await chat.page.waitForTimeout(500);
  assert.equal(await chat.answerText(), stopped, "the text grows no more");
});

test("with a model that chats there are roles again", { timeout: PATIENCE }, async () => {
  await chat.get("new-chat").click();
  assert.equal(await chat.get("continues").isVisible(), true);
  await chat.set({ contextLength: 2048, maxTokens: 8 });
  await chat.ask("Lost in");
  await chat.page.reload();
  await chat.load();
  assert.equal(await chat.get("continues").isVisible(), false);
  assert.equal(await chat.get("message-user").innerText(), "Lost in");
  assert.equal(await chat.get("message-assistant").count(), 1);
  await chat.ask("Hello");
  assert.equal(await chat.get("message-user").count(), 2);
});

test("nothing went wrong unseen, and no other site was asked", () => {
  assert.deepEqual(chat.complaints, []);
  chat.assertNoStrangers();
});
